"""Where a sweep prints: what the terminal can't show is replaced, whatever its encoding."""

import codecs
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PLAIN = {"Δ": "d", "−": "-", "–": "-", "—": "-", "…": ".", "→": ">", "≥": ">", "≤": "<", "×": "x", "≈": "~",
         "“": '"', "”": '"', "‘": "'", "’": "'", "•": "*", "†": "+"}  # fmt: skip
"""One character for each, so that the columns of a table stay in line."""
WIDTH = 240
"""Characters a line where there is no terminal to be narrow."""


def open_console() -> "Console":
    """A console on the standard output.

    Returns:
        One that is as wide as the terminal, or `WIDTH` characters where the output is piped into a file.
    """
    from rich.console import Console

    make_printable()
    # In a notebook plain text as well: rich would make a piece of HTML of every line.
    console = Console(force_jupyter=False)
    return console if console.is_terminal else Console(width=WIDTH, force_jupyter=False)


def make_printable() -> None:
    """Have the standard output replace what its encoding lacks instead of failing."""
    codecs.register_error("silvertune", _plain)
    if getattr(sys.stdout, "errors", None) == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="silvertune")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_one(letter) for letter in error.object[error.start : error.end]), error.end


def _one(letter: str) -> str:
    """An ASCII character in place of another: `e` for `é`, `?` where there is none."""
    base = unicodedata.normalize("NFKD", letter)[0]
    return PLAIN.get(letter) or (base if base.isascii() else "?")
