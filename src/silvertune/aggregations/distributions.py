"""Aggregations of the votes' distributions over the classes."""

import pandas as pd

from silvertune.aggregations.counting import labels_of_distribution, with_label
from silvertune.schema import Task
from silvertune.votes import class_scores


def mean_distribution(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Take the likeliest class of the mean of the votes' distributions (`silvertune.votes.class_scores`).

    Ties go to the class listed first.

    Confidence: the mean probability of the label; `prob:<class>` is the mean.

    Source: the soft vote of an ensemble: the mean rule (Kuncheva 2014, "Combining pattern classifiers", section 5.2.1).

    Args:
        votes: The votes, one a row.
        task: The task, for its classes.

    Returns:
        The labels table with `prob:<class>` columns.

    Fails where the annotators' probabilities mean different things: one that is always sure then decides.
    """
    return labels_of_distribution(votes, with_label(votes), class_scores(votes, task.classes).round(12), task)
