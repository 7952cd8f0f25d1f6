"""Which silver labels to keep. A filter is a function.

Parameters named like evidence (`silvertune.evidence`) are filled from it; the others come from the filter's
yaml. It returns a boolean Series indexed by item_id, True = keep, or a DataFrame with `keep` and any of
`score, weight, reason`. Labels are never changed here, and items without a label are never kept, whatever
a filter says of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from silvertune import class_shares
from silvertune.errors import UserError
from silvertune.schema import Task
from silvertune.votes import class_scores


def none(labels: pd.DataFrame) -> pd.Series:
    """Keep every label."""
    return pd.Series(True, index=labels.index)


def agreement(votes: pd.DataFrame, labels: pd.DataFrame, *, over: str, at_least: float) -> pd.DataFrame:
    """Keep labels that the views (or annotators, or repeats) agree on.

    Source: Kumar et al. 2024, section 3 (JSON view against text view). Needs no confidences.
    over: `view`, `annotator` or `repeat`: what has to agree. An item's votes with the same value of it
        speak together: they stand behind the label only if each of them gave it.
    at_least: the share (0-1) of those values that must stand behind the item's label. A value whose votes
        are null does not, so a view that could not be read counts against the item.
    Fails where the annotators err together: they then agree on the error. With an OR aggregation it can
    only ever reject positives.
    """
    if over not in ("view", "annotator", "repeat"):
        raise UserError(f"filter.agreement.over={over!r}: want view, annotator or repeat")
    _within("filter.agreement.at_least", at_least)
    item = labels.index.get_indexer(pd.Index(votes["item_id"]))
    unit, units = pd.factorize(votes[over])
    label = labels["label"].to_numpy(dtype=object)[item]
    given = votes["label"].to_numpy(dtype=object)
    behind = (given == label) & votes["label"].notna().to_numpy()
    shape = (len(labels), len(units))
    cell = (item * shape[1] + unit)[item >= 0]
    cast = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    with_it = np.bincount(cell, weights=behind[item >= 0], minlength=shape[0] * shape[1]).reshape(shape)
    share = ((cast > 0) & (with_it == cast)).sum(axis=1) / np.maximum((cast > 0).sum(axis=1), 1)
    score = pd.Series(share, index=labels.index)
    return pd.DataFrame({"keep": score >= at_least - 1e-12, "score": score})


def confidence(labels: pd.DataFrame, *, at_least: float | None, top: float | None) -> pd.DataFrame:
    """Keep labels whose confidence is high.

    at_least: keep those with at least this confidence (0-1); its meaning is the aggregation's. Or, where it is null,
    top: keep this fraction (0-1) of all labels, the most confident; ties at the cut are all kept.
    A label without a confidence is not kept.
    Fails where confidence is stable bias, and with `top` where one class is the more confident: it then
    crowds the other out (`top_k_per_class` does not).
    """
    if at_least is None and top is None:
        raise UserError("filter.confidence.at_least=null, top=null: set one of them, from 0 to 1")
    score = labels["confidence"].where(labels["label"].notna())
    if at_least is None:
        assert top is not None
        _within("filter.confidence.top", top)
        count = int(np.ceil(top * score.notna().sum() - 1e-9))  # .07 x 100 is a hair above 7
        at_least = float(score.nlargest(count).min()) if count else np.inf
    else:
        _within("filter.confidence.at_least", at_least)
    return pd.DataFrame({"keep": score >= at_least, "score": score})


def top_k_per_class(
    votes: pd.DataFrame,
    labels: pd.DataFrame,
    task: Task,
    *,
    fraction: float,
    shares: str | Mapping[str, float],
) -> pd.DataFrame:
    """Keep, of each class, the labels with the highest scores, in the proportions of the population.

    Of class c, the `fraction x share_c x n` labels with the highest class score (mean over the votes,
    `silvertune.votes.class_scores`) are kept, or all where there are fewer.
    fraction: how much of the population to keep (0-1].
    shares: class -> share of the population, or `mixture`: estimated from the scores without gold
        (`silvertune.class_shares.mixture`).
    Fails where the shares are wrong: too large a share fills a class with its doubtful labels.
    """
    _within("filter.top_k_per_class.fraction", fraction)
    labelled = labels[labels["label"].notna()]
    if labelled.empty:
        return pd.DataFrame({"keep": False, "score": np.nan}, index=labels.index)
    scores = class_scores(votes[votes["item_id"].isin(labelled.index)], task.classes).reindex(labelled.index)
    if isinstance(shares, str):
        if shares != "mixture":
            raise UserError(
                f"filter.top_k_per_class.shares={shares!r}: want `mixture` or a share for each of "
                f"{', '.join(task.classes)}"
            )
        wanted = class_shares.mixture(scores, labelled["label"])
    else:
        wanted = class_shares.given(shares, task.classes, "filter.top_k_per_class.shares")
    keep = pd.Series(False, index=labels.index)
    score = pd.Series(np.nan, index=labels.index)
    for name, share in wanted.items():
        own = scores.loc[labelled["label"] == name, name]
        score[own.index] = own
        # A stable sort on a table in item_id order: ties fall the same way whatever order the items came in.
        ranked = own.sort_index().sort_values(ascending=False, kind="stable")
        keep[ranked.index[: round(fraction * share * len(labelled))]] = True
    return pd.DataFrame({"keep": keep, "score": score})


def random_matched(
    labels: pd.DataFrame,
    kept_by: Callable[[Mapping[str, Any]], pd.Series],
    rng: np.random.Generator,
    *,
    like: Mapping[str, Any],
    per_class: bool,
) -> pd.Series:
    """Control: keep as many labels as another filter does, but at random.

    like: the other filter (the name of its yaml on the command line).
    per_class: keep as many *of each class* as it does. A filter whose gain survives this control found the
        right items; one whose gain does not only changed how many of each class there are.
    """
    kept = kept_by(like)
    keep = pd.Series(False, index=labels.index)
    labelled = labels.loc[labels["label"].notna(), "label"].sort_index()
    pools = [labelled.index[labelled == name] for name in sorted(labelled.unique())] if per_class else [labelled.index]
    for pool in pools:
        keep[rng.choice(pool.to_numpy(dtype=object), size=int(kept[pool].sum()), replace=False)] = True
    return keep


def oracle(labels: pd.DataFrame, gold: pd.Series) -> pd.Series:
    """Control: keep exactly the labels that gold says are right (where there is gold; drop the rest).

    What a perfect filter would reach. It sees gold: its yaml says `_gold_: true` and the run is tagged.
    """
    return labels["label"].notna() & (labels["label"] == gold.reindex(labels.index))


def _within(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{key}={value}: want a number from 0 to 1")
