"""A labeler together with the aggregation of its votes."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from silvertune.errors import WaitingForAnswersError
from silvertune.fallback_budget import Budget
from silvertune.interfaces import Labeler, LabelerTraits
from silvertune.votes import check, none_if_null


@dataclass(frozen=True)
class LabelSource:
    """A labeler and how its votes become one label an item.

    Attributes:
        name: Its configuration key, for messages.
        classes: The task's classes.
        labeler: Who votes.
        aggregate: Votes -> labels, indexed by item_id.
        keep: The classes that a preselection goes on with.
        budget: How many items a fallback is asked about; None is all that were rejected.
        people: Whether people make the labels.
    """

    name: str
    classes: tuple[str, ...]
    labeler: Labeler
    aggregate: Callable[[pd.DataFrame], pd.DataFrame]
    keep: tuple[str, ...] = ()
    budget: Budget | None = None
    people: bool = False

    def annotate(self, items: pd.DataFrame, drafts: pd.DataFrame | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Votes on `items`, and a label (perhaps null) for each of them.

        Args:
            items: The items.
            drafts: `label` and `confidence` that another labeler gave, by item_id, for people to correct.
        """
        if drafts is not None:
            LabelerTraits.of(self.labeler).show_drafts(drafts)
        votes = self.votes(items)
        return votes, self.labels(votes, items.index)

    def votes(self, items: pd.DataFrame) -> pd.DataFrame:
        """The labeler's votes on `items`, checked."""
        try:
            votes = self.labeler.label(items)
        except WaitingForAnswersError as error:
            error.part = self.name
            raise
        return check(votes, self.classes, items.index, self.name)

    def labels(self, votes: pd.DataFrame, item_ids: pd.Index) -> pd.DataFrame:
        """Aggregate the votes on `item_ids`, and no others.

        Returns:
            One row an item: `label` (null where no vote had one), `confidence`, `n_votes`.
        """
        counted = votes[votes["item_id"].isin(item_ids)]
        if LabelerTraits.of(self.labeler).first_only:
            counted = counted[counted["label"].notna()].drop_duplicates("item_id")
        labels = self.aggregate(counted).reindex(item_ids)
        labels["label"] = none_if_null(labels["label"])
        labels["n_votes"] = labels["n_votes"].fillna(0).astype(int)
        return labels


def why_no_label(votes: pd.DataFrame) -> str:
    """What the votes without a label say, as a clause for a message; empty where all votes have one."""
    without = votes[votes["label"].isna()]
    if without.empty:
        return ""
    counts = ", ".join(f"{number} {status}" for status, number in without["status"].value_counts().items())
    clause = f"; {len(without)} of {len(votes)} votes have no label ({counts})"
    raw = without["raw"].dropna() if "raw" in without else without["label"].iloc[:0]
    raw = raw[raw != ""]
    return f"{clause}, one of them says {' '.join(str(raw.iloc[0]).split())[:160]!r}" if len(raw) else clause
