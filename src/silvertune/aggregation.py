"""Votes -> one label per item.

Every function takes `(votes, task, ...)` and returns the *labels* table, indexed by `item_id`: `label` (a
class name, or None where no vote had a label), `confidence` (0-1; each function says what it means; NaN where it
would be a vote's own and there is none) and `n_votes` (votes that had a label). Votes without a label are left
out of the count everywhere; each function says if they matter otherwise. An aggregation that knows a distribution
over the classes adds it as `prob:<class>` (rows sum to 1, NaN where no vote had a label): soft labels, for a
model that takes them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.schema import Task
from silvertune.votes import class_scores, none_if_null, prob_columns


def any_view(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Positive if any vote is positive (Kumar et al. 2024, section 3: the decision of every model).

    Otherwise the most frequent label. Confidence: the highest among the positive votes; of a negative
    label, the lowest among its votes, as one doubtful view is enough to overturn it.
    """
    positive = _positive(task, "any_view")
    cast = _cast(votes)
    is_positive = cast["label"] == positive
    lost = cast[~cast["item_id"].isin(cast.loc[is_positive, "item_id"])]
    return _labels(
        votes,
        cast,
        pd.concat(
            [
                _extreme(cast[is_positive], "max").assign(label=positive),
                _modal(lost, task)[["label"]].join(_extreme(lost, "min")),
            ]
        ),
    )


