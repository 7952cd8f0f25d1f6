"""The one exception that is shown to a user as a single line, and how others become one."""

import re
import sysconfig
import traceback
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


class UserError(Exception):
    """Something in the configuration or the data that its author can mend.

    The message is one line: the config key, its value, what would be right, and the file or row.
    """


def either(names: list[str] | tuple[str, ...]) -> str:
    """Join names for the part of a message that says what would be right.

    Args:
        names: The names.

    Returns:
        `a, b or c`; empty if there are none.
    """
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def in_one_line(error: BaseException) -> str:
    """Join an exception's message and those of its causes, without line breaks.

    Args:
        error: The exception.

    Returns:
        The line; the search path that Hydra lists under its messages is left out.
    """
    if unknown := re.match(r"Could not override '([^']+)'\.\s+To append to your config", str(error)):
        # Hydra would have the user add the misspelt key.
        return f"{unknown[1]}: no such setting; `silvertune --cfg job` shows what there is"
    message: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).split("Config search path:")[0].split("Set the environment variable")[0]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        message += [line for line in lines if line not in message]
        cause = cause.__cause__
    return " ".join(message) or type(error).__name__


def cause_and_place(error: BaseException) -> str:
    """Describe a failure on one line: what a UserError says; of any other exception its type and where it comes from.

    Args:
        error: The exception.

    Returns:
        The line. The place is the last line of the user's code or of silvertune's that was reached, not the
        library's that it called.
    """
    if isinstance(error, UserError):
        return in_one_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    relevant = [frame for frame in frames if not _is_library(frame.filename)] or frames
    place = f" ({Path(relevant[-1].filename).name}:{relevant[-1].lineno})" if relevant else ""
    words = f": {in_one_line(error)}" if str(error).strip() else ""
    return f"{type(error).__name__}{words}{place}"


def _is_library(file: str) -> bool:
    path = Path(file)
    if path.is_relative_to(_HERE):
        return False
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(installed) or file.startswith("<") or path.is_relative_to(_STANDARD_LIBRARY)
