"""The light student: TF-IDF and logistic regression, one pair a view."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.datasets.notices import say
from silvertune.errors import UserError
from silvertune.items import chosen_views
from silvertune.models import saved

PIPELINES = "pipelines.joblib"


_UNSPACED = r"[[\p{L}\p{M}]&&[\p{lb=ID}\p{lb=CJ}\p{lb=NS}\p{lb=SA}\p{lb=AK}\p{lb=AP}\p{lb=AS}\p{lb=VF}\p{lb=VI}]]+"
"""A run of letters between which Unicode lets a line break without a blank: Chinese, Japanese, Thai, Khmer and others.

Source: Unicode Standard Annex 14 (line breaking), the classes of ideographs and of scripts with complex context.
"""
UNSPACED_SHARE = 0.05
"""Of the letters of a view's training texts: from this share on, runs of such letters are read by characters."""
UNSPACED_NGRAM = 3
"""Longest run of characters that is a feature there."""
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
        max_features: So many of the most frequent features are kept.
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
    max_features: int
    C: float
    class_weight: str | None
    max_iter: int
    validation_fraction: float = 0.0

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
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        pipelines, alarms = {}, []
        for view in chosen_views(train, self.views, "model.views"):
            rows = train[train[view].notna()]
            by_characters = _unspaced_share(rows[view]) >= UNSPACED_SHARE
            if by_characters:
                say(f"model: view {view!r} is in a script without blanks between words: read by characters")
            terms = _terms_with_characters if by_characters else _terms
            analyzer = partial(terms, token_pattern=self.token_pattern, ngram_max=self.ngram_max)
            pipeline = make_pipeline(
                TfidfVectorizer(
                    analyzer=analyzer,
                    token_pattern=None,
                    min_df=min(self.min_df, max(len(rows), 1)),
                    max_features=self.max_features,
                    sublinear_tf=True,
                    dtype=np.float32,
                ),
                LogisticRegression(C=self.C, class_weight=self.class_weight, max_iter=self.max_iter, random_state=seed),
            )
            try:
                pipeline.fit(rows[view], rows["label"], logisticregression__sample_weight=rows["weight"])
            except ValueError as error:
                raise UserError(f"model: view {view!r} can't be learned from: {str(error).splitlines()[0]}") from None
            unread = _unread_share(pipeline[0].transform(rows[view]))
            if len(rows) >= ENOUGH and unread >= UNREAD_SHARE:
                alarms.append(
                    f"view {view!r}: unread: {unread:.0%} of {len(rows)} training texts have no word in common with "
                    "another one, so the model learns nothing from them; see model.token_pattern"
                )
            if not by_characters:
                # From here on it reads texts by itself, whoever loads it.
                pipeline[0].set_params(
                    analyzer="word", token_pattern=self.token_pattern, ngram_range=(1, self.ngram_max)
                )
            pipelines[view] = pipeline
        return TfidfPredictor(pipelines, tuple(alarms))


@lru_cache(maxsize=20_000)
def _terms(text: str, token_pattern: str, ngram_max: int) -> tuple[str, ...]:
    """The features of a text, remembered: arms, seeds, folds and rounds of a study fit on the same texts."""
    return tuple(map(sys.intern, _analyzer(token_pattern, ngram_max)(text)))


@lru_cache(maxsize=20_000)
def _terms_with_characters(text: str, token_pattern: str, ngram_max: int) -> tuple[str, ...]:
    """The features of a text in a script without blanks. Saved models name this function."""
    runs = _unspaced().findall(text)
    spaced = _unspaced().sub(" ", text)
    ngrams = (
        run[start : start + size]
        for run in runs
        for size in range(1, UNSPACED_NGRAM + 1)
        for start in range(len(run) - size + 1)
    )
    return (*_analyzer(token_pattern, ngram_max)(spaced), *map(sys.intern, ngrams))


@lru_cache
def _analyzer(token_pattern: str, ngram_max: int) -> Callable[[str], list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    analyzer: Callable[[str], list[str]] = TfidfVectorizer(
        token_pattern=token_pattern, ngram_range=(1, ngram_max)
    ).build_analyzer()
    return analyzer


@lru_cache
def _unspaced() -> Any:
    """The compiled pattern; the `re` of Python knows no properties of characters."""
    import regex  # type: ignore[import-untyped]

    return regex.compile(_UNSPACED, regex.VERSION1)


def _unspaced_share(texts: pd.Series) -> float:
    """Of the letters of the texts, those of scripts without blanks between words, 0-1."""
    unspaced = sum(map(_unspaced_letters, texts))
    letters = sum(sum(map(str.isalpha, text)) for text in texts) if unspaced else 1
    return min(unspaced / letters, 1.0)


@lru_cache(maxsize=20_000)
def _unspaced_letters(text: str) -> int:
    return 0 if text.isascii() else sum(map(len, _unspaced().findall(text)))


def _unread_share(features: Any) -> float:
    """Of the texts (rows), those that have no feature that another text has, 0-1."""
    in_texts = np.asarray((features > 0).sum(axis=0)).ravel()
    return float((np.diff(features[:, in_texts > 1].tocsr().indptr) == 0).mean())


@dataclass(frozen=True)
class TfidfPredictor:
    """A tuned `TfidfLogreg`.

    Attributes:
        pipelines: View -> fitted pipeline.
        alarms: What is wrong with the features of a view, one line each.
    """

    pipelines: dict[str, Any]
    alarms: tuple[str, ...] = ()

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
                parts.append(pd.DataFrame(pipeline.predict_proba(texts), index=index, columns=pipeline.classes_))
        if not parts:
            return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"]))
        return pd.concat(parts).fillna(0.0)  # a class that one view never saw

    def save(self, path: Path) -> None:
        """Write the pipelines to the new folder `path`; nothing is left if that fails."""
        import joblib

        with saved.new_folder(path, f"{__name__}.load", {"views": list(self.pipelines)}) as folder:
            joblib.dump(self.pipelines, folder / PIPELINES)


def load(folder: Path) -> TfidfPredictor:
    """The predictor saved in `folder`."""
    import joblib

    return TfidfPredictor(joblib.load(folder / PIPELINES))
