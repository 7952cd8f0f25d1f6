"""Labels that an export still holds although who gave them took them back: skipped, rejected, discarded, drafts."""

from collections import Counter
from typing import Any

from silvertune.datasets.notices import say
from silvertune.datasets.rows import Rows
from silvertune.datasets.values import is_null

_OF_PRODIGY = ("answer", ("reject", "ignore"))
_OF_ARGILLA = ("status", ("discarded", "draft"))
_OF_LABEL_STUDIO = ("was_cancelled", (True,))


def standing(column: str, rows: Rows, where: str) -> list[Any]:
    """The values of a column of labels without those that were taken back, which are counted and said.

    Prodigy keeps the choice (`accept`) or the `label` of a text whose `answer` is reject or ignore; Argilla the value
    of a response whose `status` is discarded or draft; Label Studio the result of an annotation that `was_cancelled`.

    Args:
        column: The column, or a path into one.
        rows: The rows of the files.
        where: The configuration's key with the column, for the message.

    Returns:
        One value a row; None in place of one that was taken back.
    """
    values = rows.values(column)
    counts: Counter[str] = Counter()
    for path, words in _marks(column, rows):
        for number, mark in enumerate(rows.values(path) if path.split(".")[0] in rows.columns else ()):
            if isinstance(mark, str | bool) and mark in words and not is_null(values[number]) and values[number] != []:
                counts[f"{path}={str(mark).lower() if mark is True else mark}"] += 1
                values[number] = None
    if counts:
        marks = ", ".join(f"{count} with {mark}" for mark, count in counts.items())
        say(f"{where}: {counts.total()} labels that were taken back are left out ({marks})")
    return values


def _marks(column: str, rows: Rows) -> list[tuple[str, tuple[str | bool, ...]]]:
    """Where the values of a column may be said to be taken back, and by which words."""
    parts = column.split(".")
    parents = [".".join(parts[:end]) for end in range(1, len(parts))]
    marks: list[tuple[str, tuple[str | bool, ...]]] = [
        (f"{parent}.{_OF_LABEL_STUDIO[0]}", _OF_LABEL_STUDIO[1]) for parent in parents
    ]
    if parents and parts[-1] == "value":
        marks.append((f"{parents[-1]}.{_OF_ARGILLA[0]}", _OF_ARGILLA[1]))
    if parts[0] == "accept" or (column == "label" and "_input_hash" in rows.columns):
        marks.append(_OF_PRODIGY)
    return marks
