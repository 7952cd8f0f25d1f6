"""Any JSONL, CSV or Parquet file of items, mapped by config: tables or texts."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from silvertune import votes
from silvertune.datasets import tables
from silvertune.datasets.label_columns import annotations_of, gold_of
from silvertune.datasets.rows import Row, Rows, name_of, read, text_of
from silvertune.datasets.views import rendered
from silvertune.errors import UserError
from silvertune.items import Data
from silvertune.schema import Task


def load(
    task: Task,
    *,
    path: str | None,
    files: Mapping[str, str | None],
    id: str,
    group: str | None,
    views: Mapping[str, str],
    cells: str | None,
    page_text: str | None,
    caption: str | None,
    footnotes: str | None,
    captions: bool,
    gold: Mapping[str, Any] | None,
    annotations: Mapping[str, Mapping[str, Any]],
) -> Data:
    """Read the items, their gold and the annotations that came with them.

    path: the file, `.jsonl`, `.csv` or `.parquet`, UTF-8. Or
    files: one file each for `train`, `test` and, if there is one, `validation` (then
        `evaluation=given` uses them).
    id: column of the item's id, unique over all files.
    group: column of the item's group (its protocol), by which data are split; null: each item is its own.
    views: name -> template over the columns, such as `"{title}: {text}"`; a table has the further
        fields of `silvertune.datasets.tables.fields`. A view whose every field is empty is absent (None).
    cells, page_text, caption, footnotes: columns of a table's parts; null where there is none. `cells` null:
        the items are texts.
    captions: false leaves the caption out of every view (and its lines out of the page's text).
    gold: a column specification (`Labels`), or null.
    annotations: annotator -> column specification. A column `name.*` holds an object of annotator -> label:
        its annotators are called `<annotator>/<key>`.

    Raises UserError with the file and the row for anything that is not as the config says.
    """
    rows = read(path, files)
    parts = {"cells": cells, "page_text": page_text, "caption": caption, "footnotes": footnotes}
    for key, column in {"id": id, "group": group, **parts}.items():
        rows.require(column, f"dataset.{key}")
    ids = _ids(rows, id)
    index = pd.Index(ids, name="item_id", dtype=object)
    items = pd.DataFrame({"group_id": ids if group is None else _groups(rows, group)}, index=index, dtype=object)
    fields = set(rows.columns) | (set() if cells is None else set(tables.FIELDS))
    values = [row for row, _ in rows]
    if cells is not None:
        values = [row | _table_fields(row, parts, captions, place) for row, place in rows]
    for name, texts in rendered(views, values, fields).items():
        items[name] = pd.Series(texts, index=index, dtype=object)
    trusted = gold_of(gold, rows, ids, task)
    return Data(
        items=items,
        annotations=votes.check(
            annotations_of(annotations, rows, ids, task), task.classes, index, "dataset.annotations"
        ),
        gold=trusted,
        partition=pd.Series(rows.partition, index=index, name="partition") if rows.partition else None,
        digest=hashlib.sha256(f"{rows.digest} {trusted.to_dict()} {list(items['group_id'])}".encode()).hexdigest(),
    )


def _ids(rows: Rows, id: str) -> list[str]:
    seen: dict[str, str] = {}
    for row, place in rows:
        value = row.get(id)
        if value is None or isinstance(value, (list, dict)) or not str(value).strip():
            raise UserError(f"{place}: dataset.id={id}: the item has no id (got {value!r})")
        key = name_of(value)
        if key in seen:
            raise UserError(f"{place}: dataset.id={id}: {key!r} stands twice; first at {seen[key]}")
        seen[key] = place
    return list(seen)


def _groups(rows: Rows, group: str) -> list[str]:
    for row, place in rows:
        if not text_of(row.get(group)).strip():
            raise UserError(f"{place}: dataset.group={group}: the item has no group; null would make each item its own")
    return [name_of(row[group]) for row, _ in rows]


def _table_fields(row: Row, parts: Mapping[str, str | None], captions: bool, place: str) -> dict[str, str]:
    """The fields of a table, and its own caption and page columns without the caption where it is to be left out."""
    given = {name: row.get(column) if column else None for name, column in parts.items()}
    where = f"{place}: dataset.cells={parts['cells']}"
    try:
        cells = json.loads(given["cells"]) if isinstance(given["cells"], str) else given["cells"]
        rows = tables.grid(cells)
    except json.JSONDecodeError:
        raise UserError(f"{where}: a string that is not JSON; want a list of rows") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    fields = tables.fields(
        rows,
        page_text=text_of(given["page_text"]),
        caption=text_of(given["caption"]),
        footnotes=text_of(given["footnotes"]),
        captions=captions,
    )
    return {column: fields[name] for name, column in parts.items() if column and name != "cells"} | fields
