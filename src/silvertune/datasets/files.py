"""Items, gold and annotations from the files of a user, mapped by the configuration: tables or texts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from silvertune import votes
from silvertune.datasets import tables
from silvertune.datasets.formats import Row, TextFormat
from silvertune.datasets.label_columns import annotations_of, gold_of
from silvertune.datasets.notices import say
from silvertune.datasets.rows import Rows, read, value_at
from silvertune.datasets.values import name_of, text_of
from silvertune.datasets.views import rendered
from silvertune.errors import UserError
from silvertune.items import Data, groups_with_copies_together
from silvertune.schema import Task


def load(
    task: Task,
    *,
    path: str | None,
    files: Mapping[str, str | None],
    id: str | None,
    group: str | None,
    views: Mapping[str, str],
    cells: str | None,
    page_text: str | None,
    caption: str | None,
    footnotes: str | None,
    captions: bool,
    gold: Mapping[str, Any] | None,
    annotations: Mapping[str, Mapping[str, Any]],
    encoding: str = "utf-8",
    separator: str | None = None,
    keep_copies_together: bool = False,
) -> Data:
    """Read the items, their gold and the annotations that came with them.

    A column is named as it stands in the file, or by a path into it (`silvertune.datasets.rows.value_at`).

    Args:
        task: The classes.
        path: A file, a folder or a pattern (`silvertune.datasets.rows.read`): JSON Lines, JSON, CSV or Parquet. Or
        files: The same each for `train`, `test` and, if there is one, `validation`; then `evaluation=given` uses them.
        id: The column of the item's id, unique over all files; None numbers the rows. Rows of one id are one item
            where an annotation has an `annotator` column: one row an annotation.
        group: The column of the item's group (its protocol), by which data are split; None: each item is its own.
        views: View -> template over the columns, such as `"{title}: {text}"`; a table has the further fields of
            `silvertune.datasets.tables.fields`. A view whose every field is empty is absent (None).
        cells: The column of a table's cells; None: the items are texts.
        page_text: The column of the text of a table's page, or None.
        caption: The column of a table's caption, or None.
        footnotes: The column of a table's footnotes, or None.
        captions: False leaves the caption out of every view, and its lines out of the page's text.
        gold: A column specification (`silvertune.datasets.label_columns.Labels`), or None.
        annotations: Annotator -> column specification. A column `name.*` holds an object of annotator -> label: its
            annotators are called `<annotator>/<key>`.
        encoding: How text files are encoded, such as `utf-16` or `cp1252`.
        separator: What separates the columns of a CSV; None: a comma, in a `.tsv` a tab.
        keep_copies_together: True puts items whose views have the same words into one group, so that no split trains
            on a text that it tests.

    Returns:
        The items, gold and annotations.

    Raises:
        UserError: Something is not as the configuration says, with the file and the row.
    """
    rows = read(path, files, TextFormat(encoding, separator))
    parts = {"cells": cells, "page_text": page_text, "caption": caption, "footnotes": footnotes}
    for key, column in {"id": id, "group": group, **parts}.items():
        rows.require(column, f"dataset.{key}")
    row_an_annotation = any(isinstance(spec, Mapping) and spec.get("annotator") for spec in annotations.values())
    ids = [str(number) for number in range(1, len(rows.rows) + 1)] if id is None else _ids(rows, id, row_an_annotation)
    groups = ids if group is None else _groups(rows, group)
    texts = _views(rows, views, parts, captions)
    first_rows = _first_rows(ids, groups, texts, rows)
    index = pd.Index([ids[number] for number in first_rows], name="item_id", dtype=object)
    items = pd.DataFrame({"group_id": [groups[number] for number in first_rows]}, index=index, dtype=object)
    for view, texts_of_view in texts.items():
        items[view] = pd.Series([texts_of_view[number] for number in first_rows], index=index, dtype=object)
    if keep_copies_together:
        items["group_id"] = groups_with_copies_together(items)
    trusted = gold_of(gold, rows, ids, task)
    partition = [rows.partition[number] for number in first_rows] if rows.partition else None
    return Data(
        items=items,
        annotations=votes.check(
            annotations_of(annotations, rows, ids, task), task.classes, index, "dataset.annotations"
        ),
        gold=trusted,
        partition=None if partition is None else pd.Series(partition, index=index, name="partition"),
        digest=hashlib.sha256(f"{rows.digest} {trusted.to_dict()} {list(items['group_id'])}".encode()).hexdigest(),
    )


def _ids(rows: Rows, id: str, row_an_annotation: bool) -> list[str]:
    """The item that each row is about."""
    places: dict[str, str] = {}
    ids = []
    for row, place in rows:
        value = value_at(row, id)
        where = f"{place}: dataset.id={id}"
        if isinstance(value, bool | list | dict) or not (name := name_of(value, where)):
            raise UserError(f"{where}: the item has no id (got {value!r})")
        if name in places and not row_an_annotation:
            raise UserError(
                f"{where}: {name!r} stands twice; first at {places[name]}. Where the file has one row an annotation, "
                "say which column names who gave it: dataset.annotations.<name>.annotator"
            )
        places.setdefault(name, place)
        ids.append(name)
    return ids


def _groups(rows: Rows, group: str) -> list[str]:
    """The group that each row names."""
    groups = [name_of(value_at(row, group), f"{place}: dataset.group={group}") for row, place in rows]
    if "" in groups:
        place = rows.places[groups.index("")]
        raise UserError(f"{place}: dataset.group={group}: the item has no group; null would make each item its own")
    return groups


def _views(
    rows: Rows, views: Mapping[str, str], parts: Mapping[str, str | None], captions: bool
) -> dict[str, list[str | None]]:
    """The text of every view of every row."""
    if parts["cells"] is None:
        return rendered(views, rows.rows, sorted(rows.columns), rows.places, rows.has)
    fields = set(rows.columns) | set(tables.FIELDS)
    values = [row | _table_fields(row, parts, captions, place) for row, place in rows]
    return rendered(views, values, sorted(fields), rows.places, lambda name: name in fields or rows.has(name))


def _first_rows(
    ids: Sequence[str], groups: Sequence[str], texts: Mapping[str, Sequence[str | None]], rows: Rows
) -> list[int]:
    """The number of each item's first row. UserError where a later row of the same item says something else of it."""
    first_rows: dict[str, int] = {}
    for number, item in enumerate(ids):
        first = first_rows.setdefault(item, number)
        for name, column in {"group": groups, **texts}.items() if first != number else ():
            if column[number] != column[first]:
                raise UserError(
                    f"{rows.places[number]}: item {item!r} has another {name} than at {rows.places[first]}; one id "
                    "is one item"
                )
        if rows.partition and rows.partition[number] != rows.partition[first]:
            raise UserError(
                f"{rows.places[number]}: item {item!r} is in dataset.files.{rows.partition[first]} too; "
                f"first at {rows.places[first]}"
            )
    if len(first_rows) < len(ids):
        say(f"{rows.files}: {len(ids)} rows are annotations of {len(first_rows)} items")
    return list(first_rows.values())


def _table_fields(row: Row, parts: Mapping[str, str | None], captions: bool, place: str) -> dict[str, str]:
    """The fields of a table, and its own caption and page columns without the caption where it is to be left out."""
    values = {name: value_at(row, column) if column else None for name, column in parts.items()}
    where = f"{place}: dataset.cells={parts['cells']}"
    try:
        cells = values["cells"]
        grid = tables.grid(json.loads(cells) if isinstance(cells, str | bytes) else cells)
    except json.JSONDecodeError:
        raise UserError(f"{where}: a string that is not JSON; want a list of rows") from None
    except (ValueError, UserError) as error:
        raise UserError(f"{where}: {error}") from None
    texts = {
        name: text_of(values[name], f"{place}: dataset.{name}={parts[name]}")
        for name in ("page_text", "caption", "footnotes")
    }
    fields = tables.fields(grid, **texts, captions=captions)
    return {column: fields[name] for name, column in parts.items() if column and name != "cells"} | fields
