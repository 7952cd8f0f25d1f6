"""The light student: TF-IDF and logistic regression, one pair a view."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.datasets.notices import say
from silvertune.errors import UserError, check_number, check_whole_number
from silvertune.items import chosen_views
from silvertune.models import saved
from silvertune.models.term_counts import TEXTS_AT_ONCE, UNSPACED_NGRAM, TermCounts, counted, unspaced

PIPELINES = "pipelines.joblib"

UNSPACED_SHARE = 0.05
"""Of the letters of a view's training texts: from this share on, runs of such letters are read by characters."""
TEXTS_FOR_SHARE = 10_000
"""So many of a view's training texts are looked at for that share, evenly spaced, if there are more."""
UNREAD_SHARE = 0.5
"""Of a view's training texts: if so many share no feature with another text, the student can't read them."""
ENOUGH = 10
"""Fewer training texts than these may well have no word in common."""


@dataclass(frozen=True)
class TfidfLogreg:
    """The light student: what to tune; `fit` tunes it with scikit-learn.

    Where a view's training texts are in scripts that put no blanks between words, runs of their letters are read as
    n-grams of characters, and the rest by words as ever.

    Args:
        views: The views to read; None is all.
        token_pattern: What counts as a word (the default keeps one-letter words and the marks of schedule tables).
        ngram_max: The longest run of words that is a feature.
        min_df: A feature must be in this many texts.
        max_features: So many of the most frequent features are kept; None: all.
        C: Inverse strength of the L2 penalty.
        class_weight: `balanced` or None.
        max_iter: Of the solver.
        validation_fraction: Share of the training groups that the run sets aside, 0-1; nothing here needs them, but
            thresholds chosen on validation do.
    """

    views: Sequence[str] | None
    token_pattern: str
    ngram_max: int
    min_df: int
    max_features: int | None
    C: float
    class_weight: str | None
    max_iter: int
    validation_fraction: float = 0.0

    def __post_init__(self) -> None:
        counts = {"ngram_max": self.ngram_max, "min_df": self.min_df, "max_iter": self.max_iter}
        if self.max_features is not None:
            counts["max_features"] = self.max_features
        for key, count in counts.items():
            check_whole_number(f"model.{key}", count, 1)
        check_number("model.C", self.C, above=True)
        check_number("model.validation_fraction", self.validation_fraction, most=1, below=True)
        if self.class_weight not in (None, "balanced"):
            raise UserError(f"model.class_weight={self.class_weight}: want balanced or null")
        try:
            re.compile(self.token_pattern)
        except re.error as error:
            raise UserError(f"model.token_pattern={self.token_pattern}: is no regular expression ({error})") from None

    def prepare(self, items: pd.DataFrame) -> None:
        """Read the texts of items once, for all students that will be fitted on them or asked about them.

        Args:
            items: Items.
        """
        for view in chosen_views(items, self.views, "model.views"):
            self._counted(items[view].dropna())

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> "TfidfPredictor":
        """Tune one pair of features and classifier a view.

        Args:
            train: Items with `label` and `weight`.
            validation: Not needed.
            seed: Of the solver.

        Returns:
            The tuned predictor.

        Raises:
            UserError: A view of the training set has no text.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        pipelines, features, alarms = {}, {}, []
        for view in chosen_views(train, self.views, "model.views"):
            rows = train[train[view].notna()]
            by_characters, counts, rows_of_counts = self._counted(rows[view])
            if by_characters:
                say(f"model: view {view!r} is in a script without blanks between words: read by characters")
            regression = LogisticRegression(
                C=self.C, class_weight=self.class_weight, max_iter=self.max_iter, random_state=seed
            )
            try:
                fewest = min(self.min_df, max(len(rows), 1))
                features[view], values = Features.fit(counts, rows_of_counts, fewest, self.max_features)
                with _threads().limit(limits=1):
                    regression.fit(values, rows["label"], sample_weight=rows["weight"])
            except ValueError as error:
                raise UserError(f"model: view {view!r} can't be learned from: {str(error).splitlines()[0]}") from None
            unread = _unread_share(values)
            if len(rows) >= ENOUGH and unread >= UNREAD_SHARE:
                alarms.append(
                    f"view {view!r}: unread: {unread:.0%} of {len(rows)} training texts have no word in common with "
                    "another one, so the model learns nothing from them; see model.token_pattern"
                )
            pipelines[view] = make_pipeline(self._vectorizer(by_characters, features[view]), regression)
        return TfidfPredictor(pipelines, tuple(alarms), features)

    def _counted(self, texts: pd.Series) -> tuple[bool, TermCounts, Any]:
        """Whether the texts are read by characters, the counts that the process keeps, and those of the texts."""
        by_characters = _unspaced_share(texts) >= UNSPACED_SHARE
        return by_characters, *counted(texts.to_list(), self.token_pattern, self.ngram_max, by_characters)

    def _vectorizer(self, by_characters: bool, features: "Features") -> Any:
        """scikit-learn's vectorizer with these features: from here on it reads texts by itself, whoever loads it."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        analyzer = partial(_terms_with_characters, token_pattern=self.token_pattern, ngram_max=self.ngram_max)
        vectorizer = TfidfVectorizer(
            analyzer=analyzer if by_characters else "word",
            token_pattern=None if by_characters else self.token_pattern,
            ngram_range=(1, 1) if by_characters else (1, self.ngram_max),
            min_df=self.min_df,
            max_features=self.max_features,
            sublinear_tf=True,
            dtype=np.float32,
        )
        terms = features.counts.terms
        vectorizer.vocabulary_ = {terms[column]: place for place, column in enumerate(features.columns.tolist())}
        vectorizer.idf_ = features.weighting.idf_
        return vectorizer


