from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from silvertune.models import term_counts
from silvertune.models.term_counts import TermCounts, counted
from silvertune.models.tfidf_logreg import Features, _terms_with_characters

PATTERN = r"(?u)\w+|[•✓]"
WORDS = ["a", "b", "A", "dose", "x", "•", "✓", "day", "visit", "Straße", "week"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=12)


@pytest.fixture(autouse=True)
def nothing_read() -> Iterator[None]:
    term_counts.forget()
    yield
    term_counts.forget()


@given(
    texts=TEXTS,
    data=st.data(),
    ngram_max=st.integers(1, 4),
    min_df=st.one_of(st.integers(1, 3), st.floats(0.05, 0.6)),
    max_features=st.one_of(st.none(), st.integers(1, 30)),
)
def test_features_of_some_texts_are_those_of_scikit_learn_fitted_on_them(
    texts: list[str], data: st.DataObject, ngram_max: int, min_df: float, max_features: int | None
) -> None:
    counts = TermCounts(PATTERN, ngram_max, by_characters=False)
    counts.of(texts[::2])  # the others are read later
    counts.of(texts)
    some = data.draw(st.lists(st.sampled_from(texts), min_size=1, max_size=12))
    sklearn = TfidfVectorizer(
        token_pattern=PATTERN, ngram_range=(1, ngram_max), min_df=min_df, max_features=max_features,
        sublinear_tf=True, dtype=np.float32,
    )  # fmt: skip
    try:
        wanted = sklearn.fit_transform(some)
    except ValueError:  # no term is in enough texts
        with pytest.raises(ValueError, match=r"."):
            Features.fit(counts, counts.of(some), min_df, max_features)
        return
    features, values = Features.fit(counts, counts.of(some), min_df, max_features)
    assert [counts.terms[column] for column in features.columns] == sorted(sklearn.vocabulary_)
    assert (features.weighting.idf_ == sklearn.idf_).all()
    np.testing.assert_allclose(values.toarray(), wanted.toarray(), rtol=1e-6)
    transformed, expected = features.of_texts(texts), sklearn.transform(texts)
    assert (transformed.indices == expected.indices).all()
    assert (transformed.data == expected.data).all()  # here the terms of a text are in one order: the last digit


@given(
    texts=st.lists(st.text("ab XYZ漢字仮\u0e14\u0e35 1.", max_size=15), min_size=1, max_size=8), size=st.integers(1, 3)
)
def test_characters_are_counted_as_saved_models_read_them(texts: list[str], size: int) -> None:
    counts = TermCounts(PATTERN, size, by_characters=True)
    rows = counts.of(texts).toarray()
    for text, row in zip(texts, rows, strict=True):
        terms = _terms_with_characters(text, PATTERN, size)
        assert {term: row[counts.terms.index(term)] for term in terms} == {term: terms.count(term) for term in terms}
        assert row.sum() == len(terms)


def test_tokens_that_hold_blanks_are_counted_by_their_text() -> None:
    texts = ["a b,c", "a,b,c", "b c,a b"]
    sklearn = CountVectorizer(token_pattern=r"[^,]+", ngram_range=(1, 3))
    wanted = sklearn.fit_transform(texts).toarray()
    counts = TermCounts(r"[^,]+", 3, by_characters=False)
    got = counts.of(texts)[:, np.argsort(counts.rank())].toarray()
    assert sorted(counts.terms) == sorted(sklearn.vocabulary_)
    assert (got == wanted).all()


def test_a_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = TermCounts._read
    monkeypatch.setattr(TermCounts, "_read", lambda self, texts: (read.extend(texts), original(self, texts))[1])
    for texts in (["a b", "b c", "a b"], ["b c"], ["c d", "a b"]):
        counted(texts, PATTERN, 2, False)
    assert read == ["a b", "b c", "c d"]


def test_many_texts_are_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{k % 7} word{k % 3} end" for k in range(50)]
    at_once = TermCounts(PATTERN, 2, by_characters=False)
    wanted = at_once.of(texts)[:, np.argsort(at_once.rank())].toarray()
    monkeypatch.setattr(term_counts, "TEXTS_AT_ONCE", 4)
    counts = TermCounts(PATTERN, 2, by_characters=False)
    assert (counts.of(texts)[:, np.argsort(counts.rank())].toarray() == wanted).all()


def test_counts_of_earlier_calls_are_forgotten_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term_counts, "LIMIT", 5)
    first, _ = counted(["a b c d e f"], PATTERN, 1, False)
    again, _ = counted(["a b c d e f"], PATTERN, 1, False)
    assert again is first  # nothing new to read
    second, rows = counted(["g h"], PATTERN, 1, False)
    assert second.terms == ["g", "h"]
    assert second.size == rows.sum() == 2
    assert first.has(["a b c d e f"])  # a predictor that holds it still can read
