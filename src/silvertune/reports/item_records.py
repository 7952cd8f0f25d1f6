"""What is known of each item, as JSON has it: votes, decisions and predictions by item_id."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from silvertune.votes import prob_columns

MOST_VOTES = 60
"""So many votes on an item are kept; then comes the number of the others."""
DECIDED = ("label", "confidence", "keep", "weight", "reason", "train_label", "source")
"""The columns of a decision that are told, besides the folds that decided so and the filters' scores."""


class Names:
    """The names of annotators, or numbers in their place."""

    def __init__(self, is_hidden: bool) -> None:
        self._is_hidden = is_hidden
        self._numbers: dict[str, int] = {}

    def __call__(self, annotator: object) -> str:
        name = str(annotator)
        return f"annotator {self._numbers.setdefault(name, len(self._numbers) + 1)}" if self._is_hidden else name


def of_votes(
    votes: pd.DataFrame, annotations: pd.DataFrame, item_ids: pd.Index, classes: Sequence[str], names: Names
) -> dict[Any, list[Any]]:
    """Take the votes on some items.

    Args:
        votes: The votes of a run, with `stage`.
        annotations: The votes that came with the data.
        item_ids: The items.
        classes: The task's classes.
        names: What annotators are called.

    Returns:
        [stage, annotator, view, repeat, label, confidence, status, distribution] of every vote on each item.
    """
    key = ["item_id", "annotator", "view", "repeat"]
    votes = votes[votes["item_id"].isin(item_ids)]
    recorded = annotations[annotations["item_id"].isin(item_ids)]
    both = pd.concat([votes, recorded.assign(stage="with the data")]) if len(recorded) else votes
    both = both[~both.duplicated(key)]  # a labeler's votes that are also among the annotations
    distributions = _distributions(both, classes)
    columns = ["item_id", "stage", "annotator", "view", "repeat", "label", "confidence", "status"]
    by_item: dict[Any, list[Any]] = {}
    for row, probs in zip(both[columns].itertuples(index=False, name=None), distributions, strict=True):
        item_id, stage, annotator, view, repeat, label, confidence, status = row
        of_item = by_item.setdefault(item_id, [])
        of_item.append([stage, names(annotator), view, int(repeat), plain(label), _number(confidence), status, probs])
    return {item: [*of_item[:MOST_VOTES], *_more(len(of_item) - MOST_VOTES)] for item, of_item in by_item.items()}


def _more(count: int) -> list[Any]:
    """In the place of votes that are not shown: how many."""
    return [count] if count > 0 else []


def of_decisions(decisions: pd.DataFrame, item_ids: pd.Index) -> dict[Any, list[Any]]:
    """Take what the folds decided of some items; folds that decided the same are one row.

    Args:
        decisions: One row an item and fold, indexed by item_id.
        item_ids: The items.

    Returns:
        A dict for each row of each item: its columns, `folds`, and `scores` by name.
    """
    of_items = decisions[decisions.index.isin(item_ids)]
    scores = [str(name) for name in decisions if str(name).startswith("score:")]
    by_item: dict[Any, dict[tuple[Any, ...], list[int]]] = {}
    rows = of_items.reindex(columns=[*DECIDED, *scores]).itertuples(index=False, name=None)
    for item_id, fold, row in zip(of_items.index, of_items["fold"], rows, strict=True):
        values = tuple(_number(value) if isinstance(value, Real) else plain(value) for value in row)
        by_item.setdefault(item_id, {}).setdefault(values, []).append(int(fold))
    return {
        item_id: [
            dict(zip(DECIDED, values, strict=False))
            | {"folds": folds, "scores": dict(zip(scores, values[len(DECIDED) :], strict=True))}
            for values, folds in of_item.items()
        ]
        for item_id, of_item in by_item.items()
    }


def of_predictions(predictions: pd.DataFrame, item_ids: pd.Index, classes: Sequence[str]) -> dict[Any, list[Any]]:
    """Take the predictions of some items.

    Args:
        predictions: One row a test item, indexed by item_id.
        item_ids: The items.
        classes: The task's classes.

    Returns:
        [fold, label, distribution] of every prediction of each item.
    """
    table = predictions[predictions.index.isin(item_ids)]
    if "label" not in table:
        return {}
    by_item: dict[Any, list[Any]] = {}
    folds: Iterable[Any] = table["fold"] if "fold" in table else [0] * len(table)
    rows = zip(table.index, folds, table["label"], _distributions(table, classes), strict=True)
    for item_id, fold, label, probs in rows:
        by_item.setdefault(item_id, []).append([int(fold), plain(label), probs])
    return by_item


def _distributions(table: pd.DataFrame, classes: Sequence[str]) -> list[list[float] | None]:
    """The probabilities of the classes in each row; None where it has none."""
    columns = prob_columns(classes)
    if not set(columns) <= set(table.columns):
        return [None] * len(table)
    probs = table[columns].to_numpy(dtype=float)
    is_known = ~np.isnan(probs).any(axis=1)
    return [row if known else None for row, known in zip(probs.round(4).tolist(), is_known, strict=True)]


def plain(value: Any) -> Any:
    """A value as JSON has it: a truth value, a text, or None."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return None if pd.isna(value) else str(value)


def _number(value: Any) -> Any:
    """A number of four digits, or a truth value; None for what is none, such as NaN."""
    if isinstance(value, bool):
        return value
    return round(float(value), 4) if np.isfinite(value) else None
