"""The tuned encoder: what is tuned, what is kept, and what is refused. The contract has the rest."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests import made, tiny
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune.encoders.hidden_states import Store
from silvertune.encoders.layers import only_above
from silvertune.models import encoder_predictor, hardware, training_loop
from silvertune.models.encoder_classifier import EncoderClassifier
from silvertune.models.encoder_predictor import TOLERANCE, EncoderPredictor

Student = Callable[..., EncoderClassifier]
TEXTS = ["green leaf", "barrel price and a longer text about crude", "hot", "deep mine iron rail " * 4]


def weights(predictor: EncoderPredictor) -> dict[str, Any]:
    return {name: weight.detach().clone() for name, weight in predictor.network.named_parameters()}


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("key", "value", "want"),
    [
        ("tuning", "qlora", "lora, full or head"),
        ("precision", "float16", "auto, float32 or bfloat16"),
        ("class_weight", "even", "balanced or null"),
        ("target_modules", "all-linear", "a list of names"),
        ("epochs", 0, "a whole number from 1"),
        ("batch_size", 0, "a whole number from 1"),
        ("rank", -1, "a whole number from 1"),
        ("validation_fraction", 1.0, "a number from 0, below 1"),
        ("validation_fraction", -0.1, "a number from 0, below 1"),
        ("dropout", 2, "a number from 0, below 1"),
        ("learning_rate", -1e-3, "a number from 0"),
        ("weight_decay", -1, "a number from 0"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_labelled(
    student: Student, key: str, value: object, want: str
) -> None:
    with made.refused(f"model.{key}={value}", want):
        student(**{key: value})


def test_weights_that_are_not_the_published_ones_are_refused_before_anything_is_labelled(
    student: Student, folder: Path
) -> None:
    with made.refused("encoder.sha256=000000000000"):
        student(encoder=tiny.encoder(folder, sha256="0" * 64))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("layers", 4, " has 3 layers; want 1 to that"),
        ("layers", 0, " has 3 layers; want 1 to that"),
        ("head", ["pooler", "clasifier"], "no module 'clasifier'; want its classification head, such as ['classifier'"),
        ("target_modules", ["q_proj"], "q_proj"),
    ],
)
def test_what_the_network_does_not_have_is_told_before_anything_is_labelled(
    student: Student, folder: Path, key: str, value: object, told: str
) -> None:
    with made.refused(f"model.{key}={value}", f"encoder.path={folder}", told):
        student(**{key: value})


def test_upper_layers_that_can_not_be_run_by_themselves_are_told(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(only_above(None, 0).__class__):  # type: ignore[misc]
        def __init__(self) -> None: ...

        def __enter__(self) -> None:
            raise LookupError("no layers\nto speak of")

    monkeypatch.setattr("silvertune.encoders.layers.only_above", lambda *_: Other())
    with made.refused("model.cached=true", "BertForSequenceClassification", "no layers", "want model.cached=false"):
        student(rank=3)  # settings that no other test checks: a process checks each once


def test_states_that_are_another_networks_are_told(
    student: Student, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a cache that someone has written over."""
    model = replace(student(), cache=tmp_path)
    model.fit(training(), NOTHING, 0)
    (states,) = tmp_path.glob("*.f16")
    numbers = np.fromfile(states, dtype=np.float16)
    (numbers[::-1] * 3).tofile(states)
    with made.refused("model.cached=true", "hidden states differ by", "want model.cached=false"):
        model.fit(training(), NOTHING, 0)


