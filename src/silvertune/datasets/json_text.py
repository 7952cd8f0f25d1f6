"""JSON of a file, where nothing is lost without a word: a key that stands twice, a NaN, a letter in another form."""

import json
import re
from typing import Any

from silvertune.datasets.values import normal_form
from silvertune.errors import UserError

_BLANKS = re.compile(r"[ \t\n\r]*")


class NotReadError(ValueError):
    """A text is not JSON, or an object in it has a key twice; the message says which."""


class _KeyTwiceError(NotReadError):
    """An object has a key twice."""


def decoded(text: str) -> Any:
    """What a JSON text says.

    Args:
        text: The text.

    Returns:
        Its value; NaN is None, and the keys of objects are in Unicode's composed form.

    Raises:
        NotReadError: It is not JSON, or an object in it has a key twice, in whichever Unicode form.
    """
    try:
        return _DECODER.decode(text)
    except NotReadError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotReadError(f"not JSON ({error})") from None


def entry_with_key_twice(text: str) -> int | None:
    """The number, from 1, of the first entry of a JSON list in which an object has a key twice; None: there is none."""
    position, number = text.index("[") + 1, 1
    while True:
        try:
            position = _DECODER.raw_decode(text, _end_of_blanks(text, position))[1]
        except _KeyTwiceError:
            return number
        except (ValueError, RecursionError):
            return None
        position, number = _end_of_blanks(text, position) + 1, number + 1


def names_of_columns(names: list[str], where: str) -> list[str]:
    """The names of a file's columns in Unicode's composed form, in which the same letters are the same characters.

    Args:
        names: The names as the file has them.
        where: The file, for the message.

    Raises:
        UserError: Two columns have one name.
    """
    written: dict[str, str] = {}
    for name in names:
        if (normal := normal_form(name)) in written:
            raise UserError(f"{where}: {twice('column', written[normal], name)}")
        written[normal] = name
    return list(written)


def twice(what: str, first: str, second: str) -> str:
    """`the column 'a' stands twice`, with escapes where two names only look the same."""
    if first == second:
        return f"the {what} {first!r} stands twice"
    return f"the {what}s {first!a} and {second!a} are the same letters; want one name for each {what}"


def json_constant(name: str) -> float | None:
    """NaN is null; JSON has no infinity, but Python writes it."""
    return None if name == "NaN" else float(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs) and "".join(made).isascii():
        return made
    keys: dict[str, str] = {}
    for key, _ in pairs:
        if (name := normal_form(key)) in keys:
            raise _KeyTwiceError(f"{twice('key', keys[name], key)} in one object")
        keys[name] = key
    return {normal_form(key): value for key, value in pairs}


def _end_of_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


_DECODER = json.JSONDecoder(parse_constant=json_constant, object_pairs_hook=_object)
