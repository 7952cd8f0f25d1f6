"""Keys: read from the environment where they are needed, and never shown, in whole or in part."""

import os
import re

from silvertune.errors import UserError
from silvertune.llms.interface import UnusableError

_SHORTEST_PART = 6


def check_name(variable: str | None, key: str) -> None:
    """UserError if `variable` is no name of an environment variable: it may be a key itself, so it is not repeated."""
    if variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise UserError(f"{key}: want the NAME of an environment variable, such as OPENAI_API_KEY, not a key")


def from_environment(variable: str | None, key: str) -> str | None:
    """The key that the environment variable holds; None where there is no variable to read.

    Raises UnusableError if it is empty, or can't be sent in a header.
    """
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UnusableError(
            f"{key}={variable}: the environment has no such variable; put the key there: export {variable}=…"
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UnusableError(
            f"{key}={variable}: what it holds can't be a key: it has spaces or other than plain characters"
        )
    return value


def hidden(text: str, secret: str | None) -> str:
    """`text` with every part of `secret` that is 6 characters or longer taken out, as servers like to repeat keys."""
    if not secret:
        return text
    size = min(_SHORTEST_PART, len(secret))
    marked = [False] * len(text)
    for start in range(len(secret) - size + 1):
        for found in re.finditer(re.escape(secret[start : start + size]), text):
            marked[found.start() : found.end()] = [True] * size
    shown = "".join("\0" if mark else character for character, mark in zip(text, marked, strict=True))
    return re.sub("\0+", "[hidden]", shown)
