"""The text of an item as paragraphs and tables, so that a page shows a table as a table."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

Rows = list[list[str]]
Block = str | Rows
"""A paragraph, or the rows of a table; rows may differ in length."""

MOST_ROWS, MOST_COLUMNS = 300, 60
"""Of a larger table, so many rows and columns are kept."""
LONGEST_GAP = 2
"""So many lines without a separator may stand between rows of a table: cells have line breaks, rows have one cell."""
LONG_CELL = 30
"""Characters of a cell from which on a line may be a caption."""
SEPARATOR = re.compile(r"\t|(?:^|\s)\|(?:\s|$)")
RULE = re.compile(r"[\s|:+=-]*")
"""What the line below the head of a table in Markdown is made of, with at least one dash."""


def blocks(text: str) -> list[Block]:
    """Take a text apart.

    Args:
        text: The view of an item.

    Returns:
        Its paragraphs and tables, in their order. A table is JSON (rows, records, column -> {row: cell} or name ->
        value), or at least two lines whose cells are parted by tabs or by ` | `.
    """
    if (rows := _json_rows(text)) is not None:
        return [rows]
    parts: list[Block] = []
    lines = text.split("\n")
    paragraph: list[str] = []
    position = 0
    while position < len(lines):
        end = _end_of_table(lines, position)
        if end > position:
            rows = [_cells(line) for line in lines[position:end] if not _is_rule(line) and line.strip()]
            if _is_caption(rows):
                paragraph.append(lines[position])
                rows = rows[1:]
        elif (rows := _json_rows(lines[position])) is not None:
            end = position + 1
        else:
            paragraph.append(lines[position])
            position += 1
            continue
        parts += ["\n".join(paragraph), rows]
        paragraph, position = [], end
    parts.append("\n".join(paragraph))
    return [part for part in parts if not isinstance(part, str) or part.strip()]


def _end_of_table(lines: Sequence[str], start: int) -> int:
    """The position behind the table whose first line is at `start`; `start` where there is no table."""
    end, rows, position = start, 0, start
    while position < len(lines) and position - end <= LONGEST_GAP:
        if SEPARATOR.search(lines[position]):
            end, rows = position + 1, rows + 1
        elif position == start or not lines[position].strip():
            break
        position += 1
    return end if rows > 1 else start


def _is_rule(line: str) -> bool:
    return "-" in line and RULE.fullmatch(line) is not None


def _is_caption(rows: Rows) -> bool:
    """Whether the first line is no row: the lines above a table may be joined by the same separator as its cells."""
    if len(rows) < 3:
        return False
    length = sum(map(len, rows[0])) / len(rows[0])
    return length >= LONG_CELL and len(rows[0]) > max(map(len, rows[1:]))


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip() for cell in line.split("\t")]
    stripped = line.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] == "|":  # a row in Markdown
        stripped = stripped[1:-1]
    return [cell.strip() for cell in stripped.split("|")]


def _json_rows(text: str) -> Rows | None:
    """The rows of a table in JSON; None where the text is none."""
    stripped = text.strip()
    if not stripped or stripped[0] + stripped[-1] not in ("{}", "[]"):
        return None
    try:
        value = json.loads(stripped)
    except (ValueError, RecursionError):
        return None
    if not value:
        return None
    if isinstance(value, list):
        if all(isinstance(row, list) for row in value):
            return [[_cell(cell) for cell in row[: MOST_COLUMNS + 1]] for row in value[: MOST_ROWS + 1]]
        if all(isinstance(row, dict) for row in value):
            names = list(dict.fromkeys(name for row in value[: MOST_ROWS + 1] for name in row))[: MOST_COLUMNS + 1]
            return [names, *([_cell(row.get(name)) for name in names] for row in value[: MOST_ROWS + 1])]
        return None
    if all(isinstance(column, dict) for column in value.values()):
        names = _numbered(value)[: MOST_COLUMNS + 1]
        keys = _numbered(dict.fromkeys(key for column in value.values() for key in column))[: MOST_ROWS + 1]
        rows = [[_cell(value[name].get(key)) for name in names] for key in keys]
        is_counted = all(name.isdecimal() for name in names)
        return rows if is_counted else [names, *rows]
    return [[name, _cell(cell)] for name, cell in list(value.items())[: MOST_ROWS + 1]]


def _numbered(names: dict[str, Any]) -> list[str]:
    """Names in the order of their numbers; in their own order where they are no numbers."""
    is_counted = all(name.isdecimal() and len(name) < 10 for name in names)
    return sorted(names, key=int) if is_counted else list(names)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(parts: Sequence[Block], limit: int) -> tuple[list[Block], bool]:
    """Cut what is too long for a page.

    Args:
        parts: Paragraphs and tables.
        limit: How many bytes (UTF-8) are kept.

    Returns:
        The parts that fit, the last one cut, and whether anything was left out.
    """
    kept: list[Block] = []
    left = limit
    for part in parts:
        if isinstance(part, str):
            shown, left = _cut_text(part, left)
            kept.append(shown)
            if shown != part:
                return kept, True
        else:
            rows, left, is_cut = _cut_rows(part, left)
            kept.append(rows)
            if is_cut:
                return kept, True
    return kept, False


def size(parts: Sequence[Block]) -> int:
    """How many bytes paragraphs and tables have on a page, as `cut` counts them."""
    texts = [part for part in parts if isinstance(part, str)]
    cells = [cell for part in parts if not isinstance(part, str) for row in part for cell in row]
    return sum(map(_bytes, texts)) + sum(_bytes(cell) + 3 for cell in cells)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _cut_rows(rows: Rows, left: int) -> tuple[Rows, int, bool]:
    shown: Rows = []
    is_cut = len(rows) > MOST_ROWS
    for row in rows[:MOST_ROWS]:
        cells: list[str] = []
        is_cut |= len(row) > MOST_COLUMNS
        for cell in row[:MOST_COLUMNS]:
            if (needed := _bytes(cell) + 3) > left:  # the quotes and the comma
                return [*shown, [*cells, _cut_text(cell, max(left - 3, 0))[0]]], 0, True
            cells.append(cell)
            left -= needed
        shown.append(cells)
    return shown, left, is_cut


def _cut_text(text: str, left: int) -> tuple[str, int]:
    if (needed := _bytes(text)) <= left:
        return text, left - needed
    return text.encode("utf-8", "replace")[:left].decode("utf-8", "ignore"), 0


def common_limit(sizes: Sequence[int], budget: int) -> int:
    """The largest limit that keeps all texts together within a budget.

    Args:
        sizes: The sizes of the texts.
        budget: How much all of them may have together once each is cut to the limit.

    Returns:
        The limit; the largest size where nothing has to be cut.
    """
    ordered = np.sort(np.asarray(sizes, dtype=np.int64))
    if not len(ordered) or ordered.sum() <= budget:
        return int(ordered[-1]) if len(ordered) else budget
    before = np.concatenate([[0], np.cumsum(ordered)[:-1]])
    limits = (budget - before) // (len(ordered) - np.arange(len(ordered)))  # if these and all longer ones are cut
    return int(limits[np.argmax(limits < ordered)])
