"""The light student: TF-IDF and logistic regression, one pair a view."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.items import chosen_views
from silvertune.models import saved

PIPELINES = "pipelines.joblib"


@dataclass(frozen=True)
class TfidfLogreg:
    """What to tune; `fit` tunes it with scikit-learn.

    views: the views to read; null is all. token_pattern: what counts as a word (the default keeps one-letter
    words and the marks of schedule tables). ngram_max: longest run of words that is a feature.
    min_df: a feature must be in this many texts. max_features: the most frequent are kept.
    C: inverse strength of the L2 penalty. class_weight: `balanced` or null.
    max_iter: of the solver. validation_fraction: share of the training groups that the run sets aside; nothing
        here needs them, but thresholds chosen on validation do.
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
        """A predictor from `train`: items with `label` and `weight`. `validation` is not needed.

        Raises UserError if a view of the training set has no text.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        pipelines = {}
        for view in chosen_views(train, self.views, "model.views"):
            rows = train[train[view].notna()]
            pipeline = make_pipeline(
                TfidfVectorizer(
                    analyzer=partial(_terms, token_pattern=self.token_pattern, ngram_max=self.ngram_max),
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
            # From here on it reads texts by itself, whoever loads it.
            pipeline[0].set_params(analyzer="word", token_pattern=self.token_pattern, ngram_range=(1, self.ngram_max))
            pipelines[view] = pipeline
        return TfidfPredictor(pipelines)


@lru_cache(maxsize=20_000)
def _terms(text: str, token_pattern: str, ngram_max: int) -> tuple[str, ...]:
    """The features of a text, remembered: arms, seeds, folds and rounds of a study fit on the same texts."""
    return tuple(map(sys.intern, _analyzer(token_pattern, ngram_max)(text)))


@lru_cache
def _analyzer(token_pattern: str, ngram_max: int) -> Callable[[str], list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    analyzer: Callable[[str], list[str]] = TfidfVectorizer(
        token_pattern=token_pattern, ngram_range=(1, ngram_max)
    ).build_analyzer()
    return analyzer


@dataclass(frozen=True)
class TfidfPredictor:
    """A tuned `TfidfLogreg`: view -> fitted pipeline."""

    pipelines: dict[str, Any]

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
