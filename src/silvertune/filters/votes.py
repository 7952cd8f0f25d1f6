"""Filters by who stands behind a label. They need votes, and no confidences."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.filters.selection import one_of, whole, within

OVER = ("view", "annotator", "repeat", "model", "prompt")


def agreement(
    votes: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    over: str,
    at_least: float,
    weights: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Keep labels that the views (or annotators, models, prompts, repeats) agree on.

    Source: Kumar et al. 2024, section 3 (JSON view against text view); over repeats it is self-consistency (Wang
    et al. 2023, "Self-consistency improves chain of thought reasoning", section 2); over annotators the committee
    of Seung et al. 1992 ("Query by committee").
    over: what has to agree: `view`, `annotator`, `repeat`; or, where annotators are named `<model>/<prompt>`,
        `model` (all but the last part of the name) or `prompt` (the last part). An item's votes with the same
        value of it speak together: they stand behind the label only if each of them gave it.
    at_least: the share (0-1) of those values that must stand behind the item's label; 1 is usual, .5 is a
        majority. A value whose votes are null does not, so a view that could not be read counts against the item.
    weights: value -> weight from 0 on, for a weighted share; null: all count alike.
    Fails where the annotators err together: they then agree on the error. With an OR aggregation it can
    only ever reject positives.
    """
    _check("agreement", over)
    within("filter.agreement.at_least", at_least)
    cast, behind, ids, units = _units(votes, labels, over)
    weight = _weights(weights, units, over)
    total = cast @ weight
    share = np.divide(behind @ weight, total, out=np.zeros(len(ids)), where=total > 0)
    score = pd.Series(share, index=ids).reindex(labels.index, fill_value=0.0)
    return pd.DataFrame({"keep": score >= at_least - 1e-12, "score": score})


def k_of_n(votes: pd.DataFrame, labels: pd.DataFrame, *, over: str, k: int) -> pd.DataFrame:
    """Keep labels that at least `k` views (or annotators, models, prompts, repeats) stand behind, of however many.

    Source: Kumar et al. 2024, table 7 (SoE if at least 1/2/3/4 of 4 votes say so).
    over: as in `agreement`, which asks for a share instead: an item with one vote passes there, and here only
        with k=1.
    k: how many, from 1; usual is more than half of those that there are.
    Fails where items have different numbers of votes: it keeps those that were read more often.
    """
    _check("k_of_n", over)
    whole("filter.k_of_n.k", k, 1)
    _, behind, ids, _ = _units(votes, labels, over)
    score = pd.Series(behind.sum(axis=1, dtype=float), index=ids).reindex(labels.index, fill_value=0.0)
    return pd.DataFrame({"keep": score >= k, "score": score})


def _check(name: str, over: str) -> None:
    one_of(f"filter.{name}.over", over, OVER)


def _units(votes: pd.DataFrame, labels: pd.DataFrame, over: str) -> tuple[np.ndarray, np.ndarray, pd.Index, pd.Index]:
    """Item x value of `over`: whether it cast a vote, and whether all its votes gave the item's label; both's names."""
    item, ids = pd.factorize(votes["item_id"])
    unit, units = pd.factorize(_speakers(votes, over))
    label = labels["label"].reindex(ids).to_numpy(dtype=object)
    behind = (votes["label"].to_numpy(dtype=object) == label[item]) & votes["label"].notna().to_numpy()
    shape = (len(ids), len(units))
    cell = item * shape[1] + unit
    cast = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    with_it = np.bincount(cell[behind], minlength=shape[0] * shape[1]).reshape(shape)
    return cast > 0, (cast > 0) & (with_it == cast), pd.Index(ids), pd.Index(units)


def _speakers(votes: pd.DataFrame, over: str) -> pd.Series:
    """Of each vote, the view, annotator, repeat, model or prompt that it is a vote of."""
    if over not in ("model", "prompt"):
        return votes[over]
    parts = {name: name.rpartition("/")[0 if over == "model" else 2] or name for name in votes["annotator"].unique()}
    return votes["annotator"].map(parts)


def _weights(weights: Mapping[str, float] | None, units: pd.Index, over: str) -> np.ndarray:
    if weights is None:
        return np.ones(len(units))
    key = "filter.agreement.weights"
    # On the command line a repeat's key is a number, in a file it may be text.
    given = {str(name): value for name, value in weights.items()}
    if missing := [str(unit) for unit in units if str(unit) not in given]:
        raise UserError(f"{key}={dict(weights)}: no weight for {over} {missing[0]!r}; want one a {over}")
    if not all(isinstance(value, int | float) and 0 <= value < np.inf for value in given.values()) or not any(
        given.values()
    ):
        raise UserError(f"{key}={dict(weights)}: want numbers from 0, not all of them 0")
    return np.array([given[str(unit)] for unit in units], dtype=float)
