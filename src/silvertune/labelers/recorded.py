"""Labels that were made elsewhere: by people, by a rule, by a run of an LLM."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from silvertune import votes
from silvertune.datasets.class_names import class_name
from silvertune.datasets.item_ids import matched
from silvertune.datasets.label_values import LabelValues
from silvertune.datasets.notices import say
from silvertune.datasets.rows import Rows, read_file
from silvertune.datasets.values import is_null, names_of, normal_form, number_of, shared_names_of
from silvertune.errors import UserError
from silvertune.interfaces import Estimate
from silvertune.schema import Task


class Recorded:
    """Hands on recorded votes: the dataset's annotations, or those of a votes file.

    Args:
        task: The classes.
        annotations: The votes that came with the data.
        item_ids: The ids of the dataset, by which a votes file is matched; None takes its ids as they are.
        annotators: Names, or patterns such as `non_expert/*`; votes come in the order of this list.
        path: A votes file, of any kind that a dataset may be (`silvertune.datasets.formats`), with the columns
            `item_id`, `annotator`, `label` and any other of `silvertune.votes`; None: the dataset's annotations.
        defer_to: The annotator who answers where one of `annotators` abstained (the paper's panel: who does not
            know asks an expert), or None.
        first_only: Only the first vote with a label that an item has counts (the paper's panel).

    Raises:
        UserError: A name matches no annotator, the file is no votes file, or none of its votes is about an item.
    """

    def __init__(
        self,
        task: Task,
        annotations: pd.DataFrame,
        item_ids: pd.Index | None = None,
        *,
        annotators: Sequence[str | int] | str | int | None,
        path: str | None,
        defer_to: str | None,
        first_only: bool,
    ) -> None:
        self.first_only = first_only
        self.votes = annotations if path is None else _read(path, task, item_ids)
        present = list(dict.fromkeys(self.votes["annotator"]))
        if not annotators:
            raise UserError(f"labeler.annotators={annotators}: say whose labels; {votes.who_is_there(present, path)}")
        listed = [annotators] if isinstance(annotators, str | int) else annotators
        patterns = [class_name(name, "labeler.annotators") for name in listed]
        self.annotators = votes.annotators_named(patterns, present, "labeler.annotators", path)
        if defer_to is not None and defer_to not in present:
            abstained = self.votes["annotator"].isin(self.annotators) & (self.votes["status"] == "abstained")
            if abstained.any():
                raise UserError(
                    f"labeler.defer_to={defer_to}: {int(abstained.sum())} abstention(s) go to an annotator that has no "
                    f"votes; there is {', '.join(present)}"
                )
        self.defer_to = defer_to

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """The recorded votes on `items`, in the items' order; items that nobody voted on have none."""
        on_items = self.votes[self.votes["item_id"].isin(items.index)]
        order = {name: rank for rank, name in enumerate(self.annotators)}
        chosen = on_items[on_items["annotator"].isin(order)]
        if self.defer_to is not None:
            unsure = chosen.loc[chosen["status"] == "abstained", "item_id"]
            deferred = (on_items["annotator"] == self.defer_to) & on_items["item_id"].isin(unsure)
            chosen = pd.concat([chosen, on_items[deferred]]).drop_duplicates(["item_id", "annotator", "view", "repeat"])
            order.setdefault(self.defer_to, len(order))
        rank = items.index.get_indexer(pd.Index(chosen["item_id"])) * len(order)
        rank += chosen["annotator"].map(order).to_numpy(dtype=int)
        return chosen.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """Nobody is asked: nothing is spent."""
        return {}


def _read(path: str, task: Task, item_ids: pd.Index | None) -> pd.DataFrame:
    """The votes of a file, about items by the ids of the dataset."""
    key = f"labeler.path={path}"
    rows = read_file(path, "labeler.path")
    if missing := [name for name in ("item_id", "annotator", "label") if name not in rows.columns]:
        raise UserError(f"{key}: votes need the column {missing[0]!r}; there is {', '.join(sorted(rows.columns))}")
    written_ids, annotators = _names(rows, "item_id", key, names_of), _names(rows, "annotator", key, shared_names_of)
    items = written_ids if item_ids is None else _items_of(written_ids, item_ids, key)
    meanings = LabelValues({name: name for name in task.classes}, f"{key}, column label").read(
        rows.values("label"), rows.places
    )
    # What else stands in a row counts only where the row is about an item.
    chosen = [row for row, item in enumerate(items) if item is not None]
    places = rows.places.of(chosen)

    def values(column: str) -> list[Any]:
        of_all_rows = rows.values(column)
        return of_all_rows if len(chosen) == len(rows) else [of_all_rows[row] for row in chosen]

    views, statuses = (names_of(values(name), places, f"{key}, column {name}") for name in ("view", "status"))
    probs = votes.prob_columns(task.classes)
    written_probs = sorted(name for name in rows.columns if name.startswith("prob:"))
    if written_probs and (missing := [name for name in probs if name not in written_probs]):
        raise UserError(
            f"{key}: has {', '.join(written_probs)} and no {missing[0]}; want a column for each of "
            f"{', '.join(task.classes)}, spelled like them, or none"
        )
    numbers = [name for name in ("confidence", "cost_usd") if name in rows.columns] + (probs if written_probs else [])
    columns = {
        "item_id": [items[row] for row in chosen],
        "annotator": [annotators[row] for row in chosen],
        "view": [view or votes.WHOLE_ITEM for view in views],
        "repeat": _repeats(values("repeat"), places, f"{key}, column repeat"),
        "label": [meaning if isinstance(meaning := meanings[row], str) else None for row in chosen],
        "status": [status or None for status in statuses],
        **{name: _numbers(values(name), places, f"{key}, column {name}") for name in numbers},
    }
    written = pd.DataFrame({name: pd.Series(content, dtype=object) for name, content in columns.items()})
    table = votes.from_columns(written, task.classes, probs=bool(written_probs))
    votes.check(table, task.classes, pd.Index(table["item_id"].unique()), key, places)
    _say_contradictions(table, task, key, places)
    return table


def _say_contradictions(table: pd.DataFrame, task: Task, key: str, places: Sequence[str]) -> None:
    """Say how many votes have a label that is less probable than another class by their own distribution.

    An answer that was drawn at random may be so, and a column that names the wrong class makes many so. Both count as
    they are: an aggregation of labels reads the label, one of distributions the distribution.
    """
    columns = votes.prob_columns(task.classes)
    if not set(columns) <= set(table.columns):
        return
    labelled = table[table["label"].notna() & table[columns].notna().all(axis=1)]
    distributions = labelled[columns].set_axis(list(task.classes), axis=1)
    of_label = votes.score_of_label(distributions, labelled["label"])
    contradicting = distributions.index[of_label < distributions.max(axis=1)]
    if len(contradicting):
        first = contradicting[0]
        say(
            f"{key}: {len(contradicting)} of {len(table)} vote(s) have a label that is not the most probable class by "
            f"their own prob: columns; first at {places[first]}: label {labelled.loc[first, 'label']!r} has "
            f"{of_label[first]:g}, {distributions.loc[first].idxmax()!r} {distributions.loc[first].max():g}. "
            "What counts votes reads the label; aggregation=mean_distribution and filters by score read probabilities"
        )


def _names(rows: Rows, column: str, key: str, read: Callable[..., list[str]]) -> list[str]:
    """The names that a column holds. UserError where a row has none."""
    names = read(rows.values(column), rows.places, f"{key}, column {column}")
    if "" in names:
        raise UserError(f"{rows.places[names.index('')]}: {key}: the vote has no {column}; want one in every row")
    return names


def _items_of(written_ids: list[str], item_ids: pd.Index, key: str) -> list[str | None]:
    """The item of each vote, None where the dataset has none; how many are so is said."""
    matches = matched(written_ids, item_ids)
    items = [matches.get(name) for name in written_ids]
    unmatched = [name for name in written_ids if name not in matches]
    if len(unmatched) == len(items):
        raise UserError(
            f"{key}: no vote is about an item of the dataset: the file has item_id {unmatched[0]!r}, the dataset "
            f"{str(item_ids[0])!r}; want the same ids in both"
        )
    if unmatched:
        say(
            f"{key}: {len(unmatched)} of {len(items)} vote(s) left out: the dataset has no item {unmatched[0]!r} "
            f"(its ids are such as {str(item_ids[0])!r})"
        )
    if respelled := [name for name in written_ids if matches.get(name, name) != name]:
        say(
            f"{key}: {len(respelled)} of {len(items)} vote(s) spell their item in another way, which fits one item "
            f"alone: {_told_apart(respelled[0], matches[respelled[0]])}"
        )
    return items


def _told_apart(written: str, item: str) -> str:
    """`x is taken for y`, with escapes where both look the same on a screen."""
    show = ascii if normal_form(written) == normal_form(item) else repr
    return f"{show(written)} is taken for {show(item)}"


def _numbers(values: Sequence[Any], places: Sequence[str], where: str) -> np.ndarray:
    """The numbers that a column holds, NaN for null. UserError where a value is none."""
    numbers = [value if type(value) is float else number_of(value) for value in values]
    for row, (value, number) in enumerate(zip(values, numbers, strict=True)):
        if number is None and not is_null(value):
            raise UserError(f"{places[row]}: {where}: {value!r} is no number")
    return np.array([np.nan if number is None else float(number) for number in numbers], dtype=float)


def _repeats(values: Sequence[Any], places: Sequence[str], where: str) -> np.ndarray:
    """The column `repeat`, 0 for null. UserError where a value is no whole number from 0."""
    numbers = np.nan_to_num(_numbers(values, places, where), nan=0.0)
    # From 2**53 on, a float is no exact number any more; infinity is no number of a repeat either.
    wrong = np.flatnonzero(~((numbers >= 0) & (numbers < 2**53) & (numbers == np.floor(numbers))))
    if len(wrong):
        raise UserError(f"{places[wrong[0]]}: {where}: {values[wrong[0]]!r}; want a whole number from 0")
    repeats: np.ndarray = numbers.astype(int)
    return repeats
