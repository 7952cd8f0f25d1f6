"""The light student's own settings. What every student must do is in test_student_contract.py."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from sklearn.base import clone
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune.errors import UserError
from silvertune.models.tfidf_logreg import TfidfLogreg

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


def test_remembered_features_are_those_that_scikit_learn_finds() -> None:
    train = training()
    vectorizer, _ = MODEL.fit(train, NOTHING, 0).pipelines["text"]
    plain = clone(vectorizer)
    assert (plain.fit_transform(train["text"]) != vectorizer.transform(train["text"])).nnz == 0
    assert plain.vocabulary_ == vectorizer.vocabulary_
