"""JSON of a file, where nothing is lost without a word: a key that stands twice, a NaN, a letter in another form."""

import json
import re
from typing import Any

from silvertune.datasets.column_names import twice
from silvertune.datasets.values import normal_form

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


def _constant(name: str) -> float | None:
    """NaN is null; JSON has no infinity, but Python writes it."""
    return None if name == "NaN" else float(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) == len(pairs) and "".join(content).isascii():
        return content
    keys: dict[str, str] = {}
    for key, _ in pairs:
        if (name := normal_form(key)) in keys:
            raise _KeyTwiceError(f"{twice('key', keys[name], key)} in one object")
        keys[name] = key
    return {normal_form(key): value for key, value in pairs}


def _end_of_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


_DECODER = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_object)
