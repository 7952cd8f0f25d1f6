"""Columns that hold labels: whose, and what their values mean."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from silvertune import votes
from silvertune.datasets.rows import Row, Rows, name_of
from silvertune.errors import UserError, either
from silvertune.schema import Task


@dataclass(frozen=True)
class Labels:
    """Which column holds labels, and what its values mean.

    column: the column; `a.b` is the key `b` of the object in column `a`.
    values: raw value -> class. Left out: the values are the classes' names.
    threshold: or: the column holds a score, and one of at least this means task.positive (two classes).
    confidence: column of the confidence in the label, 0-1.
    abstain: raw values that mean "do not know": a vote without a label.
    ignore: raw values that count as if nothing stood there, as null does.
    """

    column: str
    values: Mapping[Any, str] | None = None
    threshold: float | None = None
    confidence: str | None = None
    abstain: tuple[Any, ...] = ()
    ignore: tuple[Any, ...] = ()


def _labels(spec: Mapping[str, Any], key: str, task: Task) -> tuple[Labels, dict[str, str | None]]:
    """The specification and what each raw value means: a class, or None for an abstention."""
    if not isinstance(spec, Mapping):
        raise UserError(f"{key}={spec}: want {{column: ...}}, with {either(list(Labels.__dataclass_fields__)[1:])}")
    lists = {name: spec[name] for name in ("abstain", "ignore") if isinstance(spec.get(name), str | int | float)}
    try:
        labels = Labels(**{**spec, **{name: (value,) for name, value in lists.items()}})
    except TypeError:
        known = list(Labels.__dataclass_fields__)
        wrong = sorted(set(spec) - set(known))
        raise UserError(
            f"{key}.{wrong[0]}: no such setting; want {either(known)}"
            if wrong
            else f"{key}.column: say which column holds the labels"
        ) from None
    if labels.threshold is not None and (labels.values is not None or task.positive is None or len(task.classes) != 2):
        raise UserError(
            f"{key}.threshold={labels.threshold}: needs a task of two classes with task.positive, and no values"
        )
    values = {name: name for name in task.classes} if labels.values is None else dict(labels.values)
    if wrong := [name for name in values.values() if name not in task.classes]:
        raise UserError(f"{key}.values: {wrong[0]!r} is no class of task {task.name!r}; want {either(task.classes)}")
    meaning: dict[str, str | None] = {_spelling(raw): name for raw, name in values.items()}
    return labels, meaning | {_spelling(raw): None for raw in labels.abstain}


def gold_of(spec: Mapping[str, Any] | None, rows: Rows, ids: list[str], task: Task) -> pd.Series:
    """The trusted labels that the column of `spec` holds, indexed by item_id; empty where it is None."""
    known: dict[str, str] = {}
    if spec is not None:
        labels, meaning = _labels(spec, "dataset.gold", task)
        _require(labels.column, rows, "dataset.gold.column")
        if labels.column.endswith(".*"):
            raise UserError(f"dataset.gold.column={labels.column}: gold is one label an item; name one key of it")
        for (row, place), item in zip(rows, ids, strict=True):
            vote = _vote(
                _at(row, labels.column),
                labels,
                meaning,
                f"{place}: dataset.gold.column={labels.column}",
                task,
            )
            if vote is not None and vote["label"] is not None:
                known[item] = vote["label"]
    return pd.Series(known, dtype=object, name="gold").rename_axis("item_id")


def annotations_of(
    annotations: Mapping[str, Mapping[str, Any]], rows: Rows, ids: list[str], task: Task
) -> pd.DataFrame:
    """The votes that the columns of `annotations` (annotator -> specification) hold, in the rows' order."""
    cast: list[Row] = []
    for annotator, spec in annotations.items():
        key = f"dataset.annotations.{annotator}"
        labels, meaning = _labels(spec, key, task)
        _require(labels.column, rows, f"{key}.column")
        if labels.confidence is not None:
            _require(labels.confidence, rows, f"{key}.confidence")
        for (row, place), item in zip(rows, ids, strict=True):
            where = f"{place}: {key}.column={labels.column}"
            if labels.column.endswith(".*"):
                entries = _at(row, labels.column[:-2]) or {}
                if not isinstance(entries, dict):
                    raise UserError(f"{where}: want an object of annotator -> label, got {type(entries).__name__}")
                named = [(f"{annotator}/{name}", value) for name, value in entries.items()]
            else:
                named = [(annotator, _at(row, labels.column))]
            for name, value in named:
                vote = _vote(value, labels, meaning, where, task)
                if vote is not None:
                    sure = _confidence(row, labels, where) if labels.confidence else None
                    cast.append(
                        vote | {"item_id": item, "annotator": name, "view": votes.WHOLE_ITEM, "confidence": sure}
                    )
    return votes.table(cast, task.classes)


def _require(column: str, rows: Rows, key: str) -> None:
    """UserError if no row has `column`, or, of `a.b`, an object in `a` with a key `b`."""
    if column in rows.columns:
        return
    rows.require(column.split(".")[0], key)
    if not column.endswith(".*") and all(_at(row, column) is None for row, _ in rows):
        raise UserError(f"{key}={column}: no row of {rows.files} has such a key")


def _at(row: Row, column: str) -> Any:
    value: Any = row
    for key in [column] if column in row else column.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _vote(value: Any, labels: Labels, meaning: Mapping[str, str | None], where: str, task: Task) -> Row | None:
    """The vote that a raw value stands for, or None where nothing was voted."""
    if value is None or _spelling(value) in {_spelling(raw) for raw in labels.ignore}:
        return None
    if labels.threshold is not None:
        if _spelling(value) in meaning and meaning[_spelling(value)] is None:
            return {"label": None, "status": "abstained"}
        try:
            score = float(value)
        except (TypeError, ValueError):
            score = math.nan
        if math.isnan(score):
            raise UserError(f"{where}: {value!r} is no number to hold against threshold={labels.threshold}")
        negative = next(name for name in task.classes if name != task.positive)
        return {"label": task.positive if score >= labels.threshold else negative, "status": "ok"}
    if _spelling(value) not in meaning:
        quote = " (yaml reads yes and no as true and false: quote them)" if name_of(value) in ("yes", "no") else ""
        raise UserError(f"{where}: unknown label {value!r}; want {either(sorted(meaning))}{quote}")
    label = meaning[_spelling(value)]
    return {"label": label, "status": "ok" if label is not None else "abstained"}


def _spelling(value: Any) -> str:
    """One spelling for a label however the file wrote it: a CSV has 1.0 and True as words."""
    text = name_of(value)
    if text.lower() in ("true", "false"):
        return str(int(text.lower() == "true"))
    try:
        return name_of(float(text))
    except ValueError:
        return text


def _confidence(row: Row, labels: Labels, where: str) -> float | None:
    value = _at(row, str(labels.confidence))
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"{where}: confidence column {labels.confidence!r} holds {value!r}; want a number from 0 to 1")
    return number
