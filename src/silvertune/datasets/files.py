"""Items, gold and annotations from the files of a user, mapped by the configuration: tables or texts."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from silvertune import votes
from silvertune.datasets import tables
from silvertune.datasets.formats import TextFormat
from silvertune.datasets.label_columns import annotations_of, gold_of
from silvertune.datasets.notices import say
from silvertune.datasets.rows import Rows, read
from silvertune.datasets.values import names_of, normal_form, shared_names_of, texts_of
from silvertune.datasets.views import rendered
from silvertune.errors import UserError
from silvertune.items import Data, groups_with_copies_together
from silvertune.schema import Task

ROWS_AT_ONCE = 10_000
"""Of so many items the digest's text is in memory at once."""
PARTS_OF_TABLES = ("cells", "page_text", "caption", "footnotes")
"""Settings of `load` that name a column of a table's parts."""


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
    if not isinstance(annotations, Mapping):
        raise UserError(f"dataset.annotations={annotations}: want {{annotator: {{column: ...}}}}")
    rows = read(path, files, TextFormat(encoding, separator))
    parts = dict(zip(PARTS_OF_TABLES, (cells, page_text, caption, footnotes), strict=True))
    for key, column in {"id": id, "group": group, **parts}.items():
        rows.require(column, f"dataset.{key}")
    row_an_annotation = any(isinstance(spec, Mapping) and spec.get("annotator") for spec in annotations.values())
    ids = [str(number) for number in range(1, len(rows) + 1)] if id is None else _ids(rows, id, row_an_annotation)
    groups = ids if group is None else _groups(rows, group)
    texts = views_of_rows(rows, views, parts, captions)
    first_rows = _first_rows(ids, groups, texts, rows)
    index = pd.Index(ids, name="item_id", dtype=object)[first_rows]
    columns: dict[str, Sequence[str | None]] = {"group_id": groups, **texts}
    items = pd.DataFrame({name: _objects(column)[first_rows] for name, column in columns.items()}, index, dtype=object)
    if keep_copies_together:
        items["group_id"] = groups_with_copies_together(items)
    trusted = gold_of(gold, rows, ids, task)
    partition = pd.Series(_objects(rows.partition)[first_rows], index, name="partition") if rows.partition else None
    return Data(
        items=items,
        annotations=votes.check(
            annotations_of(annotations, rows, ids, task), task.classes, index, "dataset.annotations"
        ),
        gold=trusted,
        partition=partition,
        digest=_digest(rows.digest, trusted, items["group_id"]),
    )


def _digest(of_files: str, gold: pd.Series, groups: pd.Series) -> str:
    """SHA-256 of the text `<of_files> <gold as a dict> <groups as a list>`, of which a part at a time is in memory."""
    digest = hashlib.sha256(of_files.encode())
    for table, opening, closing in ((gold, " {", "}"), (groups, " [", "]")):
        digest.update(opening.encode())
        for start in range(0, len(table), ROWS_AT_ONCE):
            part = table.iloc[start : start + ROWS_AT_ONCE]
            text = str(part.to_dict() if table is gold else part.to_list())[1:-1]
            digest.update(f"{', ' if start else ''}{text}".encode())
        digest.update(closing.encode())
    return digest.hexdigest()


def _ids(rows: Rows, id: str, row_an_annotation: bool) -> list[str]:
    """The item that each row is about."""
    values, where = rows.values(id), f"dataset.id={id}"
    for number, value in enumerate(values):
        if value is None or isinstance(value, bool | list | dict):
            raise UserError(f"{rows.places[number]}: {where}: the item has no id (got {value!r})")
    ids = names_of(values, rows.places, where)
    if "" in ids:
        number = ids.index("")
        raise UserError(f"{rows.places[number]}: {where}: the item has no id (got {values[number]!r})")
    if not row_an_annotation and len(set(ids)) < len(ids):
        number = int(np.flatnonzero(pd.Index(ids, dtype=object).duplicated())[0])
        raise UserError(
            f"{rows.places[number]}: {where}: {ids[number]!r} stands twice; first at "
            f"{rows.places[ids.index(ids[number])]}. Where the file has one row an annotation, say which column names "
            "who gave it: dataset.annotations.<name>.annotator"
        )
    return ids


