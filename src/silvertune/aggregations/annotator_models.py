"""Aggregations that estimate how each annotator errs, without gold."""

import pandas as pd

from silvertune.aggregations.counting import labels_of_distribution, with_label
from silvertune.errors import check_whole_number
from silvertune.schema import Task


def dawid_skene(votes: pd.DataFrame, task: Task, *, n_iter: int) -> pd.DataFrame:
    """Take the most likely label, estimated together with each annotator's confusion of the classes.

    An annotator on each view is one worker of the model. With one annotator on one view there is nothing to estimate:
    the label is then that of `majority`, and its probability the share of its votes.

    Confidence: the posterior probability of the label; `prob:<class>` is the posterior. It is too high where
    annotators err together.

    Source: Dawid & Skene 1979 ("Maximum likelihood estimation of observer error-rates using the EM algorithm");
    `crowdkit.aggregation.DawidSkene`.

    Args:
        votes: The votes, one a row.
        task: The task, for its classes.
        n_iter: Iterations of EM at most, from 1; usual 100.

    Returns:
        The labels table with `prob:<class>` columns.

    Raises:
        UserError: If `n_iter` is outside its range.

    Fails where there are few votes an item: all labels may end in one class.
    """
    check_whole_number("aggregation.n_iter", n_iter, 1)
    labelled = with_label(votes)
    # In one order, whatever order the votes came in.
    table = pd.DataFrame(
        {
            "task": labelled["item_id"],
            "worker": list(zip(labelled["annotator"], labelled["view"], strict=True)),
            "label": labelled["label"],
        }
    ).sort_values(["task", "worker", "label"])
    if table["worker"].nunique() < 2:
        posterior = pd.crosstab(table["task"], table["label"], normalize="index")
    else:
        from crowdkit.aggregation import DawidSkene

        posterior = DawidSkene(n_iter=n_iter).fit_predict_proba(table)
    return labels_of_distribution(votes, labelled, posterior, task)
