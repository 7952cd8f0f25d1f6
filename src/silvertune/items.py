"""Items, and what came with them: the three tables that a dataset hands on, kept apart.

Items carry no labels, so no stage that gets items can see gold by accident.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from silvertune.errors import UserError

RESERVED = frozenset({"item", "item_id", "group_id", "label", "weight"})
"""Names that no view may have."""


@dataclass(frozen=True)
class Data:
    """What a dataset loads.

    Attributes:
        items: Indexed by `item_id` (unique str): `group_id` (str), and one column a view (str, or None where the item
            has no such view).
        annotations: Votes that came with the data (`silvertune.votes`).
        gold: Class by item_id, of the items that have a trusted label.
        partition: `train`, `validation` or `test` by item_id, where the data came in a file for each; else None.
        digest: SHA-256 of what was read, hexadecimal.
    """

    items: pd.DataFrame
    annotations: pd.DataFrame
    gold: pd.Series
    partition: pd.Series | None
    digest: str

    @property
    def training_items(self) -> pd.DataFrame:
        """The items of groups that no fold tests: those of the files to train on; none without such files."""
        if self.partition is None:
            return self.items.iloc[:0]
        tested_groups = self.items["group_id"][self.partition != "train"]
        return self.items[(self.partition == "train") & ~self.items["group_id"].isin(tested_groups)]


def views_of(items: pd.DataFrame) -> list[str]:
    """The views of items.

    Args:
        items: Items, or a training set made of them.

    Returns:
        The names of the views, in the order of the columns.
    """
    return [str(name) for name in items.columns if name not in RESERVED and not str(name).startswith("prob:")]


def chosen_views(items: pd.DataFrame, wanted: Sequence[str] | None, key: str) -> list[str]:
    """The views that a part reads.

    Args:
        items: Items with their views.
        wanted: The names of views; None is all.
        key: The configuration's key of `wanted`, for messages.

    Returns:
        The names of the views.

    Raises:
        UserError: The items have no view of a wanted name.
    """
    views = views_of(items)
    if missing := set(names := [str(name) for name in wanted or ()]) - set(views):
        raise UserError(f"{key}={wanted}: no view {sorted(missing)[0]!r}; there is {', '.join(views)}")
    return names or views


def copy_keys(items: pd.DataFrame) -> pd.Series:
    """What is the same for items that are copies of one another.

    Two items are copies if each of their views has the same words: letters are compared without case and in Unicode's
    compatibility form (NFKC), and all blanks are alike. Near copies, with other words, are not found.

    Args:
        items: Items with their views.

    Returns:
        A text for each item, by item_id; "" for items without any text, which are no copies.
    """
    views = views_of(items)
    texts = items[views].to_numpy(dtype=object)
    keys = ["\x1f".join("" if pd.isna(text) else _normalised(str(text)) for text in row) for row in texts]
    keys = [key if key.strip("\x1f") else "" for key in keys]
    return pd.Series(keys, index=items.index, dtype=object, name="copy_key")


def groups_with_copies_together(items: pd.DataFrame) -> pd.Series:
    """The groups of items, where groups that have copies in common are one.

    Args:
        items: Items with `group_id` and their views.

    Returns:
        The group of each item, by item_id: the name of one of those that became one.
    """
    first_groups: dict[str, str] = {}

    def root(group: str) -> str:
        while (parent := first_groups.setdefault(group, group)) != group:
            group = parent
        return group

    group_of_copies: dict[str, str] = {}
    for group, key in zip(items["group_id"], copy_keys(items), strict=True):
        if key:
            first = root(group_of_copies.setdefault(key, group))
            first_groups[root(group)] = first
    return items["group_id"].map(root).rename("group_id")


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
