"""The training loop: which epoch is kept, and the learning rate."""

from collections.abc import Callable

import numpy as np
import pytest
from tests import made
from tests.models.tea_and_oil import NOTHING, training

from silvertune.models import training_loop
from silvertune.models.encoder_classifier import EncoderClassifier
from silvertune.models.encoder_predictor import EncoderPredictor

Student = Callable[..., EncoderClassifier]
TEXTS = ["green leaf", "barrel price and a longer text about crude", "hot", "deep mine iron rail " * 4]


def test_the_best_epoch_is_kept_and_tuning_ends_when_patience_does(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [0.6, 0.8, 0.7, 0.75, 0.9]
    seen: list[np.ndarray] = []

    def validated(predictor: EncoderPredictor, *_: object) -> dict[str, float]:
        seen.append(predictor.logits(TEXTS))
        return {"validation_loss": 1.0, "validation_auprc": scores[len(seen) - 1]}

    monkeypatch.setattr(training_loop, "_validated", validated)
    predictor = student(epochs=5, patience=2).fit(training(), training(9), 0)
    assert [epoch["validation_auprc"] for epoch in predictor.history] == scores[:4]  # 0.9 is not reached
    np.testing.assert_allclose(predictor.logits(TEXTS), seen[1], atol=1e-6)
    assert np.abs(seen[1] - seen[3]).max() > 1e-3


def test_where_a_class_is_missing_in_validation_the_loss_decides(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = training(10)
    predictor = student(epochs=3, patience=3).fit(training(), validation[validation["label"] == "tea"], 0)
    assert all("validation_auprc" not in epoch and epoch["validation_loss"] > 0 for epoch in predictor.history)


@pytest.mark.parametrize("class_is_missing", [True, False])
def test_an_epoch_whose_validation_loss_is_not_finite_is_never_the_best(
    class_is_missing: bool, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = training(10)
    if class_is_missing:
        validation = validation[validation["label"] == "tea"]
    logits_by_epoch: list[np.ndarray] = []
    real = EncoderPredictor.logits

    def overflowing_at_first(self: EncoderPredictor, texts: list[str]) -> np.ndarray:
        logits_by_epoch.append(real(self, TEXTS))
        return real(self, texts) * (np.nan if len(logits_by_epoch) == 1 else 1.0)

    with monkeypatch.context() as changed:
        changed.setattr(EncoderPredictor, "logits", overflowing_at_first)
        changed.setattr(EncoderPredictor, "compare_fast_path", lambda *_: None)
        predictor = student(epochs=2, patience=2).fit(training(), validation, 0)
    assert [np.isfinite(epoch["validation_loss"]) for epoch in predictor.history] == [False, True]
    np.testing.assert_array_equal(predictor.logits(TEXTS), logits_by_epoch[1])


@pytest.mark.parametrize("patience", [1, 5])
def test_a_validation_loss_that_is_never_finite_is_told(
    patience: int, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = training(10)
    monkeypatch.setattr(training_loop, "_validated", lambda *_: {"validation_loss": float("nan")})
    with made.refused("model.learning_rate=0.01", "the validation loss was nan in every epoch", "want a lower rate"):
        student(epochs=2, patience=patience).fit(training(), validation[validation["label"] == "tea"], 0)


def test_without_validation_the_last_epoch_is_kept(student: Student) -> None:
    predictor = student(epochs=3, patience=1).fit(training(), NOTHING, 0)
    assert [sorted(epoch) for epoch in predictor.history] == [["loss"]] * 3
    assert predictor.history[2]["loss"] < predictor.history[0]["loss"]


def test_validation_labels_of_a_class_that_was_not_trained_on_are_left_out(student: Student) -> None:
    predictor = student().fit(training(), training(9, ("tea", "oil", "ore")), 0)
    assert predictor.classes == ("oil", "tea")
    assert np.isfinite(predictor.history[0]["validation_loss"])


def test_the_validation_set_is_not_learned_from(student: Student) -> None:
    held_out = training(9)
    turned = held_out.assign(label=held_out["label"].map({"tea": "oil", "oil": "tea"}))
    one, other = (student(epochs=2, patience=2).fit(training(), given, 0) for given in (held_out, turned))
    assert [epoch["loss"] for epoch in one.history] == [epoch["loss"] for epoch in other.history]


def test_the_rate_rises_over_a_tenth_of_the_steps_and_falls_to_nothing() -> None:
    rate = training_loop._rate(50)
    rates = [rate(step) for step in range(51)]
    assert max(rates) == rates[4] == 1
    assert (np.diff(rates[:5]) > 0).all()
    assert (np.diff(rates[5:]) < 0).all()
    assert rates[50] == 0
    assert 0 < training_loop._rate(1)(0) <= 1
