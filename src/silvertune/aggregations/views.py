"""Aggregations for one annotator's votes on several views of an item."""

import pandas as pd

from silvertune.aggregations.counting import extreme_confidence, labels_table, most_frequent, with_label
from silvertune.errors import UserError
from silvertune.schema import Task


def any_view(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Positive if any vote is positive (Kumar et al. 2024, section 3: the decision of every model).

    Otherwise the most frequent label. Confidence: the highest among the positive votes; of a negative
    label, the lowest among its votes, as one doubtful view is enough to overturn it.
    """
    positive = _positive(task, "any_view")
    cast = with_label(votes)
    is_positive = cast["label"] == positive
    lost = cast[~cast["item_id"].isin(cast.loc[is_positive, "item_id"])]
    return labels_table(
        votes,
        cast,
        pd.concat(
            [
                extreme_confidence(cast[is_positive], "max").assign(label=positive),
                most_frequent(lost, task)[["label"]].join(extreme_confidence(lost, "min")),
            ]
        ),
    )


def all_views(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Positive only if every vote is positive; otherwise the most frequent of the other labels.

    Confidence: the lowest among the votes of a positive label; the highest among those against it.
    """
    positive = _positive(task, "all_views")
    cast = with_label(votes)
    against = cast[cast["label"] != positive]
    unanimous = cast[~cast["item_id"].isin(against["item_id"])]
    return labels_table(
        votes,
        cast,
        pd.concat(
            [
                extreme_confidence(unanimous, "min").assign(label=positive),
                most_frequent(against, task)[["label"]].join(extreme_confidence(against, "max")),
            ]
        ),
    )


def and_relabel(votes: pd.DataFrame, task: Task, *, negative: str | None) -> pd.DataFrame:
    """The label that all votes agree on; where they differ, the negative class.

    The control that Kumar et al. 2024 lack: what the filter would drop is relabelled by AND instead. With two
    classes it is `all_views`; here more may agree, and no `task.positive` is needed.
    negative: the class of disagreements; null is the one that is not task.positive, of two.
    Confidence: the lowest among the votes that agree; of a negative label the highest among those for it, 0 if none.
    """
    if negative is None:
        others = [name for name in task.classes if name != task.positive]
        if len(others) != 1:
            raise UserError(f"aggregation.negative=null: say which class disagreements get: {', '.join(task.classes)}")
        negative = others[0]
    if negative not in task.classes:
        raise UserError(f"aggregation.negative={negative!r}: is no class; want one of {', '.join(task.classes)}")
    cast = with_label(votes)
    differ = cast.groupby("item_id", sort=False)["label"].transform("nunique") > 1
    agreed = cast[~differ & (cast["label"] != negative)]
    lost = pd.Index(cast.loc[differ | (cast["label"] == negative), "item_id"].unique(), name="item_id")
    for_it = cast[cast["label"] == negative]
    against = extreme_confidence(for_it, "max")["confidence"].reindex(lost)
    against = against.where(lost.isin(for_it["item_id"]), 0.0)
    return labels_table(
        votes,
        cast,
        pd.concat(
            [
                most_frequent(agreed, task)[["label"]].join(extreme_confidence(agreed, "min")),
                pd.DataFrame({"label": negative, "confidence": against}, index=lost),
            ]
        ),
    )


def _positive(task: Task, name: str) -> str:
    if task.positive is None:
        raise UserError(
            f"aggregation={name} needs task.positive, and task {task.name!r} has none: use aggregation=majority"
        )
    return task.positive
