"""Aggregations that count the votes of several annotators."""

from collections.abc import Mapping

import pandas as pd

from silvertune.aggregations.counting import heaviest, labels_table, most_frequent, with_label
from silvertune.errors import UserError, check_number
from silvertune.schema import Task


def majority(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Take the most frequent label; ties go to the higher summed confidence, then to the class listed first.

    Confidence: the share of the item's labelled votes that gave the label.

    Source: majority voting, the baseline of every study of annotators (e.g. Sheng, Provost & Ipeirotis 2008, "Get
    another label?").

    Args:
        votes: The votes, one a row.
        task: The task, for its classes.

    Returns:
        The labels table.

    Fails where most annotators make the same mistakes.
    """
    labelled = with_label(votes)
    return labels_table(votes, labelled, most_frequent(labelled, task))


def first(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Take the first vote that has a label, in the order of the table.

    Confidence: that of the vote.

    Source: Kumar et al. 2024 (the rule of the non-experts' panel).

    Args:
        votes: The votes, one a row.
        task: The task; not used.

    Returns:
        The labels table.

    Fails where the first annotator is not the best one: it does not read the other votes.
    """
    labelled = with_label(votes)
    firsts = labelled.drop_duplicates("item_id").set_index("item_id")
    return labels_table(votes, labelled, firsts[["label", "confidence"]])


def weighted_majority(votes: pd.DataFrame, task: Task, *, weights: Mapping[str, float] | str) -> pd.DataFrame:
    """Take the label with the most weight of votes; ties go to the class listed first.

    Where all votes of an item have weight 0, they count alike.

    Confidence: the share of the item's weight that gave the label.

    Source: Wawa ("worker agreement with aggregate", Appen; `crowdkit.aggregation.Wawa`) for `weights=agreement`.

    Args:
        votes: The votes, one a row.
        task: The task, for its classes.
        weights: Annotator -> weight from 0 on, one for each that votes; or `agreement` (usual): the share of the votes
            of an annotator on a view that give the item's `majority` label, estimated from the same votes, without
            gold.

    Returns:
        The labels table.

    Raises:
        UserError: If an annotator has no weight, or one below 0.

    Fails where most annotators make the same mistakes: they then outweigh the one who does not.
    """
    labelled = with_label(votes)
    if isinstance(weights, str):
        if weights != "agreement":
            raise UserError(f"aggregation.weights={weights!r}: want `agreement` or a weight for each annotator")
        majority_label = majority(labelled, task)["label"].reindex(labelled["item_id"])
        agrees = pd.Series(labelled["label"].to_numpy() == majority_label.to_numpy(), labelled.index, dtype=float)
        weight = agrees.groupby([labelled["annotator"], labelled["view"]]).transform("mean")
    else:
        if missing := sorted(set(labelled["annotator"]) - set(weights)):
            raise UserError(f"aggregation.weights={dict(weights)}: no weight for annotator {missing[0]!r}")
        for name, value in weights.items():
            check_number(f"aggregation.weights.{name}", value)
        weight = labelled["annotator"].map(weights).astype(float)
    has_weight = weight.groupby(labelled["item_id"]).transform("sum") > 0
    return labels_table(votes, labelled, heaviest(labelled, weight.where(has_weight, 1.0), task))
