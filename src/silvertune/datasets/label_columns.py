"""Columns that hold labels: whose, and what their values mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from silvertune import votes
from silvertune.datasets import withdrawn
from silvertune.datasets.class_names import class_name
from silvertune.datasets.label_values import LabelValues, Meaning, NoLabel
from silvertune.datasets.rows import Rows
from silvertune.datasets.values import Where, is_null, number_of, shared_names_of
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
    if labels.values is not None and not isinstance(labels.values, Mapping):
        raise UserError(f"{key}.values={labels.values}: want {{value: class}}")
    is_number = isinstance(labels.threshold, int | float) and not isinstance(labels.threshold, bool)
    if labels.threshold is not None and not (is_number and math.isfinite(labels.threshold)):
        raise UserError(f"{key}.threshold={labels.threshold}: want a number, such as 0.5")
    names = {name: getattr(labels, name) for name in ("column", "confidence", "annotator")}
    for name, column in names.items():
        if column is not None and not isinstance(column, str):
            raise UserError(f"{key}.{name}={column}: want the name of a column, in quotes")
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
    if spec is not None:
        labels = specified(spec, "dataset.gold", task)
        rows.require(labels.column, "dataset.gold.column")
        if _names_annotators(labels.column, rows):
            raise UserError(f"dataset.gold.column={labels.column}: gold is one label an item; name one key of it")
        if labels.annotator is not None:
            raise UserError(f"dataset.gold.annotator={labels.annotator}: gold is one label an item, whoever gave it")
        values = withdrawn.standing(labels.column, rows, f"dataset.gold.column={labels.column}")
        meanings = _meanings(values, rows.places, labels, "dataset.gold", task)
        for item, meaning in zip(ids, meanings, strict=True):
            if isinstance(meaning, str) and gold.setdefault(item, meaning) != meaning:
                _refuse_other_gold(ids, meanings, rows.places, labels.column)
    index = pd.Index(list(gold), dtype=object, name="item_id")
    return pd.Series(list(gold.values()), index, dtype=object, name="gold")


def _refuse_other_gold(ids: Sequence[str], meanings: Sequence[Meaning], places: Sequence[str], column: str) -> None:
    """Raises UserError for the first row whose gold label is not that of an earlier row of its item."""
    first_rows: dict[str, int] = {}
    for number, (item, meaning) in enumerate(zip(ids, meanings, strict=True)):
        first = first_rows.setdefault(item, number) if isinstance(meaning, str) else number
        if meanings[first] != meaning:
            raise UserError(
                f"{places[number]}: dataset.gold.column={column}: item {item!r} is {meaning!r} here and "
                f"{meanings[first]!r} at {places[first]}; gold is one label an item"
            )


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
    tables = []
    for written, spec in annotations.items():
        annotator = class_name(written, "dataset.annotations")
        key = f"dataset.annotations.{annotator}"
        labels = specified(spec, key, task)
        rows.require(labels.column, f"{key}.column")
        rows.require(labels.confidence, f"{key}.confidence")
        rows.require(labels.annotator, f"{key}.annotator")
        tables.append(_votes_of(annotator, labels, rows, ids, key, task))
    if not tables:
        return votes.table([], task.classes)
    joined = pd.concat(tables, ignore_index=True)
    repeated = joined.duplicated(["item_id", "annotator"]).to_numpy()
    if repeated.any():
        vote = joined.loc[repeated].iloc[0]
        is_same = (joined["item_id"] == vote["item_id"]) & (joined["annotator"] == vote["annotator"])
        raise UserError(
            f"{rows.places[vote['row']]}: {vote['key']}: {vote['annotator']!r} labels item {vote['item_id']!r} twice; "
            f"first at {rows.places[joined.loc[is_same, 'row'].iloc[0]]}"
        )
    return votes.from_columns(joined, task.classes)


def _votes_of(annotator: str, labels: Labels, rows: Rows, ids: Sequence[str], key: str, task: Task) -> pd.DataFrame:
    """The votes of one column specification: columns of a votes table, and the `row` and `key` of each."""
    where = f"{key}.column={labels.column}"
    numbers, annotators, values = _cells(annotator, labels, rows, key)
    meanings = _meanings(values, rows.places.of(numbers), labels, key, task)
    is_vote = np.array([meaning is not NoLabel.NOTHING for meaning in meanings], dtype=bool)
    confidences = [None] * len(rows) if labels.confidence is None else rows.values(labels.confidence)
    table = pd.DataFrame(
        {
            "item_id": [ids[number] for number in numbers],
            "annotator": annotators,
            "view": votes.WHOLE_ITEM,
            "label": [meaning if isinstance(meaning, str) else None for meaning in meanings],
            "row": numbers,
            "key": where,
        },
        dtype=object,
    )[is_vote]
    table["confidence"] = [
        _confidence(confidences[number], labels, rows.places, number, where) for number in table["row"]
    ]
    return table


def _cells(annotator: str, labels: Labels, rows: Rows, key: str) -> tuple[Sequence[int], list[str], list[Any]]:
    """The values of a column of labels: the row of each, who gave it, and itself."""
    where = f"{key}.column={labels.column}"
    if _names_annotators(labels.column, rows):
        cells = []
        for number, labels_by_name in enumerate(rows.values(labels.column[:-2])):
            if not isinstance(labels_by_name or {}, dict):
                raise UserError(
                    f"{rows.places[number]}: {where}: want an object of annotator -> label, got "
                    f"{type(labels_by_name).__name__}"
                )
            for name, value in (labels_by_name or {}).items():
                cells.append((number, name, value))
        numbers = [number for number, _, _ in cells]
        names = shared_names_of([name for _, name, _ in cells], rows.places.of(numbers), where)
        return numbers, [f"{annotator}/{name}" for name in names], [value for _, _, value in cells]
    values = withdrawn.standing(labels.column, rows, where)
    if labels.annotator is None:
        return range(len(values)), [annotator] * len(values), values
    where = f"{key}.annotator={labels.annotator}"
    names = shared_names_of(rows.values(labels.annotator), rows.places, where)
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        if not name and not is_null(value):
            raise UserError(f"{rows.places[number]}: {where}: nobody is named who gave {value!r}")
    full_names = {name: f"{annotator}/{name}" for name in set(names)}
    return range(len(values)), [full_names[name] for name in names], values


def _names_annotators(column: str, rows: Rows) -> bool:
    """Whether a column holds an object of annotator -> label: `name.*`, where no column is called so."""
    return column.endswith(".*") and column not in rows.columns


def _meanings(values: Sequence[Any], places: Sequence[str], labels: Labels, key: str, task: Task) -> list[Meaning]:
    """What each value of the column means."""
    where = f"{key}.column={labels.column}"
    if labels.threshold is not None:
        reader = LabelValues({}, where, abstain=labels.abstain, ignore=labels.ignore, settings=key)
        return [
            _by_threshold(value, labels, task, reader, Where(places, number, where))
            for number, value in enumerate(values)
        ]
    if labels.values is None:
        classes: dict[Any, str] = {name: name for name in task.classes}
    else:
        classes = {value: class_name(name, f"{key}.values.{value}") for value, name in labels.values.items()}
    if wrong := [name for name in classes.values() if name not in task.classes]:
        raise UserError(f"{key}.values: {wrong[0]!r} is no class of task {task.name!r}; want {either(task.classes)}")
    remedy = f", or values, abstain or ignore of {key} that say what it means"
    reader = LabelValues(classes, where, abstain=labels.abstain, ignore=labels.ignore, remedy=remedy, settings=key)
    return reader.read(values, places)


def _by_threshold(value: Any, labels: Labels, task: Task, no_label: LabelValues, where: object) -> Meaning:
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


def _confidence(value: Any, labels: Labels, places: Sequence[str], number: int, where: str) -> float | None:
    if is_null(value):
        return None
    confidence = number_of(value)
    if confidence is None or not 0 <= confidence <= 1:
        raise UserError(
            f"{places[number]}: {where}: confidence column {labels.confidence!r} holds {value!r}; want a number from 0 "
            "to 1"
        )
    return float(confidence)
