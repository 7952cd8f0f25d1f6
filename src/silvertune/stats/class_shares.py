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


def checked_shares(shares: Mapping[str, float], classes: Sequence[str], key: str) -> dict[str, float]:
    """`shares` as floats, if they are one share above 0 a class that sum to 1; UserError naming `key` otherwise."""
    numbers = all(isinstance(share, int | float) and share > 0 for share in shares.values())
    if set(shares) != set(classes) or not numbers or abs(sum(shares.values()) - 1) > 1e-3:
        raise UserError(f"{key}={dict(shares)}: want a share above 0 for each of {', '.join(classes)} that sum to 1")
    return {name: float(shares[name]) for name in classes}


def by_student(method: str, probs: pd.DataFrame, labels: pd.Series) -> dict[str, float]:
    """Class shares among all items, from a student of the labels of some: those that are easier to trust.

    method: `saerens_em`, on probabilities that are first calibrated on the labels, or `bbse`.
    probs: item_id x class, rows sum to 1, out of fold, of all items. labels: classes of some of them, which the
    student was tuned on. Both methods take it that only the shares differ between these and the others. Items
    without probabilities (nothing of them could be read) are left out.
    Returns a share for each class, 0-1, summing to 1. Raises UserError if a class has no label.
    """
    probs = probs.dropna()
    labels = labels[labels.index.isin(probs.index)]
    classes, known = list(probs.columns), probs.reindex(labels.index)
    _every_class_in(labels, classes)
    if method == "bbse":
        return bbse(labels, known.idxmax(axis=1), probs.idxmax(axis=1), classes)
    given_ = pd.Index(classes).get_indexer(pd.Index(labels))
    fitted = calibrated(probs.to_numpy(dtype=float), *calibration(known.to_numpy(dtype=float), given_))
    source = np.bincount(given_, minlength=len(classes)) / len(given_)
    return saerens_em(pd.DataFrame(fitted, columns=classes), dict(zip(classes, source, strict=True)))


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
    prior = np.array(list(checked_shares(tuned_on, classes, "tuned_on").values()))
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
    _every_class_in(labels, names)
    rates = np.array([[np.mean(said[given_ == true] == name) for true in names] for name in names])
    if np.linalg.cond(rates) > 1e6:
        raise UserError("class shares can't be estimated: the classifier does not tell the classes apart; give them")
    target = np.array([(predicted_target == name).mean() for name in names])
    shares = np.linalg.solve(rates, target).clip(0)
    return dict(zip(names, map(float, shares / shares.sum()), strict=True))


def calibration(probs: np.ndarray, given: np.ndarray) -> tuple[float, np.ndarray]:
    """Bias-corrected temperature scaling (Alexandari et al. 2020, "Maximum likelihood with bias-corrected
    calibration is hard-to-beat at label shift adaptation", section 3): a scale and a bias a class, such that
    softmax(scale x log probs + bias) fits `given` best.

    probs: (n, classes). given: (n,) class numbers. A weak pull (variance 10) to scale 1 and bias 0 keeps
    classes that are told apart without error from an infinite scale. Returns scale (> 0) and bias (classes,).
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    logs = np.log(probs.clip(1e-6, 1))

    def loss(point: np.ndarray) -> float:
        fitted = log_softmax(np.exp(point[0]) * logs + point[1:], axis=1)
        return float(-fitted[np.arange(len(given)), given].sum() + (point**2).sum() / 20)

    found = minimize(
        loss, np.zeros(1 + probs.shape[1]), method="L-BFGS-B", bounds=[(-3, 3), *[(-10, 10)] * probs.shape[1]]
    )
    return float(np.exp(found.x[0])), found.x[1:]


def calibrated(probs: np.ndarray, scale: float, bias: np.ndarray) -> np.ndarray:
    """`probs` (n, classes) after `calibration`."""
    from scipy.special import softmax

    fitted: np.ndarray = softmax(scale * np.log(probs.clip(1e-6, 1)) + bias, axis=1)
    return fitted


def _every_class_in(labels: pd.Series, classes: Sequence[str]) -> None:
    if missing := [name for name in classes if not (labels == name).any()]:
        raise UserError(f"class shares can't be estimated: no item is labelled {missing[0]!r}; give the shares")


def _not_empty(items: pd.DataFrame | pd.Series) -> None:
    if items.empty:
        raise UserError("class shares can't be estimated: there are no items; give the shares in the config")
