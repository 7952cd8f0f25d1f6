"""The filter that tunes students to find the wrong labels, and again on what is left of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.filters.selection import views_agree, whole, within

FEWEST = 50
"""Distinct scores of a class below which no two components are looked for."""
RESAMPLES = 99
"""Bootstrap samples of a class in each of which its two components must stand apart."""


def iterated(
    votes: pd.DataFrame,
    labels: pd.DataFrame,
    out_of_fold: Callable[[pd.Series], pd.DataFrame],
    *,
    agreed_only: bool,
    separation: float,
    rounds: int,
    settled: float,
) -> pd.DataFrame:
    """Keep the labels of each class that a student, tuned without them, puts in the better of two groups.

    A student is tuned on the labels that the views agree on and scores every label out of fold. Of each class, the
    scores of its labels are split into two Gaussians; where these stand apart, the labels in the lower one are
    dropped, where they don't, the class is kept whole. The next student is tuned on what is left; all the first
    labels are judged again, so nothing that was dropped is lost, and no round can drift away from the labels.

    Source: the two-component mixture, one half clean, is DivideMix's (Li, Socher & Hoi 2020, section 3.1), here by
    class, over out-of-fold log-odds (one dimension a view) instead of training losses; refiltering by a new student
    each round is the iterative partitioning filter's (Khoshgoftaar & Rebours 2007); "apart" is Ashman's D (Ashman,
    Bird & Zepf 1994: above 2 is a clean separation), as Mahalanobis distance over the views. Chance sets the halves
    of one cloud as far apart, so they must be in each of 99 bootstrap samples of the class's labels too.

    agreed_only: begin with the labels that the item's views agree on, each by the most of its votes, and drop the
        others. With one view, the others are those that the aggregation did not take from the most votes.
    separation: D from which two components are two groups, in standard deviations.
    rounds: at most so many students. settled: stop when less than this share (0-1) of the labels changes.
    Score: the posterior probability, 0-1, of the better group; 1 in a class that is kept whole.
    Fails where the errors of a class are most of it and look alike (they are then the better group), and where a
    class has two kinds of items (the rarer-looking kind is dropped).
    """
    if isinstance(separation, bool) or not isinstance(separation, int | float) or not separation >= 0:
        raise UserError(f"filter.iterated.separation={separation}: want a number from 0 on")
    whole("filter.iterated.rounds", rounds, 1)
    within("filter.iterated.settled", settled)
    candidates = labels["label"].dropna().sort_index()
    if agreed_only:
        candidates = candidates[views_agree(votes, candidates)]
    kept = pd.Series(True, index=candidates.index)
    score = pd.Series(1.0, index=candidates.index)
    for _ in range(rounds):
        if candidates[kept].nunique() < 2:
            break
        score = _better_group(_odds(out_of_fold(candidates[kept]), candidates), candidates, separation)
        changed = ((score > 0.5) != kept).mean()
        kept = score > 0.5
        if changed < settled:
            break
    keep = pd.Series(False, index=labels.index)
    keep[kept.index[kept]] = True
    return pd.DataFrame({"keep": keep, "score": score.reindex(labels.index)})


def _odds(probs: pd.DataFrame, labels: pd.Series) -> np.ndarray:
    """Log-odds of each item's label, (items, views); a view that an item lacks has the mean of its others, or 0."""
    column = probs.columns.get_indexer(pd.Index(labels.reindex(probs.index.get_level_values("item_id"))))
    own = np.where(column >= 0, probs.to_numpy(dtype=float)[np.arange(len(probs)), column], 0.0).clip(1e-6, 1 - 1e-6)
    by_view = pd.Series(np.log(own / (1 - own)), index=probs.index).unstack("view").reindex(labels.index)
    filled: np.ndarray = by_view.T.fillna(by_view.mean(axis=1)).T.fillna(0.0).to_numpy()
    return filled


def _better_group(odds: np.ndarray, labels: pd.Series, separation: float) -> pd.Series:
    """The posterior of the component of higher odds within the label's class; 1 where there is one group only."""
    from threadpoolctl import threadpool_limits

    score = pd.Series(1.0, index=labels.index)
    # Hundreds of fits of a few hundred points: threads would wait for each other, on a busy machine for minutes.
    with threadpool_limits(1):
        for name in sorted(labels.unique()):
            own = (labels == name).to_numpy()
            score[own] = _upper(odds[own], separation)
    return score


def _upper(odds: np.ndarray, separation: float) -> np.ndarray:
    if len(np.unique(odds, axis=0)) < FEWEST:
        return np.ones(len(odds))
    two = _mixture(odds)
    if not _apart(odds, two, separation):
        return np.ones(len(odds))
    low, high = np.argsort(two.means_.sum(axis=1))
    direction = np.linalg.solve(two.covariances_.mean(axis=0), two.means_[high] - two.means_[low])
    # A wide component has the posterior on both sides of a narrow one: beyond the means, the side decides.
    along, (lower, upper) = odds @ direction, two.means_[[low, high]] @ direction
    posterior: np.ndarray = two.predict_proba(odds)[:, high]
    return np.where(along <= lower, 0.0, np.where(along >= upper, 1.0, posterior))


def _mixture(odds: np.ndarray, like: Any = None) -> Any:
    """Two Gaussians; looked for from where those of `like` are, if given."""
    from sklearn.mixture import GaussianMixture

    if like is None:
        return GaussianMixture(2, n_init=3, random_state=0).fit(odds)
    return GaussianMixture(2, weights_init=like.weights_, means_init=like.means_, random_state=0).fit(odds)


def _apart(odds: np.ndarray, two: Any, separation: float) -> bool:
    """Whether the components are apart, and would be in other samples of the same items."""
    if _distance(two) < separation:
        return False
    rng = np.random.default_rng(0)
    draws = (odds[rng.integers(len(odds), size=len(odds))] for _ in range(RESAMPLES))
    return all(_distance(_mixture(drawn, two)) >= separation for drawn in draws)


def _distance(two: Any) -> float:
    """Ashman's D: between the means, in standard deviations (the root of the mean variance), along their line."""
    apart = two.means_[1] - two.means_[0]
    return float(np.sqrt(apart @ np.linalg.solve(two.covariances_.mean(axis=0), apart)))
