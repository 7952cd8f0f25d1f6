"""Columns that hold labels: whose, and what their values mean."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pandas as pd

from silvertune import votes
from silvertune.datasets.class_names import class_name
from silvertune.datasets.formats import Row
from silvertune.datasets.label_values import LabelValues, Meaning, NoLabel
from silvertune.datasets.rows import Rows, value_at
from silvertune.datasets.values import is_null, name_of, number_of
from silvertune.errors import UserError, either
from silvertune.schema import Task


@dataclass(frozen=True)
class Labels:
    """Which column holds labels, and what its values mean.

    Attributes:
        column: The column, or a path into it: `a.b` is the key `b` of the object in column `a`, `a.0` the first entry
            of the list there.
        values: Value -> class. Left out, the values are the names of the classes.
        threshold: In place of `values`: the column holds a score, and one of at least this means task.positive
            (of two classes).
        confidence: The column of the confidence in the label, 0-1.
        abstain: Values that mean "do not know": a vote without a label.
        ignore: Values that count as null.
        annotator: The column that names who gave the label, where the file has one row an annotation.
    """

    column: str
    values: Mapping[Any, Any] | None = None
    threshold: float | None = None
    confidence: str | None = None
    abstain: tuple[Any, ...] = ()
    ignore: tuple[Any, ...] = ()
    annotator: str | None = None


def specified(spec: Mapping[str, Any], key: str, task: Task) -> Labels:
    """The column specification that stands under `key` of the configuration.

    Raises:
        UserError: It is no mapping, has no column or unknown settings, or its settings do not fit the task.
    """
    settings = list(Labels.__dataclass_fields__)
    if not isinstance(spec, Mapping):
        raise UserError(f"{key}={spec}: want {{column: ...}}, with {either(settings[1:])}")
    lists = {
        name: (value,) if isinstance(value := spec[name], str | int | float) else tuple(value or ())
        for name in ("abstain", "ignore")
        if name in spec
    }
    try:
        labels = Labels(**{**spec, **lists})
    except TypeError:
        unknown = sorted(set(spec) - set(settings))
        raise UserError(
            f"{key}.{unknown[0]}: no such setting; want {either(settings)}"
            if unknown
            else f"{key}.column: say which column holds the labels"
        ) from None
    if labels.threshold is not None and (labels.values is not None or task.positive is None or len(task.classes) != 2):
        raise UserError(
            f"{key}.threshold={labels.threshold}: needs a task of two classes with task.positive, and no values"
        )
    return labels


def gold_of(spec: Mapping[str, Any] | None, rows: Rows, ids: Sequence[str], task: Task) -> pd.Series:
    """The trusted labels that the column of `spec` holds.

    Args:
        spec: A column specification (`Labels`); None where there is no gold.
        rows: The rows of the files.
        ids: The item that each row is about.
        task: Its classes.

    Returns:
        Class by item_id, of the items that have a trusted label.

    Raises:
        UserError: A value has no meaning or may have two, or two rows of one item differ.
    """
    gold: dict[str, str] = {}
    first_places: dict[str, str] = {}
    if spec is not None:
        labels = specified(spec, "dataset.gold", task)
        rows.require(labels.column, "dataset.gold.column")
        if _names_annotators(labels.column, rows):
            raise UserError(f"dataset.gold.column={labels.column}: gold is one label an item; name one key of it")
        if labels.annotator is not None:
            raise UserError(f"dataset.gold.annotator={labels.annotator}: gold is one label an item, whoever gave it")
        values = [value_at(row, labels.column) for row in rows.rows]
        for item, meaning, place in zip(
            ids, _meanings(values, rows.places, labels, "dataset.gold", task), rows.places, strict=True
        ):
            if isinstance(meaning, str):
                if gold.setdefault(item, meaning) != meaning:
                    raise UserError(
                        f"{place}: dataset.gold.column={labels.column}: item {item!r} is {meaning!r} here and "
                        f"{gold[item]!r} at {first_places[item]}; gold is one label an item"
                    )
                first_places.setdefault(item, place)
    return pd.Series(gold, dtype=object, name="gold").rename_axis("item_id")


def annotations_of(
    annotations: Mapping[str, Mapping[str, Any]], rows: Rows, ids: Sequence[str], task: Task
) -> pd.DataFrame:
    """The votes that came with the data.

    Args:
        annotations: Annotator -> column specification (`Labels`).
        rows: The rows of the files.
        ids: The item that each row is about.
        task: Its classes.

    Returns:
        A votes table (`silvertune.votes`): one annotator after the other, each in the order of the rows.

    Raises:
        UserError: A value has no meaning or may have two, a confidence is outside 0-1, or an annotator labels an item
            twice.
    """
    all_votes: list[Row] = []
    places_of_votes: dict[tuple[str, str], str] = {}
    for annotator, spec in annotations.items():
        key = f"dataset.annotations.{annotator}"
        labels = specified(spec, key, task)
        rows.require(labels.column, f"{key}.column")
        rows.require(labels.confidence, f"{key}.confidence")
        rows.require(labels.annotator, f"{key}.annotator")
        cells = list(_cells(str(annotator), labels, rows, ids, key))
        meanings = _meanings([cell.value for cell in cells], [cell.place for cell in cells], labels, key, task)
        for cell, meaning in zip(cells, meanings, strict=True):
            if meaning is NoLabel.NOTHING:
                continue
            if (first := places_of_votes.setdefault((cell.item, cell.annotator), cell.place)) is not cell.place:
                raise UserError(
                    f"{cell.place}: {key}.column={labels.column}: {cell.annotator!r} labels item {cell.item!r} twice; "
                    f"first at {first}"
                )
            all_votes.append(
                {
                    "item_id": cell.item,
                    "annotator": cell.annotator,
                    "view": votes.WHOLE_ITEM,
                    "label": meaning if isinstance(meaning, str) else None,
                    "status": "ok" if isinstance(meaning, str) else "abstained",
                    "confidence": _confidence(cell, labels, f"{cell.place}: {key}.column={labels.column}"),
                }
            )
    return votes.table(all_votes, task.classes)


@dataclass(frozen=True)
class _Cell:
    """One value of a column of labels, and who gave it to which item."""

    item: str
    annotator: str
    value: Any
    row: Row
    place: str


def _cells(annotator: str, labels: Labels, rows: Rows, ids: Sequence[str], key: str) -> Iterator[_Cell]:
    for (row, place), item in zip(rows, ids, strict=True):
        where = f"{place}: {key}.column={labels.column}"
        if _names_annotators(labels.column, rows):
            values_by_name = value_at(row, labels.column[:-2]) or {}
            if not isinstance(values_by_name, dict):
                raise UserError(f"{where}: want an object of annotator -> label, got {type(values_by_name).__name__}")
            for name, value in values_by_name.items():
                yield _Cell(item, f"{annotator}/{name_of(name, where)}", value, row, place)
        elif labels.annotator is None:
            yield _Cell(item, annotator, value_at(row, labels.column), row, place)
        else:
            value = value_at(row, labels.column)
            name = name_of(value_at(row, labels.annotator), f"{place}: {key}.annotator={labels.annotator}")
            if not name and not is_null(value):
                raise UserError(f"{place}: {key}.annotator={labels.annotator}: nobody is named who gave {value!r}")
            yield _Cell(item, f"{annotator}/{name}", value, row, place)


def _names_annotators(column: str, rows: Rows) -> bool:
    """Whether a column holds an object of annotator -> label: `name.*`, where no column is called so."""
    return column.endswith(".*") and column not in rows.columns


def _meanings(values: Sequence[Any], places: Sequence[str], labels: Labels, key: str, task: Task) -> list[Meaning]:
    """What each value of the column means."""
    where = f"{key}.column={labels.column}"
    if labels.threshold is not None:
        reader = LabelValues({}, where, abstain=labels.abstain, ignore=labels.ignore)
        return [
            _by_threshold(value, labels, task, reader, f"{place}: {where}")
            for value, place in zip(values, places, strict=True)
        ]
    if labels.values is None:
        classes: dict[Any, str] = {name: name for name in task.classes}
    else:
        classes = {value: class_name(name, f"{key}.values.{value}") for value, name in labels.values.items()}
    if wrong := [name for name in classes.values() if name not in task.classes]:
        raise UserError(f"{key}.values: {wrong[0]!r} is no class of task {task.name!r}; want {either(task.classes)}")
    return LabelValues(classes, where, abstain=labels.abstain, ignore=labels.ignore).read(values, places)


def _by_threshold(value: Any, labels: Labels, task: Task, no_label: LabelValues, where: str) -> Meaning:
    """The class that a score means."""
    if is_null(value):
        return NoLabel.NOTHING
    if (meaning := no_label.meaning_of(value)) is not None:
        return meaning
    score = number_of(value)
    if score is None or isinstance(value, list):
        raise UserError(f"{where}: {value!r} is no number to hold against threshold={labels.threshold}")
    positive, negative = str(task.positive), next(name for name in task.classes if name != task.positive)
    return positive if score >= Decimal(repr(labels.threshold)) else negative


def _confidence(cell: _Cell, labels: Labels, where: str) -> float | None:
    value = None if labels.confidence is None else value_at(cell.row, labels.confidence)
    if is_null(value):
        return None
    number = number_of(value)
    if number is None or not 0 <= number <= 1:
        raise UserError(f"{where}: confidence column {labels.confidence!r} holds {value!r}; want a number from 0 to 1")
    return float(number)
