"""Texts that are too long for a prompt, cut so that what a table is can still be seen."""

import json
from collections.abc import Callable
from math import ceil

HEADER_ROWS = 4
"""Rows that are kept whole: headers of schedules have 2 to 5 rows, of which the last are often windows."""
LEFT_OUT = "[…]"


def tokens(text: str) -> int:
    """About how many tokens `text` is to an LLM: a third of its UTF-8 bytes, which is more than most count in prose."""
    return ceil(len(text.encode()) / 3)


def fit(text: str, most: int) -> str:
    """`text`, cut to at most `most` `tokens`.

    A table (JSON of columns or of rows; or lines of cells joined by ' | ') keeps its first rows and its first column
    for as long as they fit, then other cells row by row; any other text keeps its beginning and its end.
    """
    if tokens(text) <= most:
        return text
    for parse, show in ((_columns, _as_columns), (_rows, _as_rows), (_lines, _as_lines)):
        cells = parse(text)
        if cells is not None:
            # The most cells that fit, by bisection: what is shown grows with the number of cells. Each takes a byte
            # at least, and a token is three of them.
            order = _by_importance(cells)
            low, high = 0, min(len(order), 3 * most)
            while low < high:
                middle = (low + high + 1) // 2
                if tokens(show({place: cells[place] for place in order[:middle]})) <= most:
                    low = middle
                else:
                    high = middle - 1
            if low:
                return show({place: cells[place] for place in sorted(order[:low])})
    return _ends(text, most)


def longest(rendered: Callable[[int], tuple[str, int]], text_tokens: int, limit: int) -> tuple[str | None, int]:
    """The longest rendering of a text whose exact number of tokens is within a limit, or nearly the longest.

    Args:
        rendered: What is made of the text cut by `fit` to so many tokens, and its exact number of tokens.
        text_tokens: `tokens` of the text.
        limit: The most exact tokens.

    Returns:
        The rendering, None where not even that of an empty text is within the limit, and how much `fit` left of it.
    """
    content, count = rendered(text_tokens)
    if count <= limit:
        return content, text_tokens
    best, low, high = rendered(0), 0, text_tokens
    if best[1] > limit:
        return None, 0
    while high - low > max(1, text_tokens // 100):
        middle = (low + high) // 2
        content, count = rendered(middle)
        if count <= limit:
            best, low = (content, count), middle
        else:
            high = middle
    return best[0], low


Cells = dict[tuple[int, int], str]


def _by_importance(cells: Cells) -> list[tuple[int, int]]:
    rows = {row: rank for rank, row in enumerate(sorted({row for row, _ in cells}))}
    first = min(column for _, column in cells)

    def rank(place: tuple[int, int]) -> tuple[int, int, int]:
        row, column = place
        return (0 if rows[row] < HEADER_ROWS else 1 if column == first else 2, row, column)

    return sorted(cells, key=rank)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _columns(text: str) -> Cells | None:
    content = _json(text)
    if not isinstance(content, dict) or not all(isinstance(column, dict) for column in content.values()):
        return None
    keys = [(row, column) for column in content for row in content[column]]
    if not keys or not all(f"{row}{column}".isdigit() for row, column in keys):
        return None
    return {(int(row), int(column)): str(content[column][row]) for row, column in keys}


def _as_columns(cells: Cells) -> str:
    columns: dict[str, dict[str, str]] = {}
    for (row, column), cell in sorted(cells.items(), key=lambda entry: entry[0][::-1]):
        columns.setdefault(str(column), {})[str(row)] = cell
    return json.dumps({**columns, LEFT_OUT: {}}, ensure_ascii=False)


def _rows(text: str) -> Cells | None:
    content = _json(text)
    if not isinstance(content, list) or not content or not all(isinstance(row, list) for row in content):
        return None
    return {(i, j): str(cell) for i, row in enumerate(content) for j, cell in enumerate(row)} or None


def _as_rows(cells: Cells) -> str:
    return json.dumps([*_by_row(cells), [LEFT_OUT]], ensure_ascii=False)


def _lines(text: str) -> Cells | None:
    lines = text.split("\n")
    if sum(" | " in line for line in lines) < 2:
        return None
    return {(i, j): cell for i, line in enumerate(lines) for j, cell in enumerate(line.split(" | "))}


def _as_lines(cells: Cells) -> str:
    return "\n".join([*(" | ".join(row) for row in _by_row(cells)), LEFT_OUT])


def _by_row(cells: Cells) -> list[list[str]]:
    rows: dict[int, list[str]] = {}
    for (row, _), cell in sorted(cells.items()):
        rows.setdefault(row, []).append(cell)
    return list(rows.values())


def _ends(text: str, most: int) -> str:
    """Two thirds of the room for the beginning, one third for the end."""
    room = max(3 * most - len(LEFT_OUT.encode()) - 4, 0)
    content = text.encode()
    head, tail = content[: room * 2 // 3], content[len(content) - room // 3 :]
    return f"{head.decode(errors='ignore')}\n{LEFT_OUT}\n{tail.decode(errors='ignore')}"