@pytest.mark.parametrize("wrong", ["every word is unknown", "words in another order", "another layer"])
def test_kept_states_of_other_tokens_are_told(
    wrong: str, student: Student, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a cache that was filled while the tokenizer was another; a new head may give both the same logits."""
    import silvertune.encoders.layers

    model = replace(student(), cache=tmp_path)
    train = training()
    real = silvertune.encoders.layers.hidden_states

    def of_other_tokens(network: Any, layer: int, inputs: dict[str, Any]) -> Any:
        ids, special = inputs["input_ids"], inputs["input_ids"] < len(tiny.SPECIAL)
        if wrong == "every word is unknown":
            ids = torch.where(special, ids, tiny.SPECIAL.index("[UNK]"))
        elif wrong == "words in another order":
            ids = torch.where(special | special.roll(-1, dims=1), ids, ids.roll(1, dims=1))
        return real(network, 2 if wrong == "another layer" else layer, {**inputs, "input_ids": ids})

    with monkeypatch.context() as changed:
        changed.setattr(silvertune.encoders.layers, "hidden_states", of_other_tokens)
        model.encoder.states([*train["text"], *train["json"].dropna()], 1, tmp_path)
    with monkeypatch.context() as changed:
        changed.setattr(encoder_predictor, "TOLERANCE", np.inf)  # the logits of a new head say little
        with made.refused("model.cached=true", f"{tmp_path}", "hidden states differ by", f"encoder.path={folder}"):
            model.fit(train, NOTHING, 0)


def test_a_rate_at_which_tuning_diverges_is_told(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    with made.refused("model.learning_rate=", "in epoch 1", "want a lower rate"):
        monkeypatch.setattr(training_loop, "_loss", lambda logits, *_: logits.sum() * float("nan"))
        student().fit(training(), training(9), 0)


# ---------------------------------------------------------------------------------------------------- what is tuned

EXPECTED = {
    "minilm_lora": lambda name: ("lora_" in name and ("layer.1" in name or "layer.2" in name)) or _head(name),
    "minilm_lora_top_layer": lambda name: ("lora_" in name and "layer.2" in name) or _head(name),
    "minilm_lora_all_layers": lambda name: "lora_" in name or _head(name),
    "minilm_full": lambda name: True,
    "minilm_linear_head": lambda name: name.startswith("classifier."),
}


def _head(name: str) -> bool:
    return "modules_to_save" in name and ("pooler" in name or "classifier" in name)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_to_be_tuned_is_and_the_rest_stays_as_it_was(name: str, student: Student, folder: Path) -> None:
    from transformers import AutoModel

    predictor = student(name).fit(training(), NOTHING, 0)
    tuned = {path for path, weight in predictor.network.named_parameters() if weight.requires_grad}
    assert tuned == {path for path in weights(predictor) if EXPECTED[name](path)}
    assert len(tuned) > 1
    published = dict(AutoModel.from_pretrained(folder).named_parameters())
    compared = 0
    for path, weight in weights(predictor).items():
        own = path.removeprefix("bert.").replace(".base_layer", "").replace(".original_module", "")
        if path not in tuned and own in published:
            assert (weight == published[own]).all(), path
            compared += 1
    assert compared > 20 or name == "minilm_full"


def test_full_tuning_of_some_layers_leaves_the_others_and_the_embeddings(student: Student) -> None:
    predictor = student("minilm_full", layers=1).fit(training(), NOTHING, 0)
    tuned = {path for path, weight in predictor.network.named_parameters() if weight.requires_grad}
    assert {path.split(".")[3] for path in tuned if ".layer." in path} == {"2"}
    assert not any("embeddings" in path for path in tuned)
    assert any(path.startswith("bert.pooler") for path in tuned)


def test_every_tuned_weight_moves(student: Student) -> None:
    one, other = (
        student(epochs=epochs, dropout=0.0, learning_rate=rate).fit(training(), NOTHING, 0)
        for epochs, rate in ((1, 0.0), (3, 0.01))
    )
    before, after = weights(one), weights(other)
    still = [
        name
        for name, weight in other.network.named_parameters()
        if weight.requires_grad and (before[name] == after[name]).all()
    ]
    assert still == []


@pytest.mark.parametrize("name", EXPECTED)
def test_the_network_is_in_eval_mode_while_it_predicts(name: str, student: Student) -> None:
    predictor = student(name, dropout=0.4).fit(training(), NOTHING, 0)
    assert [path for path, module in predictor.network.named_modules() if module.training and path] == []
    one, other = (predictor.logits(TEXTS) for _ in range(2))
    assert np.array_equal(one, other)


def test_the_adapters_dropout_is_on_while_tuning(student: Student) -> None:
    plain, dropped = (student(dropout=rate).fit(training(), NOTHING, 0).history[0]["loss"] for rate in (0.0, 0.5))
    assert plain != dropped


def test_only_the_frozen_network_is_never_dropped_from(student: Student) -> None:
    """Without adapters' dropout the loss on one batch is that of the network as it predicts."""
    train = training(4)
    predictor = student(learning_rate=0.0, batch_size=64).fit(train, NOTHING, 0)
    learned = training_loop.examples(train, predictor)
    logits = predictor.logits(learned.texts)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert predictor.history[0]["loss"] == pytest.approx(-(learned.target * log_probs).sum(axis=1).mean(), abs=1e-5)


# ------------------------------------------------------------------------------------------------ labels and weights


def test_balanced_classes_help_the_rare_one(student: Student) -> None:
    train = training().iloc[[0, 2, *range(1, 24, 2)]]
    between = ITEMS.assign(json="leaf barrel", text="hot crude")
    plain, balanced = (
        student(class_weight=how, epochs=2).fit(train, NOTHING, 0).predict_proba(between)["tea"].mean()
        for how in (None, "balanced")
    )
    assert balanced > plain + 0.01


def test_balanced_weights_give_each_class_the_same_in_all() -> None:
    target = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=float)
    importance = training_loop._importance(training_loop.Examples(list("abcd"), target, np.ones(4)), "balanced")
    assert importance.mean() == pytest.approx(1)
    assert target.T @ importance == pytest.approx([2, 2])
    even = training_loop._importance(training_loop.Examples(list("abcd"), target, np.array([2.0, 2, 2, 2])), None)
    assert even.tolist() == [1, 1, 1, 1]


