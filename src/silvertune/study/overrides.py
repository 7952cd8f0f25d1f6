"""Overrides as a user types them: how a value with marks is quoted, for Hydra and for the shell."""

import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from silvertune.errors import UserError


def check(arguments: Iterable[str]) -> None:
    """Refuse an override whose value names a file and would be read as something else, a list of choices for example.

    Args:
        arguments: The command line's overrides, which Hydra can read.

    Raises:
        UserError: Says how to quote the value.
    """
    parser = OverridesParser.create()
    for text in arguments:
        name = text.partition("=")[2]
        if not _is_there(name):
            continue
        override = parser.parse_override(text)
        value = None if override.is_sweep_override() else override.value()
        if isinstance(value, bool) or str(value) == name:
            continue
        kind = "several values" if override.is_sweep_override() else f"{value!r}"
        raise UserError(f"{text}: there is a file {name!r}, but this is read as {kind}; quote the name: {quoted(text)}")


def unreadable(error: OverrideParseException) -> UserError:
    """What to tell the user about an override that Hydra can't read.

    Args:
        error: Hydra's error.

    Returns:
        An error of one line, with the override and how its value is quoted.
    """
    text = str(error.override)
    if "=" not in text:
        return UserError(f"{text}: want key=value; `silvertune --help` shows what there is")
    key, _, value = text.partition("=")
    lines = [line.strip() for line in str(error).splitlines()]
    words = next((line for line in lines if line and not line.startswith(("See ", "Error parsing"))), "")
    words = "it holds a mark that has a meaning of its own" if words.startswith("LexerNoViableAlt") else words
    if value.startswith("~"):
        with suppress(RuntimeError):  # ~$report.csv is in nobody's home: it is a name
            home = shlex.quote(f"{key}={_in_quotes(str(Path(value).expanduser()))}")
            return UserError(f"{text}: the shell does not replace ~ in the middle of a word; want {home}")
    return UserError(f"{text}: can't be read ({words}); if this is a name, quote it: {quoted(text)}")


def quoted(text: str) -> str:
    """An override, as it is typed in a shell, whose value is a name and nothing else.

    Args:
        text: `key=value`, unquoted.
    """
    key, _, value = text.partition("=")
    return shlex.quote(f"{key}={_in_quotes(value)}")


def _in_quotes(value: str) -> str:
    """The value in double quotes: a backslash is doubled where it stands before a quote or at the end."""
    return '"' + re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ("\\" + match[2] if match[2] else ""), value) + '"'


def _is_there(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):
        return False