@dataclass(frozen=True)
class Features:
    """The TF-IDF features of a view, as columns of the counts that the process keeps.

    Attributes:
        counts: The counts that the process keeps.
        columns: The columns of the terms that are features, in the order of the terms.
        weighting: scikit-learn's fitted TfidfTransformer.
    """

    counts: TermCounts
    columns: np.ndarray
    weighting: Any

    @classmethod
    def fit(cls, counts: TermCounts, rows: Any, min_df: float, max_features: int | None) -> tuple["Features", Any]:
        """Choose the features of training texts as scikit-learn's TfidfVectorizer does.

        Args:
            counts: The counts that the process keeps.
            rows: Those of the training texts.
            min_df: A feature must be in this many texts; if it is no whole number, in this share of them.
            max_features: So many of the most frequent features are kept; None: all.

        Returns:
            The features, and (texts, features) of the training texts, float32.

        Raises:
            ValueError: No term is a feature.
        """
        from sklearn.feature_extraction.text import TfidfTransformer

        in_texts = np.bincount(rows.indices, minlength=rows.shape[1])
        fewest = min_df if isinstance(min_df, int) else min_df * rows.shape[0]
        columns = np.flatnonzero(in_texts >= max(fewest, 1))
        columns = columns[np.argsort(counts.rank()[columns])]
        if max_features is not None and len(columns) > max_features:
            # As scikit-learn breaks ties: the same sort of the same float32 numbers in the same order.
            times = np.bincount(rows.indices, weights=rows.data, minlength=rows.shape[1])[columns].astype(np.float32)
            columns = columns[np.sort((-times).argsort()[:max_features])]
        if not len(columns):
            raise ValueError(f"no term is in {fewest:g} or more of its {rows.shape[0]} texts")
        weighting, chosen = TfidfTransformer(sublinear_tf=True), _columns_of(rows, columns)
        return cls(counts, columns, weighting), weighting.fit(chosen).transform(chosen, copy=False)

    def of_texts(self, texts: Sequence[str]) -> Any:
        """(texts, features), float32; None if some text was not read."""
        if not self.counts.has(texts):
            return None
        return self.weighting.transform(_columns_of(self.counts.of(texts), self.columns), copy=False)


def _columns_of(rows: Any, columns: np.ndarray) -> Any:
    chosen = rows[:, columns]
    chosen.sort_indices()
    return chosen


