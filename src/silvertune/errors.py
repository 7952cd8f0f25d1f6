"""The one exception that is shown to a user as a single line, and how others become one."""

import re
import sysconfig
import traceback
from pathlib import Path


class UserError(Exception):
    """Something in the configuration or the data that its author can mend.

    The message is one line: the config key, its value, what would be right, and the file or row.
    """


def either(names: list[str] | tuple[str, ...]) -> str:
    """`a, b or c`, for the part of a message that says what would be right."""
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def in_one_line(error: BaseException) -> str:
    """An exception's message, and those of its causes, without line breaks.

    Hydra lists the search path under its messages; that part is left out.
    """
    if unknown := re.match(r"Could not override '([^']+)'\.\s+To append to your config", str(error)):
        # Hydra would have the user add the misspelt key.
        return f"{unknown[1]}: no such setting; `silvertune --cfg job` shows what there is"
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).split("Config search path:")[0].split("Set the environment variable")[0]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        told += [line for line in lines if line not in told]
        cause = cause.__cause__
    return " ".join(told) or type(error).__name__


def cause_and_place(error: BaseException) -> str:
    """One line for a failed run: what a UserError says; of any other exception its type, and where it comes from.

    That is the last line of the user's code or of ours that was reached, not the library's that it called.
    """
    if isinstance(error, UserError):
        return in_one_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    installed = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    own = [frame for frame in frames if not frame.filename.startswith((*installed, "<"))] or frames
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    words = f": {in_one_line(error)}" if str(error).strip() else ""
    return f"{type(error).__name__}{words}{place}"
