"""The contract of students: what `fit` gives back can predict, be saved, and says clearly what it can't learn from.

A new model needs one entry in `STUDENTS`: a test fails if a shipped yaml has none.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml

from silvertune.backends.local import Predictor
from silvertune.errors import UserError
from silvertune.models.tfidf_logreg import TfidfLogreg, TfidfPredictor

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
MODEL = TfidfLogreg(
    views=None,
    token_pattern=r"(?u)\w+",
    ngram_max=2,
    min_df=1,
    max_features=500,
    C=1.0,
    class_weight=None,
    max_iter=500,
)
STUDENTS: dict[str, tuple[Any, Callable[[Path], Predictor]]] = {
    "silvertune.models.tfidf_logreg.TfidfLogreg": (
        MODEL,
        lambda path: TfidfPredictor(joblib.load(path / "pipelines.joblib")),
    ),
}
"""`_target_` of a shipped model -> a small one of it, and how its saved predictor is loaded."""

WORDS = {"tea": ["green leaf", "hot cup", "leaf brew"], "oil": ["black barrel", "crude well", "barrel price"]}
NOTHING = pd.DataFrame({"group_id": [], "json": [], "text": [], "label": [], "weight": []})


def training(n: int = 24, classes: tuple[str, ...] = ("tea", "oil")) -> pd.DataFrame:
    """Items with label and weight; every fifth has no json view."""
    rng = np.random.default_rng(5)
    words = {**WORDS, "ore": ["red iron", "deep mine", "iron rail"]}
    label = [classes[i % len(classes)] for i in range(n)]
    text = [f"{rng.choice(words[name])} {rng.choice(words[name])} n{i % 4}" for i, name in enumerate(label)]
    return pd.DataFrame(
        {
            "group_id": [f"g{i // 3}" for i in range(n)],
            "json": [None if i % 5 == 0 else f'["{entry}"]' for i, entry in enumerate(text)],
            "text": text,
            "label": label,
            "weight": 1.0,
        },
        index=pd.Index([f"i{i:02d}" for i in range(n)], name="item_id"),
    )


ITEMS = pd.DataFrame(
    {
        "group_id": ["x", "x", "y"],
        "json": ["green leaf", None, "crude well"],
        "text": ["hot cup", "barrel", None],
    },
    index=pd.Index(["p", "q", "r"], name="item_id"),
)


def test_every_shipped_model_has_a_case() -> None:
    shipped = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in CONF.glob("*.yaml")}
    targets = {name: content["_target_"] for name, content in shipped.items() if "_target_" in (content or {})}
    assert targets, f"no model in {CONF}"
    assert {name: target for name, target in targets.items() if target not in STUDENTS} == {}


@pytest.mark.parametrize("target", STUDENTS)
class TestStudent:
    def fit(self, target: str, train: pd.DataFrame, seed: int = 0) -> Predictor:
        model, _ = STUDENTS[target]
        predictor: Predictor = model.fit(train, NOTHING, seed)
        return predictor

    def test_probabilities_of_every_view_of_every_item_sum_to_one(self, target: str) -> None:
        probs = self.fit(target, training()).predict_proba(ITEMS)
        assert list(probs.index.names) == ["item_id", "view"]
        assert set(probs.columns) == {"tea", "oil"}
        assert set(probs.index) == {("p", "json"), ("p", "text"), ("q", "text"), ("r", "json")}
        assert probs.index.is_unique
        assert ((probs >= 0) & (probs <= 1)).all(axis=None)
        np.testing.assert_allclose(probs.sum(axis=1), 1)

    def test_it_learns_what_the_words_mean(self, target: str) -> None:
        probs = self.fit(target, training()).predict_proba(ITEMS)
        assert probs.loc[("p", "json"), "tea"] > 0.5
        assert probs.loc[("p", "text"), "tea"] > 0.5
        assert probs.loc[("q", "text"), "oil"] > 0.5
        assert probs.loc[("r", "json"), "oil"] > 0.5

    def test_labels_and_weights_of_what_is_predicted_are_not_looked_at(self, target: str) -> None:
        predictor = self.fit(target, training())
        wrong = ITEMS.assign(label="tea", weight=0.0)
        pd.testing.assert_frame_equal(predictor.predict_proba(wrong), predictor.predict_proba(ITEMS))

    def test_the_same_seed_gives_the_same_probabilities(self, target: str) -> None:
        one, two = (self.fit(target, training(), seed=3).predict_proba(ITEMS) for _ in range(2))
        pd.testing.assert_frame_equal(one, two, check_exact=True)

    def test_weights_matter(self, target: str) -> None:
        train = training()
        heavy = train.assign(weight=np.where(train["label"] == "tea", 20.0, 1.0))
        even, tilted = (self.fit(target, given).predict_proba(ITEMS) for given in (train, heavy))
        assert (tilted["tea"] > even["tea"]).all()

    def test_an_item_of_weight_two_is_like_two_items(self, target: str) -> None:
        # Every word as often in both: what is weighed is the loss, not the vocabulary.
        train = training()
        doubled = pd.concat([train, train.set_axis("again" + train.index).rename_axis("item_id")])
        one = self.fit(target, train.assign(weight=2.0)).predict_proba(ITEMS)
        two = self.fit(target, doubled).predict_proba(ITEMS)
        assert (one.idxmax(axis=1) == two.idxmax(axis=1)).all()
        np.testing.assert_allclose(one.to_numpy(), two[one.columns].to_numpy(), atol=0.02)

    def test_a_saved_predictor_gives_the_same_probabilities(self, target: str, tmp_path: Path) -> None:
        predictor = self.fit(target, training())
        predictor.save(tmp_path / "new" / "folder")
        again = STUDENTS[target][1](tmp_path / "new" / "folder")
        pd.testing.assert_frame_equal(again.predict_proba(ITEMS), predictor.predict_proba(ITEMS), check_exact=True)

    def test_several_classes_have_a_column_each(self, target: str) -> None:
        probs = self.fit(target, training(30, ("tea", "oil", "ore"))).predict_proba(ITEMS)
        assert set(probs.columns) == {"tea", "oil", "ore"}
        np.testing.assert_allclose(probs.sum(axis=1), 1)

    def test_a_class_that_one_view_never_saw_has_no_probability_there(self, target: str) -> None:
        train = training(30, ("tea", "oil", "ore"))
        train.loc[train["label"] == "ore", "json"] = None
        probs = self.fit(target, train).predict_proba(ITEMS)
        assert probs.notna().all(axis=None)
        np.testing.assert_allclose(probs.to_numpy().sum(axis=1), 1)

    def test_training_on_one_class_is_refused_in_one_line(self, target: str) -> None:
        with pytest.raises(UserError) as caught:
            self.fit(target, training(classes=("tea",)))
        assert len(str(caught.value).splitlines()) == 1
        assert "class" in str(caught.value)

    def test_training_on_nothing_is_refused_in_one_line(self, target: str) -> None:
        with pytest.raises(UserError) as caught:
            self.fit(target, training().iloc[:0])
        assert len(str(caught.value).splitlines()) == 1

    def test_items_without_any_known_view_have_no_probabilities(self, target: str) -> None:
        probs = self.fit(target, training()).predict_proba(ITEMS.assign(json=None, text=None))
        assert probs.empty
        assert list(probs.index.names) == ["item_id", "view"]

    def test_the_training_set_is_left_as_it_was(self, target: str) -> None:
        train = training()
        before = train.copy(deep=True)
        self.fit(target, train)
        pd.testing.assert_frame_equal(train, before)


# ------------------------------------------------------------------------------------------- this student's settings


def test_only_the_views_that_are_asked_for_are_read() -> None:
    predictor = replace(MODEL, views=["text"]).fit(training(), NOTHING, 0)
    assert set(predictor.predict_proba(ITEMS).index.get_level_values("view")) == {"text"}


def test_a_view_that_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(UserError) as caught:
        replace(MODEL, views=["text", "jsno"]).fit(training(), NOTHING, 0)
    assert "model.views=" in str(caught.value)
    assert "no view 'jsno'" in str(caught.value)
    assert "there is json, text" in str(caught.value)


def test_a_view_without_words_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^model: view 'text' can't be learned from") as caught:
        MODEL.fit(training().assign(text="!!"), NOTHING, 0)
    assert "\n" not in str(caught.value)


def test_rare_words_are_left_out() -> None:
    train = training()
    words = replace(MODEL, views=["text"], min_df=len(train), ngram_max=1)
    with pytest.raises(UserError, match="can't be learned from"):
        words.fit(train, NOTHING, 0)
    common = words.fit(train.assign(text=train["text"] + " common"), NOTHING, 0)
    assert list(common.pipelines["text"][0].vocabulary_) == ["common"]


def test_the_shipped_pattern_keeps_one_letter_words_and_marks() -> None:
    shipped = yaml.safe_load((CONF / "tfidf_logreg.yaml").read_text(encoding="utf-8"))
    train = training().assign(text=["X ✓" if label == "tea" else "• y" for label in training()["label"]])
    pattern = replace(MODEL, views=["text"], ngram_max=1, token_pattern=shipped["token_pattern"])
    assert set(pattern.fit(train, NOTHING, 0).pipelines["text"][0].vocabulary_) == {"x", "✓", "•", "y"}


def test_balanced_classes_help_the_rare_one() -> None:
    train = training().iloc[[0, *range(1, 24, 2)]]
    assert train["label"].value_counts().to_dict() == {"oil": 12, "tea": 1}
    plain, balanced = (
        replace(MODEL, views=["text"], class_weight=how).fit(train, NOTHING, 0).predict_proba(ITEMS)
        for how in (None, "balanced")
    )
    assert (balanced["tea"] > plain["tea"]).all()