def _groups(rows: Rows, group: str) -> list[str]:
    """The group that each row names."""
    groups = shared_names_of(rows.values(group), rows.places, f"dataset.group={group}")
    if "" in groups:
        place = rows.places[groups.index("")]
        raise UserError(f"{place}: dataset.group={group}: the item has no group; null would make each item its own")
    return groups


def views_of_rows(
    rows: Rows,
    views: Mapping[str, str],
    parts: Mapping[str, str | None],
    captions: bool,
    has: Callable[[str], bool] | None = None,
) -> dict[str, list[str | None]]:
    """The text of every view of every row.

    Args:
        rows: The rows.
        views: View -> template, as `load` takes them.
        parts: Each of `PARTS_OF_TABLES` -> its column, or None.
        captions: False leaves the caption of a table out.
        has: Whether a template may name a field; None: what any of the rows has.

    Returns:
        For each view a text for every row; None where the row has no such view.

    Raises:
        UserError: A template names a field that is not there, or a row holds something that is no text.
    """
    has = has or rows.has
    if parts["cells"] is None:
        return rendered(views, rows.values, sorted(rows.columns), rows.places, has)
    of_tables = _table_fields(rows, parts, captions)
    return rendered(
        views,
        lambda name: of_tables[name] if name in of_tables else rows.values(name),
        sorted(rows.columns | set(tables.FIELDS)),
        rows.places,
        lambda name: name in tables.FIELDS or has(name),
    )


def _first_rows(
    ids: Sequence[str], groups: Sequence[str], texts: Mapping[str, Sequence[str | None]], rows: Rows
) -> np.ndarray:
    """The number of each item's first row. UserError where a later row of the same item says something else of it."""
    item, names = pd.factorize(_objects(ids))
    if len(names) == len(ids):
        return np.arange(len(ids))
    first_rows = np.unique(item, return_index=True)[1]
    first_row = first_rows[item]
    others = {
        name: np.flatnonzero(values != values[first_row])
        for name, column in {"group": groups, **texts, "": rows.partition}.items()
        if len(values := _objects(column))
    }
    if differing := {name: numbers[0] for name, numbers in others.items() if len(numbers)}:
        name = min(differing, key=lambda name: differing[name])
        number = differing[name]
        place, first_place = rows.places[number], rows.places[first_row[number]]
        raise UserError(
            f"{place}: item {ids[number]!r} has another {name} than at {first_place}; one id is one item"
            if name
            else f"{place}: item {ids[number]!r} is in dataset.files.{rows.partition[first_row[number]]} too; "
            f"first at {first_place}"
        )
    say(f"{rows.files}: {len(ids)} rows are annotations of {len(names)} items")
    return first_rows


def _objects(values: Sequence[Any]) -> np.ndarray:
    """The values as a NumPy array of objects."""
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def _table_fields(rows: Rows, parts: Mapping[str, str | None], captions: bool) -> dict[str, list[str]]:
    """The fields of tables, and their own caption and page columns without the caption where it is to be left out.

    Returns:
        Field or column -> its text in every row.
    """
    texts = {
        name: texts_of(rows.values(column), rows.places, f"dataset.{name}={column}") if column else [""] * len(rows)
        for name, column in parts.items()
        if name != "cells"
    }
    fields: dict[str, list[str]] = {name: [] for name in tables.FIELDS}
    for number, cells in enumerate(rows.values(str(parts["cells"]))):
        grid = _grid(cells, f"{rows.places[number]}: dataset.cells={parts['cells']}")
        of_row = {name: column[number] for name, column in texts.items()}
        for name, text in tables.fields(grid, **of_row, captions=captions).items():
            fields[name].append(text)
    return {normal_form(column): fields[name] for name, column in parts.items() if column and name != "cells"} | fields


def _grid(cells: Any, where: str) -> list[list[str]]:
    try:
        return tables.grid(json.loads(cells) if isinstance(cells, str | bytes) else cells)
    except json.JSONDecodeError:
        raise UserError(f"{where}: a string that is not JSON; want a list of rows") from None
    except (ValueError, RecursionError, UserError) as error:
        raise UserError(f"{where}: {error}") from None