def test_an_item_of_weight_zero_has_no_say(student: Student) -> None:
    train = training()
    wrong = train.assign(label=np.where(np.arange(24) % 4 < 2, "tea", "oil"), weight=(np.arange(24) % 4 < 2) * 1.0)
    wrong.loc[wrong["weight"] == 1, "label"] = train["label"]
    right = wrong.assign(label=train["label"])
    assert (wrong["label"] != right["label"]).any()
    one, other = (student(epochs=2).fit(given, NOTHING, 0).logits(TEXTS) for given in (wrong, right))
    assert np.array_equal(one, other)


def test_soft_labels_are_learned_from_where_they_are_given(student: Student) -> None:
    train = training()
    doubtful = train.assign(**{"prob:tea": 0.5, "prob:oil": 0.5})
    hard = student(epochs=3).fit(train, NOTHING, 0).predict_proba(ITEMS)
    soft = student(epochs=3).fit(doubtful, NOTHING, 0).predict_proba(ITEMS)
    ignored = student(epochs=3, soft_labels=False).fit(doubtful, NOTHING, 0).predict_proba(ITEMS)
    assert np.abs(soft - 0.5).max(axis=None) < 0.2
    assert np.abs(hard - 0.5).min(axis=None) > 0.3
    pd.testing.assert_frame_equal(ignored, hard, check_exact=True)


def test_targets_of_soft_labels_by_hand(student: Student) -> None:
    predictor = student().fit(training(), NOTHING, 0)
    nan = float("nan")
    items = training(4).assign(json=None, **{"prob:oil": [3.0, nan, 0.0, 0.25], "prob:tea": [1.0, nan, 0.0, 0.75]})
    found = training_loop.examples(items, predictor, soft=True)
    # Made to sum to 1; the label itself where there is no distribution.
    assert found.target.tolist() == [[0.75, 0.25], [1.0, 0.0], [0.0, 1.0], [0.25, 0.75]]
    assert found.texts == items["text"].tolist()


