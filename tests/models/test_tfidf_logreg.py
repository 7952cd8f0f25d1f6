"""The light student's own settings. What every student must do is in test_student_contract.py."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.base import clone
from tests import made
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune.errors import UserError
from silvertune.models import saved, term_counts
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


@pytest.mark.parametrize(
    ("key", "value", "want"),
    [
        ("token_pattern", "[a", "is no regular expression"),
        ("ngram_max", 0, "want a whole number from 1"),
        ("min_df", 0, "want a whole number from 1"),
        ("max_features", 0, "want a whole number from 1"),
        ("C", 0, "want a number above 0"),
        ("class_weight", "even", "want balanced or null"),
        ("max_iter", 0, "want a whole number from 1"),
        ("validation_fraction", 1.0, "want a number from 0, below 1"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_labelled(key: str, value: object, want: str) -> None:
    with made.refused(f"model.{key}={value}", want):
        replace(MODEL, **{key: value})


def test_without_a_limit_all_features_are_kept() -> None:
    few, all_of_them = (replace(MODEL, max_features=most).fit(training(), NOTHING, 0) for most in (3, None))
    assert {view: len(features.columns) for view, features in few.features.items()} == {"json": 3, "text": 3}
    assert all(len(features.columns) > 3 for features in all_of_them.features.values())


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


def test_a_saved_model_reads_texts_as_the_one_that_has_read_them(tmp_path: Path) -> None:
    predictor = replace(MODEL, min_df=2, max_features=20).fit(training(), NOTHING, 0)
    predictor.save(tmp_path / "model")
    loaded = saved.load(tmp_path / "model")
    for items in (training().drop(columns=["label", "weight"]), ITEMS):
        pd.testing.assert_frame_equal(loaded.predict_proba(items), predictor.predict_proba(items), check_exact=True)


def test_reading_ahead_changes_nothing() -> None:
    plain = MODEL.fit(training(), NOTHING, 0).predict_proba(ITEMS)
    term_counts.forget()
    MODEL.prepare(pd.concat([ITEMS, training()]))
    ahead = MODEL.fit(training(), NOTHING, 0).predict_proba(ITEMS)
    pd.testing.assert_frame_equal(ahead, plain, check_exact=True)


# ------------------------------------------------------------------------------ scripts without blanks between words

GOOD_AND_BAD = {
    "chinese": ("\u8d28\u91cf\u5f88\u597d", "\u7834\u635f\u4e25\u91cd"),
    "japanese": ("\u3068\u3066\u3082\u826f\u3044", "\u58ca\u308c\u3066\u3044\u308b"),
    "thai": ("\u0e14\u0e35\u0e21\u0e32\u0e01", "\u0e41\u0e22\u0e48\u0e21\u0e32\u0e01"),
    "lao": ("\u0e94\u0eb5\u0eab\u0ebc\u0eb2\u0e8d", "\u0e9a\u0ecd\u0ec8\u0e94\u0eb5"),
    "khmer": ("\u179b\u17d2\u17a2\u178e\u17b6\u179f\u17cb", "\u17a2\u17b6\u1780\u17d2\u179a\u1780\u17cb"),
    "burmese": ("\u1000\u1031\u102c\u1004\u103a\u1038", "\u1006\u102d\u102f\u1038"),
}


def reviews(script: str, n: int = 60) -> pd.DataFrame:
    """Texts whose class stands as one of two words amid random letters of its script, without any blank."""
    words = GOOD_AND_BAD[script]
    rng = np.random.default_rng(0)
    letters = sorted({letter for word in words for letter in word})
    alphabet = [chr(ord(letters[0]) + k) for k in range(40) if chr(ord(letters[0]) + k).isalpha()]
    texts = ["".join([*rng.choice(alphabet, 6), words[i % 2], *rng.choice(alphabet, 6)]) for i in range(n)]
    labels = ["tea" if i % 2 else "oil" for i in range(n)]
    return pd.DataFrame({"group_id": "g", "text": texts, "label": labels, "weight": 1.0}, index=map(str, range(n)))


@pytest.mark.parametrize("script", GOOD_AND_BAD)
def test_a_script_without_blanks_is_read_by_characters(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = reviews(script).iloc[:40], reviews(script).iloc[40:]
    predictor = replace(MODEL, min_df=2, max_features=5000).fit(train, NOTHING, 0)
    predicted = predictor.predict_proba(test.drop(columns=["label", "weight"]))
    assert (predicted["tea"].to_numpy() > 0.5).tolist() == (test["label"] == "tea").tolist()
    assert predictor.alarms == ()
    predictor.save(tmp_path / "model")
    loaded = saved.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict_proba(test.drop(columns=["label", "weight"])), predicted)


def test_texts_with_blanks_are_read_by_words_as_ever() -> None:
    texts = [
        "\u0441\u043f\u0430\u0441\u0438\u0431\u043e",
        "\uac10\uc0ac \ud569\ub2c8\ub2e4",
        "gr\u00fc\u00df \u00b15 \u2265 \u2022",
        "\u0928\u092e\u0938\u094d\u0924\u0947",
    ]
    train = training().assign(text=[texts[i % 4] + " common" for i in range(len(training()))])
    vectorizer = replace(MODEL, views=["text"]).fit(train, NOTHING, 0).pipelines["text"][0]
    assert vectorizer.analyzer == "word"
    assert vectorizer.token_pattern == MODEL.token_pattern


def test_a_few_foreign_letters_change_no_feature() -> None:
    train = training()
    train["text"] = [text + " \u6f22" * (number == 0) for number, text in enumerate(train["text"])]
    vectorizer = replace(MODEL, views=["text"]).fit(train, NOTHING, 0).pipelines["text"][0]
    assert vectorizer.analyzer == "word"
    assert "\u6f22" in vectorizer.vocabulary_


def test_words_among_characters_stay_words() -> None:
    train = training().assign(text="\u6211\u4e0a\u5468 GPT-4 \u7528\u4e86")
    vocabulary = replace(MODEL, views=["text"]).fit(train, NOTHING, 0).pipelines["text"][0].vocabulary_
    assert {"gpt", "4", "gpt 4", "\u6211", "\u6211\u4e0a", "\u6211\u4e0a\u5468", "\u7528\u4e86"} <= set(vocabulary)
    assert "\u5468\u7528" not in vocabulary


def test_texts_that_share_no_word_raise_an_alarm() -> None:
    train = training().assign(text=[f"word{number}" for number in range(len(training()))])
    predictor = replace(MODEL, views=["text"]).fit(train, NOTHING, 0)
    assert predictor.alarms == (
        f"view 'text': unread: 100% of {len(train)} training texts have no word in common with another one, "
        "so the model learns nothing from them; see model.token_pattern",
    )
    assert MODEL.fit(training(), NOTHING, 0).alarms == ()
