"""Where a sweep prints: what the terminal can't show is replaced, whatever its encoding."""

import codecs
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from silvertune.errors import UserError

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


@contextmanager
def lasting() -> Iterator[None]:
    """Let the block do its work to the end where nobody reads its output any more, or the disk of a log is full.

    Raises:
        UserError: Part of the standard output could not be written.
    """
    streams = sys.stdout, sys.stderr
    output, errors = (None if stream is None else _Lasting(stream) for stream in streams)
    sys.stdout, sys.stderr = cast(Any, output), cast(Any, errors)
    try:
        yield
        if output is not None:
            output.flush()
    finally:
        sys.stdout, sys.stderr = streams
    if output is not None and output.error is not None:
        raise UserError(
            f"the standard output could not be written ({output.error.strerror}); the work itself was done to its end"
        )


class _Lasting:
    """A stream whose first failure is kept and not raised; what is written later goes nowhere."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, do: Any, *arguments: Any) -> None:
        try:
            do(*arguments)
        except OSError as error:
            if self.error is not None:
                return
            self.error = error
            # What is buffered, and what libraries and other processes write, must not fail again.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_one(letter) for letter in error.object[error.start : error.end]), error.end


def _one(letter: str) -> str:
    """An ASCII character in place of another: `e` for `é`, `?` where there is none."""
    base = unicodedata.normalize("NFKD", letter)[0]
    return PLAIN.get(letter) or (base if base.isascii() else "?")