def test_columns_of_probabilities_are_no_views(student: Student) -> None:
    soft = training().assign(**{"prob:tea": 0.5, "prob:oil": 0.5})
    assert student().fit(soft, NOTHING, 0).views == ("json", "text")


# ----------------------------------------------------------------------------------------------- the same and not so


@pytest.mark.parametrize("cached", [True, False])
def test_the_seed_decides_everything(cached: bool, student: Student) -> None:
    model = student(cached=cached, epochs=2, dropout=0.1)
    one, again, other = (model.fit(training(), training(9), seed) for seed in (3, 3, 4))
    assert one.history == again.history
    assert np.array_equal(one.logits(TEXTS), again.logits(TEXTS))
    assert not np.array_equal(one.logits(TEXTS), other.logits(TEXTS))


def test_the_first_fit_of_a_process_is_as_any_other(student: Student) -> None:
    """It is the one that loads the network, and transformers draws random numbers while it does."""
    torch.manual_seed(1)
    encoder_predictor._pretrained.cache_clear()
    first = student(epochs=1).fit(training(), NOTHING, 3)
    torch.manual_seed(2)
    later = student(epochs=1).fit(training(), NOTHING, 3)
    assert np.array_equal(first.logits(TEXTS), later.logits(TEXTS))
    assert first.history == later.history


@pytest.mark.parametrize(
    ("name", "frozen"), [("minilm_lora", 1), ("minilm_lora_top_layer", 2), ("minilm_linear_head", 3)]
)
def test_with_the_cache_it_is_as_without_it(name: str, frozen: int, student: Student) -> None:
    kept, whole = (student(name, cached=cached, epochs=2).fit(training(), NOTHING, 0) for cached in (True, False))
    assert (kept.frozen, whole.frozen) == (frozen, 0)
    assert np.abs(kept.logits(TEXTS) - whole.logits(TEXTS)).max() < TOLERANCE
    kept.compare_fast_path(TEXTS)


def test_frozen_layers_run_once_for_all_fits(
    student: Student, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(student(epochs=2), cache=tmp_path)
    one = model.fit(training(), training(9), 0)

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Store, "add", never)
    other = model.fit(training(), training(9), 0)
    assert np.array_equal(one.logits(training()["text"].tolist()), other.logits(training()["text"].tolist()))


@pytest.mark.parametrize("name", ["minilm_lora", "minilm_full"])
def test_a_text_gets_the_same_whatever_it_is_batched_with(name: str, student: Student) -> None:
    predictor = student(name).fit(training(), NOTHING, 0)
    together = predictor.logits(TEXTS)
    alone = np.concatenate([predictor.logits([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_no_texts_are_no_logits(student: Student) -> None:
    for cached in (True, False):
        assert student(cached=cached).fit(training(), NOTHING, 0).logits([]).shape == (0, 2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_predictor_says_what_it_was_tuned_on(precision: str, student: Student) -> None:
    ran_on = student(precision=precision).fit(training(), NOTHING, 0).ran_on
    assert ran_on == {
        "device": "cpu",
        "precision": precision,
        "bfloat16_units": str(hardware.has_bfloat16(torch.device("cpu"))).lower(),
        "threads": str(torch.get_num_threads()),
    }


@pytest.mark.parametrize("has_units", [True, False])
def test_the_precision_is_that_of_the_hardware_unless_it_is_set(
    has_units: bool, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bfloat16", lambda _: has_units)
    predictor = student(precision="auto").fit(training(), NOTHING, 0)
    assert predictor.bfloat16 == has_units
    assert predictor.ran_on["precision"] == ("bfloat16" if has_units else "float32")


def test_bfloat16_is_near_float32(student: Student) -> None:
    exact, rough = (student(precision=how).fit(training(), NOTHING, 0) for how in ("float32", "bfloat16"))
    difference = np.abs(exact.logits(TEXTS) - rough.logits(TEXTS)).max()
    assert 0 < difference < 0.5


def test_the_network_is_tuned_without_warnings(student: Student) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student().fit(training(), NOTHING, 0)