@lru_cache
def _threads() -> Any:
    """The thread pools of scikit-learn: more than one thread adds nothing to sparse products, and waits for others."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _terms_with_characters(text: str, token_pattern: str, ngram_max: int) -> tuple[str, ...]:
    """The features of a text in a script without blanks. Saved models name this function."""
    runs = unspaced().findall(text)
    spaced = unspaced().sub(" ", text)
    ngrams = (
        run[start : start + size]
        for run in runs
        for size in range(1, UNSPACED_NGRAM + 1)
        for start in range(len(run) - size + 1)
    )
    return (*_analyzer(token_pattern, ngram_max)(spaced), *ngrams)


@lru_cache
def _analyzer(token_pattern: str, ngram_max: int) -> Callable[[str], list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    analyzer: Callable[[str], list[str]] = TfidfVectorizer(
        token_pattern=token_pattern, ngram_range=(1, ngram_max)
    ).build_analyzer()
    return analyzer


def _unspaced_share(texts: pd.Series) -> float:
    """Of the letters of texts (some of them, if they are many), those of scripts without blanks between words, 0-1."""
    some = texts.iloc[:: -(-len(texts) // TEXTS_FOR_SHARE) or 1]
    unspaced_letters = sum(map(_unspaced_letters, some))
    letters = sum(map(_letters, some)) if unspaced_letters else 1
    return min(unspaced_letters / letters, 1.0)


@lru_cache(maxsize=20_000)
def _unspaced_letters(text: str) -> int:
    return 0 if text.isascii() else sum(map(len, unspaced().findall(text)))


@lru_cache(maxsize=20_000)
def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _unread_share(features: Any) -> float:
    """Of the texts (rows), those that have no feature that another text has, 0-1."""
    in_texts = np.bincount(features.indices, minlength=features.shape[1])
    shared = np.concatenate([[0], np.cumsum(in_texts[features.indices] > 1)])
    return float((np.diff(shared[features.indptr]) == 0).mean())


@dataclass(frozen=True)
class TfidfPredictor:
    """A tuned `TfidfLogreg`.

    Attributes:
        pipelines: View -> fitted pipeline.
        alarms: What is wrong with the features of a view, one line each.
        features: View -> the same features of texts that this process read before; they are not saved.
    """

    pipelines: dict[str, Any]
    alarms: tuple[str, ...] = ()
    features: Mapping[str, Features] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that some view was fitted on."""
        return tuple(sorted({name for pipeline in self.pipelines.values() for name in pipeline.classes_}))

    @property
    def views(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(self.pipelines)

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Class probabilities, indexed by (item_id, view); views that an item lacks are left out."""
        parts = []
        for view, pipeline in self.pipelines.items():
            texts = items[view].dropna()
            if len(texts):
                index = pd.MultiIndex.from_product([texts.index, [view]], names=["item_id", "view"])
                batches = (texts.iloc[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE))
                probs = np.concatenate([self._probs(view, batch.to_list()) for batch in batches])
                parts.append(pd.DataFrame(probs, index=index, columns=pipeline.classes_))
        if not parts:
            return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"]))
        return pd.concat(parts).fillna(0.0)  # a class that one view never saw

    def _probs(self, view: str, texts: list[str]) -> np.ndarray:
        """(texts, classes)."""
        vectorizer, regression = self.pipelines[view]
        values = self.features[view].of_texts(texts) if view in self.features else None
        probs: np.ndarray = regression.predict_proba(vectorizer.transform(texts) if values is None else values)
        return probs

    def save(self, path: Path) -> None:
        """Write the pipelines to the new folder `path`; nothing is left if that fails."""
        import joblib

        with saved.new_folder(path, f"{__name__}.load", {"views": list(self.pipelines)}) as folder:
            joblib.dump(self.pipelines, folder / PIPELINES)


def load(folder: Path) -> TfidfPredictor:
    """The predictor saved in `folder`."""
    import joblib

    return TfidfPredictor(joblib.load(folder / PIPELINES))
