"""How common each class is among unlabelled items: an estimate that needs no gold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from silvertune.errors import UserError


def mixture(scores: pd.DataFrame, labels: pd.Series) -> dict[str, float]:
    """Class shares by a Gaussian mixture over the labeler's scores, one component a class.

    The mixture model of quantification (Forman 2008, "Quantifying counts and costs via classification",
    section 2.4; McLachlan & Peel 2000): the density of the scores is a sum of one density a class, and the
    weights of the sum are the classes' shares. Fitted by EM on the log-odds of the scores, started from the
    items that the labeler put in each class, whose proportions it corrects: a labeler that over-calls a
    class puts many items with low scores there.

    scores: item_id x class, rows sum to 1 (`silvertune.votes.class_scores`).
    labels: the labelers' class of the same items.
    Returns a share for each class, 0-1, summing to 1. Deterministic.
    Raises UserError if a class has fewer than two items to start from.
    """
    from sklearn.mixture import GaussianMixture

    classes = list(scores.columns)
    probs = scores.to_numpy().clip(1e-6, 1 - 1e-6)
    odds = np.log(probs[:, 1:]) - np.log(probs[:, :1])
    given = labels.reindex(scores.index).to_numpy()
    members = [odds[given == name] for name in classes]
    if short := [name for name, rows in zip(classes, members, strict=True) if len(rows) < 2]:
        raise UserError(
            f"class shares can't be estimated: fewer than 2 items are labelled {', '.join(map(repr, short))}; "
            "give the shares in the config"
        )
    fit = GaussianMixture(
        len(classes),
        covariance_type="diag",
        reg_covar=1e-4,
        max_iter=500,
        weights_init=np.array([len(rows) for rows in members]) / sum(map(len, members)),
        means_init=np.stack([rows.mean(axis=0) for rows in members]),
        precisions_init=np.stack([1 / (rows.var(axis=0) + 1e-4) for rows in members]),
        random_state=0,
    ).fit(odds)
    return {name: float(weight) for name, weight in zip(classes, fit.weights_, strict=True)}


def given(shares: Mapping[str, float], classes: Sequence[str], key: str) -> dict[str, float]:
    """`shares` as floats, if they are one share above 0 a class that sum to 1; UserError naming `key` otherwise."""
    if set(shares) != set(classes) or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-3:
        raise UserError(f"{key}={dict(shares)}: want a share above 0 for each of {', '.join(classes)} that sum to 1")
    return {name: float(shares[name]) for name in classes}


def saerens_em(probs: pd.DataFrame, tuned_on: Mapping[str, float], *, rounds: int = 1000) -> dict[str, float]:
    """Class shares by EM on a classifier's probabilities (Saerens, Latinne & Decaestecker 2002, section 2.2).

    The share of a class is the mean of its probabilities once these are corrected for the share itself, until
    nothing moves: the maximum likelihood estimate if only the shares differ between the training set and the
    items, and the probabilities are calibrated on the training set. They are not where the training labels
    are noisy or the items are the ones tuned on: take out-of-fold probabilities.

    probs: item_id x class, rows sum to 1, of a classifier. tuned_on: class -> its share (above 0) among the labels
    that the classifier was tuned on; 1 / number of classes each if it was class-balanced.
    Returns a share for each class, 0-1, summing to 1. Raises UserError for shares that are none, or no items.
    """
    _not_empty(probs)
    classes = list(probs.columns)
    prior = np.array(list(given(tuned_on, classes, "tuned_on").values()))
    likelihood = probs.to_numpy(dtype=float).clip(1e-12) / prior
    shares = prior
    for _ in range(rounds):
        joint = likelihood * shares
        found = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(found - shares).max() < 1e-9:
            break
        shares = found
    return dict(zip(classes, map(float, shares), strict=True))


def bbse(
    labels: pd.Series, predicted: pd.Series, predicted_target: pd.Series, classes: Sequence[str]
) -> dict[str, float]:
    """Class shares by inverting a confusion matrix (Lipton, Wang & Smola 2018, "Detecting and correcting for label
    shift with black box predictors", section 3; Forman's adjusted count 2008, for any number of classes).

    Consistent if only the shares differ between the labelled items and the target, and the labels are right.
    Wrong labels that the classifier repeats look like right ones here, so it can't see noise of that kind.

    labels, predicted: classes of the labelled items, given and by a classifier that did not see them, indexed alike.
    predicted_target: classes by the same classifier of the items whose shares are wanted.
    Returns a share for each class, 0-1, summing to 1 (negative solutions are cut at 0: section 4).
    Raises UserError if a class has no label, or the classifier does not tell the classes apart at all.
    """
    names = list(classes)
    _not_empty(predicted_target)
    given_, said = (names_of.to_numpy(dtype=object) for names_of in (labels, predicted.reindex(labels.index)))
    if missing := [name for name in names if not (given_ == name).any()]:
        raise UserError(f"class shares can't be estimated: no item is labelled {missing[0]!r}; give the shares")
    rates = np.array([[np.mean(said[given_ == true] == name) for true in names] for name in names])
    if np.linalg.cond(rates) > 1e6:
        raise UserError("class shares can't be estimated: the classifier does not tell the classes apart; give them")
    target = np.array([(predicted_target == name).mean() for name in names])
    shares = np.linalg.solve(rates, target).clip(0)
    return dict(zip(names, map(float, shares / shares.sum()), strict=True))


def best_bin(positive: np.ndarray, unlabelled: np.ndarray, *, confidence: float = 0.9) -> float:
    """The share of a class among unlabelled items, from some that are known to be of it (Best Bin Estimation:
    Garg, Wu, Smola, Balakrishnan & Lipton 2021, "Mixture proportion estimation and PU learning", algorithm 1).

    If some scores are reached by items of the class alone, then above them the unlabelled are rarer than the
    known by just the share. An upper bound for it elsewhere. Two classes: theirs against the rest.
    Fails where the known are not like the others of their class (labels picked because they are easy).

    positive: scores, higher is more of the class, of items known to be of it, by a classifier that did not see
    them. unlabelled: scores of the items whose share is wanted, by the same classifier. confidence: 1 - delta.
    Returns a share, 0-1. Raises UserError without scores on either side.
    """
    if not len(positive) or not len(unlabelled):
        raise UserError(
            "class shares can't be estimated: want scores of known and of unlabelled items; give the shares"
        )
    cuts = np.unique(positive)
    above_known = 1 - np.searchsorted(np.sort(positive), cuts, side="left") / len(positive)
    above = 1 - np.searchsorted(np.sort(unlabelled), cuts, side="left") / len(unlabelled)
    doubt = sum(np.sqrt(np.log(4 / (1 - confidence)) / (2 * n)) for n in (len(positive), len(unlabelled)))
    # Algorithm 1 with gamma = 0.01, as in their experiments: the cut whose upper bound is the lowest.
    best = int(np.argmin(above / above_known + 1.01 * doubt / above_known))
    return float(min(above[best] / above_known[best], 1.0))


def _not_empty(items: pd.DataFrame | pd.Series) -> None:
    if items.empty:
        raise UserError("class shares can't be estimated: there are no items; give the shares in the config")
