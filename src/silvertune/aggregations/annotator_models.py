"""Aggregations that estimate how each annotator errs, without gold."""

import pandas as pd

from silvertune.aggregations.counting import labels_of_distribution, with_label
from silvertune.schema import Task


def dawid_skene(votes: pd.DataFrame, task: Task, *, n_iter: int) -> pd.DataFrame:
    """The most likely label, each annotator's confusion of the classes being estimated along with the labels.

    Source: Dawid & Skene 1979; `crowdkit.aggregation.DawidSkene`. An annotator on each view is one of its workers.
    n_iter: of EM, at most; 100 is usual.
    Confidence: the posterior probability of the label; `prob:<class>` is the posterior. It is too sure of itself
    where annotators err together. With one annotator on one view there is nothing to estimate: the label is then
    that of `majority`, and the posterior the share of its votes.
    Fails with few votes an item: all labels may end in one class.
    """
    cast = with_label(votes)
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
    return labels_of_distribution(votes, cast, posterior, task)
