"""The filter that tunes students to find the wrong labels, and again on what is left of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from silvertune.errors import UserError

FEWEST = 10
"""Labels of a class below which no two components are looked for."""
DRAWS = 19
"""Samples of one Gaussian that two must beat: 1 in 20 by chance."""


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

    A student is tuned on the labels that the votes agree on and scores every label out of fold. Of each class, the
    scores of its labels are split into two Gaussians; where these stand apart, the labels in the lower one are
    dropped, where they don't, the class is kept whole. The next student is tuned on what is left; all the first
    labels are judged again, so nothing that was dropped is lost, and no round can drift away from the labels.

    Source: the two-component mixture, one half clean, is DivideMix's (Li, Socher & Hoi 2020, section 3.1), here by
    class, over out-of-fold log-odds (one dimension a view) instead of training losses; refiltering by a new student
    each round is the iterative partitioning filter's (Khoshgoftaar & Rebours 2007); "apart" is Ashman's D (Ashman,
    Bird & Zepf 1994: above 2 is a clean separation), as Mahalanobis distance over the views. Chance sets the halves
    of one small cloud as far apart, so two must also explain the scores better than one by more than in any of 19
    samples drawn from the one (a bootstrapped likelihood ratio, level 5%: McLachlan 1987).

    agreed_only: begin with the labels that every vote with a label gave, and drop the others.
    separation: D from which two components are two groups, in standard deviations.
    rounds: at most so many students. settled: stop when less than this share (0-1) of the labels changes.
    Score: the posterior probability, 0-1, of the better group; 1 in a class that is kept whole.
    Fails where the errors of a class are most of it and look alike (they are then the better group), and where a
    class has two kinds of items (the rarer-looking kind is dropped).
    """
    for key, value, least in (("separation", separation, 0), ("rounds", rounds, 1), ("settled", settled, 0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise UserError(f"filter.iterated.{key}={value}: want a number from {least} on")
    candidates = labels["label"].dropna().sort_index()
    if agreed_only:
        cast = votes[votes["label"].notna() & votes["item_id"].isin(candidates.index)]
        against = cast["label"].to_numpy(dtype=object) != candidates[cast["item_id"]].to_numpy(dtype=object)
        candidates = candidates[~candidates.index.isin(cast["item_id"][against])]
    kept = pd.Series(True, index=candidates.index)
    score = pd.Series(1.0, index=candidates.index)
    for _ in range(int(rounds)):
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
    score = pd.Series(1.0, index=labels.index)
    for name in sorted(labels.unique()):
        own = (labels == name).to_numpy()
        if own.sum() >= FEWEST:
            score[own] = _upper(odds[own], separation)
    return score


def _upper(odds: np.ndarray, separation: float) -> np.ndarray:
    if len(np.unique(odds, axis=0)) < FEWEST:
        return np.ones(len(odds))
    one, two = _fits(odds)
    low, high = np.argsort(two.means_.sum(axis=1))
    apart = two.means_[high] - two.means_[low]
    direction = np.linalg.solve(two.covariances_.mean(axis=0), apart)
    if np.sqrt(direction @ apart) < separation or not _better_than_chance(odds, one, two):
        return np.ones(len(odds))
    # A wide component has the posterior on both sides of a narrow one: beyond the means, the side decides.
    along, (lower, upper) = odds @ direction, two.means_[[low, high]] @ direction
    posterior: np.ndarray = two.predict_proba(odds)[:, high]
    return np.where(along <= lower, 0.0, np.where(along >= upper, 1.0, posterior))


def _fits(odds: np.ndarray) -> tuple[Any, Any]:
    """One Gaussian and a mixture of two."""
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(1).fit(odds), GaussianMixture(2, n_init=3, random_state=0).fit(odds)


def _better_than_chance(odds: np.ndarray, one: Any, two: Any) -> bool:
    gain, rng = two.score(odds) - one.score(odds), np.random.default_rng(0)
    for _ in range(DRAWS):
        drawn = rng.multivariate_normal(one.means_[0], one.covariances_[0], len(odds))
        null_one, null_two = _fits(drawn)
        if null_two.score(drawn) - null_one.score(drawn) >= gain:
            return False
    return True
