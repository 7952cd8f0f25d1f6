"""Estimates of how common each class is among unlabelled items, without gold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from silvertune.errors import UserError


def mixture(scores: pd.DataFrame, labels: pd.Series) -> dict[str, float]:
    """Estimate class shares by a Gaussian mixture over the labeler's scores, one component a class.

    The density of the scores is a sum of one density a class, and the weights of the sum are the classes' shares. EM
    on the log-odds of the scores starts from the items that the labeler put in each class and corrects their
    proportions: a labeler that over-calls a class puts many items with low scores there.

    Source: the mixture model of quantification (Forman 2008, "Quantifying counts and costs via classification",
    section 2.4; McLachlan & Peel 2000).

    Args:
        scores: item_id x class, 0-1, rows sum to 1.
        labels: The labeler's class of the same items.

    Returns:
        Class -> share, 0-1, summing to 1. The same for the same input.

    Raises:
        UserError: If a class has fewer than two items to start from.
    """
    from sklearn.mixture import GaussianMixture

    classes = list(scores.columns)
    probs = scores.to_numpy().clip(1e-6, 1 - 1e-6)
    odds = np.log(probs[:, 1:]) - np.log(probs[:, :1])
    label = labels.reindex(scores.index).to_numpy()
    members = [odds[label == name] for name in classes]
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


def checked_shares(shares: Mapping[str, float], classes: Sequence[str], key: str) -> dict[str, float]:
    """Refuse shares that are not one above 0 for each class, summing to 1.

    Args:
        shares: Class -> share.
        classes: The classes.
        key: The configuration key, for the message.

    Returns:
        Class -> share, as floats, in the order of `classes`.

    Raises:
        UserError: If a class has no share, or they do not sum to 1.
    """
    numbers = all(isinstance(share, int | float) and share > 0 for share in shares.values())
    if set(shares) != set(classes) or not numbers or abs(sum(shares.values()) - 1) > 1e-3:
        raise UserError(f"{key}={dict(shares)}: want a share above 0 for each of {', '.join(classes)} that sum to 1")
    return {name: float(shares[name]) for name in classes}


def by_student(method: str, probs: pd.DataFrame, labels: pd.Series) -> dict[str, float]:
    """Estimate class shares among all items from a student that was tuned on the labels of some of them.

    Both methods assume that only the shares differ between the labelled items and the others. Items without
    probabilities (no view of theirs could be read) are left out.

    Args:
        method: `saerens_em`, on probabilities that are first calibrated on the labels, or `bbse`.
        probs: item_id x class, 0-1, rows sum to 1: out-of-fold probabilities of all items.
        labels: The classes of the items that the student was tuned on, by item_id.

    Returns:
        Class -> share, 0-1, summing to 1.

    Raises:
        UserError: If a class has no label, or the student does not tell the classes apart.
    """
    probs = probs.dropna()
    labels = labels[labels.index.isin(probs.index)]
    classes, labelled_probs = list(probs.columns), probs.reindex(labels.index)
    _every_class_in(labels, classes)
    if method == "bbse":
        return bbse(labels, labelled_probs.idxmax(axis=1), probs.idxmax(axis=1), classes)
    label_codes = pd.Index(classes).get_indexer(pd.Index(labels))
    fitted = calibrated(probs.to_numpy(dtype=float), *calibration(labelled_probs.to_numpy(dtype=float), label_codes))
    tuned_on = np.bincount(label_codes, minlength=len(classes)) / len(label_codes)
    return saerens_em(pd.DataFrame(fitted, columns=classes), dict(zip(classes, tuned_on, strict=True)))


def saerens_em(probs: pd.DataFrame, tuned_on: Mapping[str, float], *, rounds: int = 1000) -> dict[str, float]:
    """Estimate class shares by EM on a classifier's probabilities.

    Each round sets the share of a class to the mean of its probabilities, corrected for the shares of the round
    before, until no share changes. This is the maximum likelihood estimate if only the shares differ between the
    training set and the items, and the probabilities are calibrated. They are not calibrated where the training labels
    are noisy, or on the items that the classifier was tuned on: use out-of-fold probabilities.

    Source: Saerens, Latinne & Decaestecker 2002 ("Adjusting the outputs of a classifier to new a priori
    probabilities"), section 2.2.

    Args:
        probs: item_id x class, 0-1, rows sum to 1, by the classifier.
        tuned_on: Class -> its share (above 0) among the labels that the classifier was tuned on; 1 / number of classes
            each if it was class-balanced.
        rounds: How many rounds of EM at most.

    Returns:
        Class -> share, 0-1, summing to 1.

    Raises:
        UserError: If `tuned_on` has no share for a class, or there are no items.
    """
    _not_empty(probs)
    classes = list(probs.columns)
    prior = np.array(list(checked_shares(tuned_on, classes, "tuned_on").values()))
    likelihood = probs.to_numpy(dtype=float).clip(1e-12) / prior
    shares = prior
    for _ in range(rounds):
        joint = likelihood * shares
        next_shares = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(next_shares - shares).max() < 1e-9:
            break
        shares = next_shares
    return dict(zip(classes, map(float, shares), strict=True))


def bbse(
    labels: pd.Series, predicted: pd.Series, predicted_target: pd.Series, classes: Sequence[str]
) -> dict[str, float]:
    """Estimate class shares by inverting a confusion matrix (black box shift estimation).

    The estimate is consistent if only the shares differ between the labelled items and the target, and the labels are
    right. It can't see wrong labels that the classifier repeats: they look like right ones.

    Source: Lipton, Wang & Smola 2018 ("Detecting and correcting for label shift with black box predictors"), section 3;
    it is the adjusted count of Forman 2008 for any number of classes.

    Args:
        labels: The classes of the labelled items.
        predicted: Their classes by a classifier that did not see them, indexed alike.
        predicted_target: The classes, by the same classifier, of the items whose shares are estimated.
        classes: The classes.

    Returns:
        Class -> share, 0-1, summing to 1 (negative solutions become 0: section 4).

    Raises:
        UserError: If a class has no label, or the classifier does not tell the classes apart at all.
    """
    names = list(classes)
    _not_empty(predicted_target)
    label, prediction = (series.to_numpy(dtype=object) for series in (labels, predicted.reindex(labels.index)))
    _every_class_in(labels, names)
    rates = np.array([[np.mean(prediction[label == true] == name) for true in names] for name in names])
    if np.linalg.cond(rates) > 1e6:
        raise UserError("class shares can't be estimated: the classifier does not tell the classes apart; give them")
    target = np.array([(predicted_target == name).mean() for name in names])
    shares = np.linalg.solve(rates, target).clip(0)
    return dict(zip(names, map(float, shares / shares.sum()), strict=True))


def calibration(probs: np.ndarray, label_codes: np.ndarray) -> tuple[float, np.ndarray]:
    """Fit bias-corrected temperature scaling: softmax(scale x log probs + bias) fits the labels best.

    A weak prior (variance 10) towards scale 1 and bias 0 prevents an infinite scale where the classes are told apart
    without error.

    Source: Alexandari et al. 2020 ("Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift
    adaptation"), section 3.

    Args:
        probs: (n, classes) 0-1, rows sum to 1.
        label_codes: (n,) the column of each item's label.

    Returns:
        The scale (above 0) and the bias (classes,).
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    logs = np.log(probs.clip(1e-6, 1))

    def loss(point: np.ndarray) -> float:
        fitted = log_softmax(np.exp(point[0]) * logs + point[1:], axis=1)
        return float(-fitted[np.arange(len(label_codes)), label_codes].sum() + (point**2).sum() / 20)

    optimum = minimize(
        loss, np.zeros(1 + probs.shape[1]), method="L-BFGS-B", bounds=[(-3, 3), *[(-10, 10)] * probs.shape[1]]
    )
    return float(np.exp(optimum.x[0])), optimum.x[1:]


def calibrated(probs: np.ndarray, scale: float, bias: np.ndarray) -> np.ndarray:
    """Apply `calibration` to probabilities.

    Args:
        probs: (n, classes) 0-1, rows sum to 1.
        scale: The scale.
        bias: (classes,) the bias.

    Returns:
        (n, classes) calibrated probabilities, rows sum to 1.
    """
    from scipy.special import softmax

    fitted: np.ndarray = softmax(scale * np.log(probs.clip(1e-6, 1)) + bias, axis=1)
    return fitted


def _every_class_in(labels: pd.Series, classes: Sequence[str]) -> None:
    if missing := [name for name in classes if not (labels == name).any()]:
        raise UserError(f"class shares can't be estimated: no item is labelled {missing[0]!r}; give the shares")


def _not_empty(items: pd.DataFrame | pd.Series) -> None:
    if items.empty:
        raise UserError("class shares can't be estimated: there are no items; give the shares in the config")
