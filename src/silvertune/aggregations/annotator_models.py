"""Aggregations that estimate how each annotator errs, without gold."""

import numpy as np
import pandas as pd

from silvertune.aggregations.counting import labels_of_distribution, with_label
from silvertune.errors import check_whole_number
from silvertune.schema import Task

LEAST_PROBABILITY = 1e-10
"""No estimated probability is lower, so that each has a logarithm."""
LEAST_GAIN = 1e-5
"""EM ends when an iteration adds less than this to the evidence lower bound of a vote."""


def dawid_skene(votes: pd.DataFrame, task: Task, *, n_iter: int) -> pd.DataFrame:
    """Take the most likely label, estimated together with each annotator's confusion of the classes.

    An annotator on each view is one worker of the model. With one annotator on one view there is nothing to estimate:
    the label is then that of `majority`, and its probability the share of its votes.

    Confidence: the posterior probability of the label; `prob:<class>` is the posterior. It is too high where
    annotators err together.

    Source: Dawid & Skene 1979 ("Maximum likelihood estimation of observer error-rates using the EM algorithm");
    computed as by `crowdkit.aggregation.DawidSkene`.

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
    # Sorted, so that the order of the votes does not change how sums are rounded.
    item, item_ids = pd.factorize(labelled["item_id"], sort=True)
    label, classes = pd.factorize(labelled["label"], sort=True)
    worker = labelled.groupby(["annotator", "view"], dropna=False).ngroup().to_numpy()
    n_votes = np.bincount(item * len(classes) + label, minlength=len(item_ids) * len(classes))
    shares = n_votes.reshape(len(item_ids), len(classes)) / np.bincount(item, minlength=len(item_ids))[:, None]
    posterior = shares if (worker == 0).all() else _posterior(item, worker, label, shares, n_iter)
    table = pd.DataFrame(posterior, index=pd.Index(item_ids, name="item_id", dtype=object), columns=classes)
    return labels_of_distribution(votes, labelled, table, task)


def _posterior(item: np.ndarray, worker: np.ndarray, label: np.ndarray, shares: np.ndarray, n_iter: int) -> np.ndarray:
    """The probability of each class for each item (items, classes), by EM from the shares of its votes.

    `item`, `worker` and `label` are the codes of each vote.
    """
    from scipy.sparse import csr_array

    n_classes = shares.shape[1]
    # An answer is a label of a worker who gives it at least once.
    answers, answer = np.unique(worker * n_classes + label, return_inverse=True)
    votes = csr_array((np.ones(len(item)), (answer, item)), shape=(len(answers), len(shares)))  # (answers, items)
    votes_of_item = votes.sum(axis=0)
    _, first_answer, n_answers = np.unique(answers // n_classes, return_index=True, return_counts=True)

    def expected_votes(posterior: np.ndarray) -> np.ndarray:
        """How many votes with each answer are expected to be about items of each class: (answers, classes)."""
        expected: np.ndarray = votes @ posterior
        return expected

    def log_of_rates(expected: np.ndarray) -> np.ndarray:
        """M-step: the logarithm of how often a worker gives an answer to items of each class: (answers, classes)."""
        rates = np.maximum(expected, LEAST_PROBABILITY)
        logs: np.ndarray = np.log(rates / np.repeat(np.add.reduceat(rates, first_answer), n_answers, axis=0))
        return logs

    def log_of_prior(posterior: np.ndarray) -> np.ndarray:
        logs: np.ndarray = np.log(np.maximum(posterior.mean(axis=0), LEAST_PROBABILITY))
        return logs

    posterior, bound = shares, -np.inf
    log_prior, log_rates = log_of_prior(posterior), log_of_rates(expected_votes(posterior))
    for _ in range(n_iter):
        likelihood = log_prior + votes.T @ log_rates  # E-step
        posterior = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        expected = expected_votes(posterior)
        log_prior, log_rates = log_of_prior(posterior), log_of_rates(expected)
        agreement = (expected * log_rates).sum() + (votes_of_item @ posterior * log_prior).sum()
        posterior = np.maximum(posterior, LEAST_PROBABILITY)
        new_bound = (agreement - (posterior * np.log(posterior)).sum()) / len(item)
        if new_bound - bound < LEAST_GAIN:
            break
        bound = new_bound
    return posterior
