"""Items, and what came with them: the three tables that a dataset hands on, kept apart.

Items carry no labels, so no stage that is handed items can see gold by accident.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from silvertune.errors import UserError

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

    @property
    def training_items(self) -> pd.DataFrame:
        """The items of groups that no fold tests: those of a file that the data gave to train on; else none."""
        if self.partition is None:
            return self.items.iloc[:0]
        tested_groups = self.items["group_id"][self.partition != "train"]
        return self.items[(self.partition == "train") & ~self.items["group_id"].isin(tested_groups)]


def views_of(items: pd.DataFrame) -> list[str]:
    """The names of the views that `items` (or a training set made of them) have, in order."""
    return [str(name) for name in items.columns if name not in RESERVED and not str(name).startswith("prob:")]


def chosen_views(items: pd.DataFrame, wanted: Sequence[str] | None, key: str) -> list[str]:
    """`wanted`, or all views of `items` where that is null. UserError naming the config's `key` if one is not there."""
    there = views_of(items)
    if missing := set(wanted or ()) - set(there):
        raise UserError(f"{key}={wanted}: no view {sorted(missing)[0]!r}; there is {', '.join(there)}")
    return list(wanted or there)
