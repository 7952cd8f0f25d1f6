"""A table's cells, and the fields that views of it are made of."""

import json
import re
from collections.abc import Iterable
from typing import Any

from silvertune.datasets.values import text_of

FIELDS = {
    "cells_json": "column -> {row: cell}, empty cells left out (the paper's JSON view)",
    "cells_text": "one line a row, cells joined by ' | ', empty cells left out",
    "caption": "the lines above the table",
    "footnotes": "the lines below the table",
    "page_text": "all the text of the page (the paper's text view)",
}
"""The fields that a template may use for a table, beside the columns of its file."""


def fields(cells: list[list[str]], *, page_text: str, caption: str, footnotes: str, captions: bool) -> dict[str, str]:
    """The text of each of `FIELDS`.

    Args:
        cells: The table, rows of equal length.
        page_text: All the text of its page.
        caption: The lines above it.
        footnotes: The lines below it.
        captions: False empties `caption`, and takes its lines out of `page_text`.

    Returns:
        Field -> text; "" where there is none.
    """
    if not captions:
        lines = {_bare(line) for line in re.split(r"[|\n]", caption)} - {""}
        page_text = "\n".join(line for line in page_text.split("\n") if _bare(line) not in lines)
        caption = ""
    columns = {
        str(j): {str(i): row[j] for i, row in enumerate(cells) if row[j].strip()}
        for j in range(len(cells[0]) if cells else 0)
    }
    return {
        "cells_json": json.dumps({j: column for j, column in columns.items() if column}, ensure_ascii=False)
        if any(columns.values())
        else "",
        "cells_text": "\n".join(" | ".join(cell for cell in row if cell.strip()) for row in cells).strip(),
        "caption": caption,
        "footnotes": footnotes,
        "page_text": page_text,
    }


def grid(value: Any) -> list[list[str]]:
    """Cells as rows of equal length.

    Args:
        value: A list of rows, or column -> {row: cell} (what camelot's `to_json` writes); None is no cells.

    Returns:
        The rows; "" where a cell is null.

    Raises:
        ValueError: The value is something else, or its rows differ in length.
        UserError: A cell holds no text.
    """
    if value is None:
        return []
    if isinstance(value, dict):
        columns = {key: column for key, column in value.items() if column is not None}
        if not all(isinstance(column, dict) for column in columns.values()):
            raise ValueError("an object that is not column -> {row: cell}")
        # A row that no column has a cell in is what Parquet makes of tables of different sizes.
        keys = _numbered({key for column in columns.values() for key, cell in column.items() if cell is not None})
        rows: list[Any] = [[columns[name].get(key) for name in _numbered(columns)] for key in keys]
    elif isinstance(value, list) and all(isinstance(row, list) for row in value):
        rows = value
    else:
        raise ValueError(f"want a list of rows, or column -> {{row: cell}}, got {type(value).__name__}")
    widths = [len(row) for row in rows]
    if len(set(widths)) > 1:
        wrong = next(i for i, width in enumerate(widths) if width != widths[0])
        raise ValueError(f"ragged rows: row {wrong} has {widths[wrong]} cells, row 0 has {widths[0]}; pad it with ''")
    return [
        [str(cell) if isinstance(cell, bool) else text_of(cell, f"row {i}, cell {j}") for j, cell in enumerate(row)]
        for i, row in enumerate(rows)
    ]


def _numbered(keys: Iterable[Any]) -> list[Any]:
    """Row or column keys in the order of their numbers; in their own order where they are no numbers."""
    keys = list(keys)
    return (
        sorted(keys, key=lambda key: int(key)) if all(str(key).isdecimal() for key in keys) else sorted(keys, key=str)
    )


def _bare(line: str) -> str:
    return " ".join(line.split()).lower()
