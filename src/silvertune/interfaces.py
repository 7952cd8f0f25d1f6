"""What a labeler, a backend and a predictor are: plain Protocols, nothing to inherit from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd


class Labeler(Protocol):
    """Makes votes for items; people, rules and machines alike.

    A labeler may have an attribute `first_only`; where it is true, only the first vote with a label that an
    item has counts for its label (the rule of the paper's panel), whatever the aggregation.
    """

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """Votes (`silvertune.votes`) on items (`silvertune.items`)."""
        ...

    def estimate(self, items: pd.DataFrame) -> dict[str, dict[str, float]]:
        """Who would be asked -> what that would take at most: unique `calls`, of them already `stored`, and for the
        others `tokens`, `dollars`, and `seconds` at the configured rate. Asks nobody."""
        ...


class Predictor(Protocol):
    """What tuning gives back.

    `classes` are those that it was tuned on, `views` those that it reads. One that was tuned in epochs has a
    `history`: a dict of measurements each.
    """

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def views(self) -> Sequence[str]: ...

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Class probabilities, indexed by (item_id, view), one column a class that was trained on."""
        ...

    def save(self, path: Path) -> None:
        """Write everything that `predict_proba` needs to the new folder `path`, for `silvertune.models.saved.load`."""
        ...


class Backend(Protocol):
    """Where and how a model is tuned."""

    def check(self, model: object) -> None:
        """UserError if `model` can't be tuned here."""
        ...

    def tune(self, model: object, train: pd.DataFrame, validation: pd.DataFrame, *, seed: int) -> Predictor:
        """A predictor, from items with `label` and `weight`.

        A model may have an attribute `soft_labels`; where it is true, `train` and `validation` have a column
        `prob:<class>` a class as well: the label's distribution, rows sum to 1.
        """
        ...
