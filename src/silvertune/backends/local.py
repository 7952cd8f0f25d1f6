"""Tuning on this machine."""

import pandas as pd

from silvertune.errors import UserError
from silvertune.interfaces import Predictor


class Local:
    """Runs the model's own `fit(train, validation, seed)` in this process."""

    def check(self, model: object) -> None:
        """UserError if `model` can't be tuned here."""
        if not callable(getattr(model, "fit", None)):
            raise UserError(
                f"backend=local can't tune model {type(model).__name__}: it has no fit(train, validation, seed); "
                "choose a model that is tuned on this machine, such as model=tfidf_logreg"
            )

    def tune(self, model: object, train: pd.DataFrame, validation: pd.DataFrame, *, seed: int) -> Predictor:
        """Tune `model` on `train` (items with `label` and `weight`); `validation` is like it, or empty."""
        predictor: Predictor = model.fit(train, validation, seed)  # type: ignore[attr-defined]
        return predictor
