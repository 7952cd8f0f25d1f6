"""The filter that tunes students to find wrong labels, each student on the labels that the one before left."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from silvertune.errors import check_number, check_whole_number
from silvertune.filters.selection import views_agree
from silvertune.stats import two_gaussians

FEWEST = 50
"""A class with fewer distinct scores is not split into two components."""
MOST = 10_000
"""A class with more labels is split by the components of so many of them, drawn at random."""
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
    halves of one cluster as far apart, so they must also be apart in each of 99 bootstrap samples of the class. Of a
    class with more than 10,000 labels, 10,000 drawn at random decide where the two groups are, for all of them.

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
    scores_by_kept: dict[bytes, pd.Series] = {}  # rounds may come back to labels that an earlier one began with
    for _ in range(rounds):
        if candidates[kept].nunique() < 2:
            break
        if (score_of_kept := scores_by_kept.get(kept.to_numpy().tobytes())) is None:
            odds = _log_odds(out_of_fold(candidates[kept]), candidates)
            score_of_kept = scores_by_kept[kept.to_numpy().tobytes()] = _better_group(odds, candidates, separation)
        score = score_of_kept
        changed = ((score > 0.5) != kept).mean()
        kept = score > 0.5
        if changed < settled:
            break
    keep = pd.Series(False, index=labels.index)
    keep[kept.index[kept]] = True
    return pd.DataFrame({"keep": keep, "score": score.reindex(labels.index)})


def _log_odds(probs: pd.DataFrame, labels: pd.Series) -> np.ndarray:
    """Log-odds of each item's label, (items, views). A view that an item lacks has the mean of its others, or 0."""
    item = labels.index.get_indexer(probs.index.get_level_values("item_id"))
    view, views = pd.factorize(probs.index.get_level_values("view"), sort=True)
    is_labelled = item >= 0
    item, view = item[is_labelled], view[is_labelled]
    column = probs.columns.get_indexer(pd.Index(labels))[item]
    chance = np.where(column >= 0, probs.to_numpy(dtype=float)[is_labelled, column], 0.0).clip(1e-6, 1 - 1e-6)
    odds, has_view = np.zeros((len(labels), len(views))), np.zeros((len(labels), len(views)), dtype=bool)
    odds[item, view], has_view[item, view] = np.log(chance / (1 - chance)), True
    mean = odds.sum(axis=1, keepdims=True) / has_view.sum(axis=1, keepdims=True).clip(min=1)
    filled: np.ndarray = np.where(has_view, odds, mean)
    return filled


def _better_group(odds: np.ndarray, labels: pd.Series, separation: float) -> pd.Series:
    """The posterior of the component with higher odds within the label's class; 1 where there is one group only."""
    from threadpoolctl import threadpool_limits

    score = pd.Series(1.0, index=labels.index)
    # Products of small matrices: threads would wait for each other, on a busy machine for minutes.
    with threadpool_limits(1):
        for name in sorted(labels.unique()):
            is_class = (labels == name).to_numpy()
            score[is_class] = _posterior_of_upper(odds[is_class], separation)
    return score


def _posterior_of_upper(odds: np.ndarray, separation: float) -> np.ndarray:
    """(items,), 0-1."""
    some = odds
    if len(odds) > MOST:
        some = odds[np.random.default_rng(0).choice(len(odds), MOST, replace=False)]
    if len(np.unique(some, axis=0)) < FEWEST:
        return np.ones(len(odds))
    two = two_gaussians.fit(some)
    if not two_gaussians.are_apart(some, two, separation, RESAMPLES):
        return np.ones(len(odds))
    low, high = np.argsort(two.means.sum(axis=1))
    direction = np.linalg.solve(two.covariances.mean(axis=0), two.means[high] - two.means[low])
    # A wide component has the higher posterior on both sides of a narrow one: beyond the means, the side decides.
    position, (lower, upper) = odds @ direction, two.means[[low, high]] @ direction
    log = two.log_densities(odds)
    posterior: np.ndarray = np.exp(log[high] - np.logaddexp(log[low], log[high]))
    return np.where(position <= lower, 0.0, np.where(position >= upper, 1.0, posterior))
