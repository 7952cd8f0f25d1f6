"""Items, and what came with them: the three tables that a dataset hands on, kept apart.

Items carry no labels, so no stage that is handed items can see gold by accident.
"""

from dataclasses import dataclass

import pandas as pd

RESERVED = frozenset({"item", "item_id", "group_id", "label", "weight"})


@dataclass(frozen=True)
class Data:
    """What a dataset loads.

    items: indexed by `item_id` (unique str): `group_id` (str) and one column a view (str, or None where
        the item has no such view).
    annotations: votes that came with the data (see `silvertune.votes`).
    gold: Series of class names indexed by `item_id`, for the items that have a trusted label.
    partition: Series of `train`, `validation`, `test` indexed by `item_id`, where the data came in files of
        its own for each; else None.
    digest: SHA-256 of what was read, hex.
    """

    items: pd.DataFrame
    annotations: pd.DataFrame
    gold: pd.Series
    partition: pd.Series | None
    digest: str


def views_of(items: pd.DataFrame) -> list[str]:
    """The names of the views that `items` (or a training set made of them) have, in order."""
    names = [str(column) for column in items.columns if column not in RESERVED]
    return [name for name in names if not name.startswith("prob:")]  # a training set's soft labels