def all_views(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Positive only if every vote is positive; otherwise the most frequent of the other labels.

    Confidence: the lowest among the votes of a positive label; the highest among those against it.
    """
    positive = _positive(task, "all_views")
    cast = _cast(votes)
    against = cast[cast["label"] != positive]
    unanimous = cast[~cast["item_id"].isin(against["item_id"])]
    return _labels(
        votes,
        cast,
        pd.concat(
            [
                _extreme(unanimous, "min").assign(label=positive),
                _modal(against, task)[["label"]].join(_extreme(against, "max")),
            ]
        ),
    )


def majority(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The most frequent label; ties go to the higher summed confidence, then to the class listed first.

    Confidence: the share of the votes with a label that gave it.
    """
    cast = _cast(votes)
    return _labels(votes, cast, _modal(cast, task))


def first(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The first vote that has a label, in the order of the table (the rule of the paper's panel).

    Confidence: that vote's own.
    """
    cast = _cast(votes)
    return _labels(votes, cast, cast.drop_duplicates("item_id").set_index("item_id")[["label", "confidence"]])


def weighted_majority(votes: pd.DataFrame, task: Task, *, weights: Mapping[str, float] | str) -> pd.DataFrame:
    """The label with the most weight behind it; ties go to the class listed first.

    weights: annotator -> weight, from 0 on, one for each that votes; or `agreement`: the share of the votes of an
        annotator on a view that give the item's `majority` label, as Wawa does ("worker agreement with aggregate",
        Appen; `crowdkit.aggregation.Wawa`), estimated from the same votes, without gold.
    Confidence: the share of the weight that gave it. Where all weights of an item are 0, its votes count alike.
    Fails where most annotators err alike: they then outweigh the one who does not.
    """
    cast = _cast(votes)
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
    return _labels(votes, cast, _heaviest(cast, weight.where(heard, 1.0), task))


def dawid_skene(votes: pd.DataFrame, task: Task, *, n_iter: int) -> pd.DataFrame:
    """The most likely label, each annotator's confusion of the classes being estimated along with the labels.

    Source: Dawid & Skene 1979; `crowdkit.aggregation.DawidSkene`. An annotator on each view is one of its workers.
    n_iter: of EM, at most; 100 is usual.
    Confidence: the posterior probability of the label; `prob:<class>` is the posterior. It is too sure of itself
    where annotators err together. With one annotator on one view there is nothing to estimate: the label is then
    that of `majority`, and the posterior the share of its votes.
    Fails with few votes an item: all labels may end in one class.
    """
    cast = _cast(votes)
    # In one order, whatever order the votes came in.
    table = pd.DataFrame(
        {
            "task": cast["item_id"],
            "worker": list(zip(cast["annotator"], cast["view"], strict=True)),
            "label": cast["label"],
        }
    ).sort_values(["task", "worker", "label"])
    if table["worker"].nunique() < 2:
        posterior = pd.crosstab(table["task"], table["label"], normalize="index")
    else:
        from crowdkit.aggregation import DawidSkene

        posterior = DawidSkene(n_iter=n_iter).fit_predict_proba(table)
    return _soft(votes, cast, posterior, task)


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
    cast = _cast(votes)
    differ = cast.groupby("item_id", sort=False)["label"].transform("nunique") > 1
    agreed = cast[~differ & (cast["label"] != negative)]
    lost = pd.Index(cast.loc[differ | (cast["label"] == negative), "item_id"].unique(), name="item_id")
    for_it = cast[cast["label"] == negative]
    against = _extreme(for_it, "max")["confidence"].reindex(lost)
    against = against.where(lost.isin(for_it["item_id"]), 0.0)
    return _labels(
        votes,
        cast,
        pd.concat(
            [
                _modal(agreed, task)[["label"]].join(_extreme(agreed, "min")),
                pd.DataFrame({"label": negative, "confidence": against}, index=lost),
            ]
        ),
    )


def mean_distribution(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The likeliest class of the mean of the votes' distributions (`silvertune.votes.class_scores`).

    Ties go to the class listed first. Confidence: that class's mean probability; `prob:<class>` is the mean.
    The soft vote of an ensemble (e.g. Kuncheva 2014, "Combining pattern classifiers", section 5.2.1, the mean rule).
    """
    return _soft(votes, _cast(votes), class_scores(votes, task.classes).round(12), task)


def _positive(task: Task, name: str) -> str:
    if task.positive is None:
        raise UserError(
            f"aggregation={name} needs task.positive, and task {task.name!r} has none: use aggregation=majority"
        )
    return task.positive


def _cast(votes: pd.DataFrame) -> pd.DataFrame:
    return votes[votes["label"].notna()]


def _extreme(cast: pd.DataFrame, which: str) -> pd.DataFrame:
    """The highest or lowest confidence of each item's votes that have one; NaN where none has."""
    return cast.set_index("item_id")["confidence"].groupby(level="item_id", sort=False).agg(which).to_frame()


def _modal(cast: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Each item's most frequent label and the share of its votes, from one item x class count."""
    counts = _tally(cast, pd.Series(1.0, cast.index), task)
    # Summed confidence is below the number of votes, so a fraction of it only ever breaks ties; argmax
    # takes the class listed first where even that is equal.
    sure = _tally(cast, cast["confidence"].fillna(1.0), task)
    return _shares(counts, counts + sure / (sure.to_numpy().max(initial=0.0) + 1.0) / 2)


def _heaviest(cast: pd.DataFrame, weight: pd.Series, task: Task) -> pd.DataFrame:
    """Each item's label with the most weight, and the share of its weight."""
    total = _tally(cast, weight, task)
    return _shares(total, total)


def _tally(cast: pd.DataFrame, weight: pd.Series, task: Task) -> pd.DataFrame:
    """The summed weight of each item's votes for each class: item_id x class, items in the order of the votes.

    Rounded, so that a tie stays one whatever order the weights were summed in.
    """
    items, ids = pd.factorize(cast["item_id"])
    shape = (len(ids), len(task.classes))
    cell = items * shape[1] + pd.Categorical(cast["label"], categories=list(task.classes)).codes
    total = np.bincount(cell, weights=weight, minlength=shape[0] * shape[1]).reshape(shape).round(9)
    return pd.DataFrame(total, index=pd.Index(ids, name="item_id", dtype=object), columns=list(task.classes))


def _shares(total: pd.DataFrame, order: pd.DataFrame) -> pd.DataFrame:
    """Each item's label, the first that is highest in `order`, and that label's share of `total`."""
    best = order.to_numpy().argmax(axis=1)
    values = total.to_numpy()
    return pd.DataFrame(
        {
            "label": np.asarray(total.columns, dtype=object)[best],
            "confidence": values[np.arange(len(values)), best] / values.sum(axis=1),
        },
        index=total.index,
    )


def _soft(votes: pd.DataFrame, cast: pd.DataFrame, posterior: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Labels by a distribution over the classes (item x class), which is added to them."""
    probs = posterior.reindex(columns=list(task.classes)).fillna(0.0).clip(0.0, 1.0).astype(float)
    best = probs.to_numpy().argmax(axis=1) if len(probs) else np.empty(0, dtype=int)
    label = np.asarray(task.classes, dtype=object)[best]
    chosen = pd.DataFrame({"label": label, "confidence": probs.max(axis=1)}, index=probs.index)
    labels = _labels(votes, cast, chosen)
    return labels.join(probs.set_axis(prob_columns(task.classes), axis=1))


def _labels(votes: pd.DataFrame, cast: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    ids = pd.Index(votes["item_id"].unique(), name="item_id", dtype=object)
    labels = chosen.reindex(ids)[["label", "confidence"]]
    labels["label"] = none_if_null(labels["label"])
    labels["confidence"] = labels["confidence"].astype(float)
    labels["n_votes"] = cast["item_id"].value_counts().reindex(ids, fill_value=0).astype(int)
    return labels
