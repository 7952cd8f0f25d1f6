"""All items of some files with what a model says of them; their texts are not kept."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from silvertune.datasets import batches
from silvertune.datasets.mapping import ColumnMapping, ItemTexts
from silvertune.datasets.rows import Rows
from silvertune.errors import UserError
from silvertune.production import command_line, predicting
from silvertune.production.model import LoadedModel, confidence
from silvertune.votes import prob_columns


@dataclass(frozen=True)
class Population:
    """Predicted items.

    Attributes:
        table: Indexed by item_id, in the order of the files: `label` (None where there is none), `status` (of
            `predicting.STATUSES`), `confidence` (0-1, NaN without a label), `prob:<class>`.
        seconds: What predicting took, with reading.
        bad_rows: How many rows can't be read, and are not in `table`.
        first_bad: What is wrong with the first of them; "" where every row can be read.
    """

    table: pd.DataFrame
    seconds: float
    bad_rows: int
    first_bad: str

    @property
    def unread(self) -> str:
        """How many rows can't be read, and why the first of them, for a message; "" where every row can."""
        if not self.bad_rows:
            return ""
        return f"{self.bad_rows:,} row(s) that can't be read (the first: {self.first_bad})"


def predict(model: LoadedModel, mapping: ColumnMapping, inputs: Sequence[tuple[str, str]]) -> Population:
    """Predict all rows of files.

    Args:
        model: The model.
        mapping: How its views are made of columns.
        inputs: Name and kind of each file.

    Returns:
        The items. So many numbers a row are in memory as there are classes, and no text.

    Raises:
        UserError: A file can't be read, or an id is missing or there twice.
    """
    started = time.perf_counter()
    parts, first = [], 1
    for file, kind in inputs:
        for batch in batches.read(file, kind, mapping):
            part = predicting.predicted(model, mapping, batch, first, None)
            parts.append(part[["id", "status", "label", "reason", *prob_columns(model.task.classes)]])
            first += len(batch.numbers)
    if not parts:
        raise UserError(f"{inputs[0][0]}: has no rows")
    table = pd.concat(parts, ignore_index=True)
    is_bad = table["status"] == "bad_row"
    first_bad = next(iter(table.loc[is_bad, "reason"]), "")
    readable = table[~is_bad].drop(columns="reason")
    if readable.empty:
        raise UserError(f"{first_bad}; no row can be read")
    command_line.unique(readable["id"].tolist(), ", ".join(file for file, _ in inputs))
    table = readable.set_index("id").rename_axis("item_id")
    table["label"] = table["label"].astype(object).where(table["status"] == "ok", None)
    table["confidence"] = confidence(table, model.task, float(model.how.threshold))
    return Population(table, time.perf_counter() - started, int(is_bad.sum()), first_bad)


def texts(mapping: ColumnMapping, inputs: Sequence[tuple[str, str]], item_ids: Collection[str]) -> pd.DataFrame:
    """The texts of some items, read from the files once more.

    Args:
        mapping: How views are made of columns.
        inputs: Name and kind of each file.
        item_ids: The items.

    Returns:
        Indexed by item_id: `group_id` (the item's own id) and the views.
    """
    wanted, rows = set(item_ids), []
    for _, read, good, _ in _items_of(mapping, inputs, ()):
        for number in good:
            if (name := read.ids[number]) in wanted:
                rows.append({"item_id": name, "group_id": name, **{v: t[number] for v, t in read.views.items()}})
    return pd.DataFrame(rows, dtype=object).set_index("item_id")


def values(
    mapping: ColumnMapping, inputs: Sequence[tuple[str, str]], columns: Mapping[str, str]
) -> dict[str, tuple[Mapping[str, Any], str]]:
    """The values of some columns of the items, read as the items themselves are.

    Args:
        mapping: How ids are made of columns, and how the files are written.
        inputs: Name and kind of each file.
        columns: Option of the command line -> the column, or path into one, that it names.

    Returns:
        Item -> option -> value, None where the item has none; and the item's file and row, for messages.

    Raises:
        UserError: A file lacks a column.
    """
    of_items: dict[str, tuple[Mapping[str, Any], str]] = {}
    lacking: dict[str, dict[str, Rows]] = {}  # what no row so far has, by file
    for file, read, good, rows in _items_of(mapping, inputs, columns.values()):
        lacks = lacking.setdefault(file, dict.fromkeys(columns, rows))
        for option, column in columns.items():
            if rows.has(column):
                lacks.pop(option, None)
        by_option = {option: rows.values(column) for option, column in columns.items()}
        for number in good:
            of_item = {option: listed[number] for option, listed in by_option.items()}
            of_items[read.ids[number]] = of_item, str(rows.places[number])
    for lacks in lacking.values():
        for option, rows in lacks.items():
            rows.require(columns[option], option)
    return of_items


def _items_of(
    mapping: ColumnMapping, inputs: Sequence[tuple[str, str]], also: Collection[str]
) -> Iterator[tuple[str, ItemTexts, Sequence[int], Rows]]:
    """For each batch its file, the items, the numbers of the rows that can be read, and all their columns."""
    first = 1
    for file, kind in inputs:
        for batch in batches.read(file, kind, mapping, also):
            columns, unreadable = batch.columns()
            read = mapping.texts(columns, batch.fields, first)
            first += len(batch.numbers)
            bad_rows = {*unreadable, *read.bad_rows}
            good = [number for number in range(len(read.ids)) if number not in bad_rows]
            yield file, read, good, Rows([(None, columns)], file, "")
