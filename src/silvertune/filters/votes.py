"""Filters by how many votes support a label. They need no confidences."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from silvertune.errors import UserError, check_choice, check_number, check_whole_number

OVER = ("view", "annotator", "repeat", "model", "prompt")
"""What votes may be grouped by."""


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

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        over: What has to agree: `view`, `annotator` or `repeat`; or, where annotators are named `<model>/<prompt>`,
            `model` (all but the last part of the name) or `prompt` (the last part). An item's votes with the same
            value count together: they support the label only if each of them gave it.
        at_least: The share (0-1) of these values that must support the item's label; usual 1, and .5 for a majority.
            A value whose votes are null does not support it, so a view that could not be read counts against the item.
        weights: Value -> weight from 0 on, for a weighted share; null: all count alike.

    Returns:
        `keep`, and as `score` the (weighted) share of the values that support the label, 0-1.

    Raises:
        UserError: If a setting is outside its range, or a value has no weight.

    Fails where the annotators err together: they then agree on the error. With an OR aggregation it can only ever
    reject positives.
    """
    check_choice("filter.agreement.over", over, OVER)
    check_number("filter.agreement.at_least", at_least, most=1)
    has_voted, supports, ids, voters = _support(votes, labels, over)
    weight = _weights(weights, voters, over)
    total = has_voted @ weight
    share = np.divide(supports @ weight, total, out=np.zeros(len(ids)), where=total > 0)
    score = pd.Series(share, index=ids).reindex(labels.index, fill_value=0.0)
    return pd.DataFrame({"keep": score >= at_least - 1e-12, "score": score})


def k_of_n(votes: pd.DataFrame, labels: pd.DataFrame, *, over: str, k: int) -> pd.DataFrame:
    """Keep labels that at least `k` views (or annotators, models, prompts, repeats) support, of however many.

    Source: Kumar et al. 2024, table 7 (SoE if at least 1/2/3/4 of 4 votes say so).

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        over: What is counted, as in `agreement`. That filter asks for a share instead: an item with one vote passes
            there, and here only with k=1.
        k: How many must support the label, from 1; usual: more than half of them.

    Returns:
        `keep`, and as `score` how many support the label.

    Raises:
        UserError: If a setting is outside its range.

    Fails where items have different numbers of votes: it keeps those that were read more often.
    """
    check_choice("filter.k_of_n.over", over, OVER)
    check_whole_number("filter.k_of_n.k", k, 1)
    _, supports, ids, _ = _support(votes, labels, over)
    score = pd.Series(supports.sum(axis=1, dtype=float), index=ids).reindex(labels.index, fill_value=0.0)
    return pd.DataFrame({"keep": score >= k, "score": score})


def _support(votes: pd.DataFrame, labels: pd.DataFrame, over: str) -> tuple[np.ndarray, np.ndarray, pd.Index, pd.Index]:
    """Item x voter: whether it voted, and whether all its votes gave the item's label; item ids; voters."""
    item, ids = pd.factorize(votes["item_id"])
    voter, voters = pd.factorize(_voter_of_each(votes, over))
    label = labels["label"].reindex(ids).to_numpy(dtype=object)
    is_item_label = (votes["label"].to_numpy(dtype=object) == label[item]) & votes["label"].notna().to_numpy()
    shape = (len(ids), len(voters))
    cell = item * shape[1] + voter
    n_votes = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    n_supporting = np.bincount(cell[is_item_label], minlength=shape[0] * shape[1]).reshape(shape)
    return n_votes > 0, (n_votes > 0) & (n_supporting == n_votes), pd.Index(ids), pd.Index(voters)


def _voter_of_each(votes: pd.DataFrame, over: str) -> pd.Series:
    """The view, annotator, repeat, model or prompt of each vote."""
    if over not in ("model", "prompt"):
        return votes[over]
    parts = {name: name.rpartition("/")[0 if over == "model" else 2] or name for name in votes["annotator"].unique()}
    return votes["annotator"].map(parts)


def _weights(weights: Mapping[str, float] | None, voters: pd.Index, over: str) -> np.ndarray:
    if weights is None:
        return np.ones(len(voters))
    key = "filter.agreement.weights"
    # On the command line a repeat's key is a number, in a file it may be text.
    weight_by_name = {str(name): value for name, value in weights.items()}
    if missing := [str(voter) for voter in voters if str(voter) not in weight_by_name]:
        raise UserError(f"{key}={dict(weights)}: no weight for {over} {missing[0]!r}; want one a {over}")
    for name, value in weight_by_name.items():
        check_number(f"{key}.{name}", value)
    if not any(weight_by_name.values()):
        raise UserError(f"{key}={dict(weights)}: want at least one weight above 0")
    return np.array([weight_by_name[str(voter)] for voter in voters], dtype=float)
