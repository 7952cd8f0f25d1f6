"""The filter that tunes students to find wrong labels, each student on the labels that the one before left."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from silvertune.errors import check_number, check_whole_number
from silvertune.filters.selection import views_agree

FEWEST = 50
"""A class with fewer distinct scores is not split into two components."""
RESAMPLES = 99
"""Bootstrap samples of a class; its two components must be apart in each of them."""


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
    scores of its labels are split into two Gaussians. Where these are apart, the labels in the lower one are dropped;
    where they are not, the class is kept as it is. The next student is tuned on the labels that are left. Each student
    judges all the first labels again, so a label that was dropped can return.

    Source: the two-component mixture, one half clean, is DivideMix's (Li, Socher & Hoi 2020, section 3.1), here by
    class, over out-of-fold log-odds (one dimension a view) instead of training losses; refiltering by a new student
    each round is the iterative partitioning filter's (Khoshgoftaar & Rebours 2007); "apart" is Ashman's D (Ashman,
    Bird & Zepf 1994: above 2 is a clean separation), as Mahalanobis distance over the views. Chance alone can set the
    halves of one cluster as far apart, so they must also be apart in each of 99 bootstrap samples of the class.

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        out_of_fold: A function that tunes students on the labels that it gets and predicts all items, each by a
            student that never saw the item's group.
        agreed_only: Whether to begin with the labels that the item's views agree on, each by the most of its votes,
            and to drop the others. With one view, the others are those that the aggregation did not take from the
            most votes. Usual: true; false with aggregation=all_views.
        separation: The distance D, in standard deviations, from 0 on, from which two components are two groups;
            usual 2.
        rounds: How many students to tune at most, from 1; usual 10.
        settled: Stop when less than this share (0-1) of the labels changes; usual .005.

    Returns:
        `keep`, and as `score` the posterior probability (0-1) of the better group; 1 in a class that is not split.

    Raises:
        UserError: If a setting is outside its range.

    Fails where most labels of a class are wrong and look alike (they are then the better group), and where a
    class has two kinds of items (it drops the rarer-looking kind).
    """
    check_number("filter.iterated.separation", separation)
    check_whole_number("filter.iterated.rounds", rounds, 1)
    check_number("filter.iterated.settled", settled, most=1)
    candidates = labels["label"].dropna().sort_index()
    if agreed_only:
        candidates = candidates[views_agree(votes, candidates)]
    kept = pd.Series(True, index=candidates.index)
    score = pd.Series(1.0, index=candidates.index)
    for _ in range(rounds):
        if candidates[kept].nunique() < 2:
            break
        score = _better_group(_log_odds(out_of_fold(candidates[kept]), candidates), candidates, separation)
        changed = ((score > 0.5) != kept).mean()
        kept = score > 0.5
        if changed < settled:
            break
    keep = pd.Series(False, index=labels.index)
    keep[kept.index[kept]] = True
    return pd.DataFrame({"keep": keep, "score": score.reindex(labels.index)})


def _log_odds(probs: pd.DataFrame, labels: pd.Series) -> np.ndarray:
    """Log-odds of each item's label, (items, views). A view that an item lacks has the mean of its others, or 0."""
    column = probs.columns.get_indexer(pd.Index(labels.reindex(probs.index.get_level_values("item_id"))))
    chance = np.where(column >= 0, probs.to_numpy(dtype=float)[np.arange(len(probs)), column], 0.0)
    chance = chance.clip(1e-6, 1 - 1e-6)
    by_view = pd.Series(np.log(chance / (1 - chance)), index=probs.index).unstack("view").reindex(labels.index)
    filled: np.ndarray = by_view.T.fillna(by_view.mean(axis=1)).T.fillna(0.0).to_numpy()
    return filled


def _better_group(odds: np.ndarray, labels: pd.Series, separation: float) -> pd.Series:
    """The posterior of the component with higher odds within the label's class; 1 where there is one group only."""
    from threadpoolctl import threadpool_limits

    score = pd.Series(1.0, index=labels.index)
    # Hundreds of fits of a few hundred points: threads would wait for each other, on a busy machine for minutes.
    with threadpool_limits(1):
        for name in sorted(labels.unique()):
            is_class = (labels == name).to_numpy()
            score[is_class] = _posterior_of_upper(odds[is_class], separation)
    return score


def _posterior_of_upper(odds: np.ndarray, separation: float) -> np.ndarray:
    if len(np.unique(odds, axis=0)) < FEWEST:
        return np.ones(len(odds))
    two = _mixture(odds)
    if not _apart(odds, two, separation):
        return np.ones(len(odds))
    low, high = np.argsort(two.means_.sum(axis=1))
    direction = np.linalg.solve(two.covariances_.mean(axis=0), two.means_[high] - two.means_[low])
    # A wide component has the higher posterior on both sides of a narrow one: beyond the means, the side decides.
    position, (lower, upper) = odds @ direction, two.means_[[low, high]] @ direction
    posterior: np.ndarray = two.predict_proba(odds)[:, high]
    return np.where(position <= lower, 0.0, np.where(position >= upper, 1.0, posterior))


def _mixture(odds: np.ndarray, start: Any = None) -> Any:
    """Fit two Gaussians; from those of the mixture `start` on, if there is one."""
    from sklearn.mixture import GaussianMixture

    if start is None:
        return GaussianMixture(2, n_init=3, random_state=0).fit(odds)
    return GaussianMixture(2, weights_init=start.weights_, means_init=start.means_, random_state=0).fit(odds)


def _apart(odds: np.ndarray, two: Any, separation: float) -> bool:
    """Whether the components are apart, here and in bootstrap samples of the same items."""
    if _distance(two) < separation:
        return False
    rng = np.random.default_rng(0)
    samples = (odds[rng.integers(len(odds), size=len(odds))] for _ in range(RESAMPLES))
    return all(_distance(_mixture(sample, two)) >= separation for sample in samples)


def _distance(two: Any) -> float:
    """Ashman's D: the distance of the means, in standard deviations (root of the mean variance) along their line."""
    difference = two.means_[1] - two.means_[0]
    return float(np.sqrt(difference @ np.linalg.solve(two.covariances_.mean(axis=0), difference)))
