"""How often each term is in each text. A process reads a text once; all students that are fitted on it take its row."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

LIMIT = 100_000_000
"""So many counts (8 bytes each) are kept for later; with more, reading a new text forgets those of earlier calls."""
TEXTS_AT_ONCE = 5_000
"""So many texts are in memory as tokens at once."""

_UNSPACED = r"[[\p{L}\p{M}]&&[\p{lb=ID}\p{lb=CJ}\p{lb=NS}\p{lb=SA}\p{lb=AK}\p{lb=AP}\p{lb=AS}\p{lb=VF}\p{lb=VI}]]+"
"""A run of letters between which Unicode lets a line break without a blank: Chinese, Japanese, Thai, Khmer and others.

Source: Unicode Standard Annex 14 (line breaking), the classes of ideographs and of scripts with complex context.
"""
UNSPACED_NGRAM = 3
"""Longest run of such letters that is a term."""


class TermCounts:
    """The counts of the texts that were read, by one way to read them.

    Args:
        token_pattern: What counts as a word.
        ngram_max: The longest run of words that is a term, from 1.
        by_characters: Whether runs of letters in scripts without blanks are read as n-grams of characters.

    Attributes:
        terms: The term of each column, in the order in which they were first read.
    """

    def __init__(self, token_pattern: str, ngram_max: int, by_characters: bool) -> None:
        from scipy.sparse import csr_array
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(token_pattern=token_pattern)
        self._lowercase, self._words = vectorizer.build_preprocessor(), vectorizer.build_tokenizer()
        self._ngram_max, self._by_characters = ngram_max, by_characters
        self._columns = _Columns()
        self._rank = np.empty(0, dtype=np.int64)
        self._row_by_text: dict[str, int] = {}
        self._counts = csr_array((0, 0), dtype=np.float32)

    @property
    def terms(self) -> list[str]:
        return self._columns.terms

    @property
    def size(self) -> int:
        """How many counts are kept."""
        return int(self._counts.nnz)

    def rank(self) -> np.ndarray:
        """The place of each column among the sorted terms."""
        if len(self._rank) < len(self.terms):
            self._rank = np.empty(len(self.terms), dtype=np.int64)
            self._rank[sorted(range(len(self.terms)), key=self.terms.__getitem__)] = np.arange(len(self.terms))
        return self._rank

    def has(self, texts: Iterable[str]) -> bool:
        """Whether all of these texts were read."""
        return all(map(self._row_by_text.__contains__, texts))

    def of(self, texts: Sequence[str]) -> Any:
        """Take the counts of texts, and read those that were not read yet.

        Args:
            texts: Texts; they may repeat.

        Returns:
            (texts, terms) scipy.sparse.csr_array, float32.
        """
        new_texts = [text for text in dict.fromkeys(texts) if text not in self._row_by_text]
        if new_texts:
            batches = [new_texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(new_texts), TEXTS_AT_ONCE)]
            self._counts = self._stacked([self._counts, *map(self._read, batches)])
            first_row = len(self._row_by_text)
            self._row_by_text.update(zip(new_texts, range(first_row, first_row + len(new_texts)), strict=True))
        return self._counts[[self._row_by_text[text] for text in texts]]

    def _stacked(self, blocks: list[Any]) -> Any:
        """The rows of all blocks, which may lack the last columns."""
        from scipy.sparse import csr_array

        lengths = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(block.indptr) for block in blocks)])
        data, indices = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("data", "indices"))
        return csr_array((data, indices, np.cumsum(lengths)), shape=(len(lengths) - 1, len(self.terms)))

    def _read(self, texts: Sequence[str]) -> Any:
        """(texts, terms) counts."""
        from scipy.sparse import csr_array

        spaced, runs = texts, list[list[str]]()
        if self._by_characters:
            spaced = [unspaced().sub(" ", text) for text in texts]
            runs = [unspaced().findall(text) for text in texts]
        words = ((row, self._words(self._lowercase(text))) for row, text in enumerate(spaced))
        letters = ((row, run) for row, runs_of_text in enumerate(runs) for run in runs_of_text)
        parts = [*self._ngrams(words, self._ngram_max, " "), *self._ngrams(letters, UNSPACED_NGRAM, "")]
        row, column = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        counted = csr_array((np.ones(len(row), dtype=np.float32), (row, column)), shape=(len(texts), len(self.terms)))
        counted.sum_duplicates()
        return counted

    def _ngrams(
        self, sequences: Iterable[tuple[int, Iterable[str]]], ngram_max: int, joiner: str
    ) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Row and column of each run of 1, 2, ... tokens within a sequence; a sequence is (row, tokens)."""
        rows, lengths, tokens = [], [], []
        for row, sequence in sequences:
            tokens.append(np.array([self._columns[token] for token in sequence], dtype=np.int32))
            rows.append(row)
            lengths.append(len(tokens[-1]))
        token = np.concatenate([np.empty(0, dtype=np.int32), *tokens])
        row_of_token = np.repeat(np.array(rows, dtype=np.int32), lengths)
        sequence_of_token = np.repeat(np.arange(len(lengths)), lengths)
        ngram = token
        yield row_of_token, ngram
        for size in range(2, ngram_max + 1):
            # The runs that start at a token and end before its sequence does, as pairs: a shorter run and a token.
            ends_within = sequence_of_token[size - 1 :] == sequence_of_token[: max(len(token) - size + 1, 0)]
            first, last = ngram[: len(ends_within)], token[size - 1 :]
            pair, pairs = pd.factorize(first[ends_within] * np.int64(2**32) + last[ends_within])
            names = [self.terms[a] + joiner + self.terms[b] for a, b in zip(pairs >> 32, pairs % 2**32, strict=True)]
            columns = np.array([self._columns[name] for name in names], dtype=np.int32)
            ngram = np.zeros(len(ends_within), dtype=np.int32)
            ngram[ends_within] = columns[pair]
            yield row_of_token[: len(ends_within)][ends_within], ngram[ends_within]


class _Columns(dict[str, int]):
    """Term -> column; a term that it lacks gets the next one."""

    def __init__(self) -> None:
        self.terms: list[str] = []

    def __missing__(self, term: str) -> int:
        self[term] = column = len(self.terms)
        self.terms.append(term)
        return column


_KEPT: dict[tuple[str, int, bool], TermCounts] = {}
_LOCK = Lock()


def counted(texts: Sequence[str], token_pattern: str, ngram_max: int, by_characters: bool) -> tuple[TermCounts, Any]:
    """Count the terms of texts; those that this process counted before are not read again.

    Args:
        texts: Texts; they may repeat.
        token_pattern: As of `TermCounts`, like the others.
        ngram_max: The longest run of words.
        by_characters: How to read scripts without blanks.

    Returns:
        The counts that are kept, and those of these texts: (texts, terms) scipy.sparse.csr_array, float32.
    """
    key = (token_pattern, ngram_max, by_characters)
    with _LOCK:
        counts = _KEPT.get(key) or TermCounts(*key)
        if sum(kept.size for kept in _KEPT.values()) > LIMIT and not counts.has(texts):
            forget()
            counts = TermCounts(*key)
        _KEPT[key] = counts
        return counts, counts.of(texts)


def forget() -> None:
    """Forget what was counted."""
    _KEPT.clear()


@lru_cache
def unspaced() -> Any:
    """The compiled pattern of a run of letters without blanks; the `re` of Python knows no properties of characters."""
    import regex  # type: ignore[import-untyped]

    return regex.compile(_UNSPACED, regex.VERSION1)
