"""Single values of files: which are null, which are text, and which number a value is."""

import datetime
import math
import re
import unicodedata
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from silvertune.errors import UserError

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)
_WRITTEN_AS_TEXT = (int, float, Decimal, datetime.date, datetime.time, uuid.UUID)
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
"""Characters without width, which Unicode does not count among the blanks."""


def is_null(value: Any) -> bool:
    """Whether a value stands for "nothing is here": None, NaN of any type, NaT or pandas' NA."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Decimal):
        return value.is_nan()
    return type(value).__name__ in ("NaTType", "NAType")


def without_nulls(value: Any) -> Any:
    """The same value with None in place of every other null, inside lists and objects as well.

    The keys of objects are in Unicode's composed form, as those of JSON are (`silvertune.datasets.json_text`).
    """
    if isinstance(value, dict):
        return {normal_form(key): without_nulls(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value]
    return None if is_null(value) else value


def text_of(value: Any, where: object) -> str:
    """The text that a value holds.

    Args:
        value: Text, UTF-8 bytes, a number, a date or a time.
        where: File, row and column, for the message.

    Returns:
        The text as it is written; "" for null.

    Raises:
        UserError: The value is something else (a list, an object, a truth value), bytes that are not UTF-8, or text
            with half a character.
    """
    if is_null(value):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where}: holds bytes that are not UTF-8 text (0x{value[error.start]:02x} at byte {error.start})"
            ) from None
    if isinstance(value, str):
        return _whole_characters(value, where)
    if isinstance(value, _WRITTEN_AS_TEXT) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{where}: holds {_kind(value)}; want text")


def name_of(value: Any, where: object) -> str:
    """One spelling for the name of an item, a group or an annotator, whatever type the file gives it.

    Args:
        value: Text or a number; a whole number that a file keeps as 7.0 is named 7.
        where: File, row and column, for the message.

    Returns:
        The name without blanks around it, its leading zeros kept; "" for null.

    Raises:
        UserError: As `text_of` does, or the value is an infinite number: JSON's 1e400 has become one, as has 1e500.
    """
    if isinstance(value, float | Decimal) and not (is_null(value) or math.isfinite(value)):
        raise UserError(f"{where}: holds an infinite number, or one too large to be told from others; write it as text")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return str(int(value))
    return text_of(value, where).strip()


def texts_of(values: Sequence[Any], places: Sequence[str], column: str) -> list[str]:
    """The texts that the values of a column hold (see `text_of`).

    Args:
        values: The values.
        places: File and row of each, for messages.
        column: What a message says of the column.

    Raises:
        UserError: A value is no text.
    """
    return [
        value if type(value) is str and value.isascii() else text_of(value, Where(places, number, column))
        for number, value in enumerate(values)
    ]


def names_of(values: Sequence[Any], places: Sequence[str], column: str) -> list[str]:
    """The names that the values of a column hold (see `name_of`), one object for names that are the same.

    Args:
        values: The values.
        places: File and row of each, for messages.
        column: What a message says of the column.

    Raises:
        UserError: A value is no name.
    """
    names: dict[str, str] = {}
    return [
        names.setdefault(name, name)
        for number, value in enumerate(values)
        for name in (
            value.strip() if type(value) is str and value.isascii() else name_of(value, Where(places, number, column)),
        )
    ]


def shared_names_of(values: Sequence[Any], places: Sequence[str], column: str) -> list[str]:
    """The names that rows have in common, of groups or annotators: one that is written in two Unicode forms is one.

    Args:
        values: The values.
        places: File and row of each, for messages.
        column: What a message says of the column.

    Returns:
        The name of each (see `name_of`), in Unicode's composed form and without characters of no width around it.

    Raises:
        UserError: A value is no name.
    """
    names = names_of(values, places, column)
    shared = {name: without_blanks_around(normal_form(name)) for name in set(names)}
    return [shared[name] for name in names]


class Where:
    """`place: column` of a row, as a text once a message needs it."""

    def __init__(self, places: Sequence[str], number: int, column: str) -> None:
        self._places, self._number, self._column = places, number, column

    def __str__(self) -> str:
        return f"{self._places[self._number]}: {self._column}"


def number_of(value: Any) -> Decimal | None:
    """The number that a value is, exactly; None where it is none.

    Text counts where it is written with the digits 0-9 and without separators. True and false are 1 and 0.
    """
    if isinstance(value, bool):
        return Decimal(int(value))
    if is_null(value):
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value))
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() in ("true", "false"):
        return Decimal(int(text.lower() == "true"))
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def normal_form(text: str) -> str:
    """A text in Unicode's composed form (NFC), in which the same letters are the same characters."""
    return unicodedata.normalize("NFC", text)


def without_blanks_around(text: str) -> str:
    """A text without the blanks and the characters without width that stand before and after it."""
    stripped = text.strip().strip(_INVISIBLE)
    return stripped if stripped == text else without_blanks_around(stripped)


def _whole_characters(text: str, where: object) -> str:
    """The text itself, if every character of it is whole: JSON can escape one half of a pair alone."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: holds half a character ({text[error.start]!r} at position {error.start}), which no encoder "
            "takes; mend it in the file"
        ) from None
    return text


def _kind(value: Any) -> str:
    names = {bool: "a truth value", list: "a list", dict: "an object"}
    return f"{names.get(type(value), type(value).__name__)} ({_shortened(value)})"


def _shortened(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
