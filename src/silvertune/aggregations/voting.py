"""Aggregations that count the votes of several annotators."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from silvertune.aggregations.counting import heaviest, labels_table, most_frequent, with_label
from silvertune.errors import UserError
from silvertune.schema import Task


def majority(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The most frequent label; ties go to the higher summed confidence, then to the class listed first.

    Confidence: the share of the votes with a label that gave it.
    """
    cast = with_label(votes)
    return labels_table(votes, cast, most_frequent(cast, task))


def first(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The first vote that has a label, in the order of the table (the rule of the paper's panel).

    Confidence: that vote's own.
    """
    cast = with_label(votes)
    return labels_table(votes, cast, cast.drop_duplicates("item_id").set_index("item_id")[["label", "confidence"]])


def weighted_majority(votes: pd.DataFrame, task: Task, *, weights: Mapping[str, float] | str) -> pd.DataFrame:
    """The label with the most weight behind it; ties go to the class listed first.

    weights: annotator -> weight, from 0 on, one for each that votes; or `agreement`: the share of the votes of an
        annotator on a view that give the item's `majority` label, as Wawa does ("worker agreement with aggregate",
        Appen; `crowdkit.aggregation.Wawa`), estimated from the same votes, without gold.
    Confidence: the share of the weight that gave it. Where all weights of an item are 0, its votes count alike.
    Fails where most annotators err alike: they then outweigh the one who does not.
    """
    cast = with_label(votes)
    if isinstance(weights, str):
        if weights != "agreement":
            raise UserError(f"aggregation.weights={weights!r}: want `agreement` or a weight for each annotator")
        agrees = cast["label"].to_numpy() == majority(cast, task)["label"].reindex(cast["item_id"]).to_numpy()
        weight = (
            pd.Series(agrees.astype(float), cast.index).groupby([cast["annotator"], cast["view"]]).transform("mean")
        )
    else:
        if missing := sorted(set(cast["annotator"]) - set(weights)):
            raise UserError(f"aggregation.weights={dict(weights)}: no weight for annotator {missing[0]!r}")
        if wrong := [name for name, value in weights.items() if not 0 <= value < np.inf]:
            raise UserError(f"aggregation.weights.{wrong[0]}={weights[wrong[0]]}: want a number from 0")
        weight = cast["annotator"].map(weights).astype(float)
    heard = weight.groupby(cast["item_id"]).transform("sum") > 0
    return labels_table(votes, cast, heaviest(cast, weight.where(heard, 1.0), task))
