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
