"""Aggregations of the votes' distributions over the classes."""

import pandas as pd

from silvertune.aggregations.counting import labels_of_distribution, with_label
from silvertune.schema import Task
from silvertune.votes import class_scores


def mean_distribution(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The likeliest class of the mean of the votes' distributions (`silvertune.votes.class_scores`).

    Ties go to the class listed first. Confidence: that class's mean probability; `prob:<class>` is the mean.
    The soft vote of an ensemble (e.g. Kuncheva 2014, "Combining pattern classifiers", section 5.2.1, the mean rule).
    """
    return labels_of_distribution(votes, with_label(votes), class_scores(votes, task.classes).round(12), task)
