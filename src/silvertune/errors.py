"""The exception that a user sees as a single line, the checks of settings that raise it, and how others become one."""

import inspect
import math
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


WAITS_FOR_PEOPLE = 75
"""The exit status of every command that waits for people: "try again later" (EX_TEMPFAIL) of `sysexits.h`."""


class UserError(Exception):
    """Something in the configuration or the data that its author can mend.

    The message is one line: the config key, its value, what would be right, and the file or row.
    """


class WaitingForAnswersError(UserError):
    """Nothing is wrong: people have not given all the answers yet that a run needs.

    The message says whose answers are missing, and what to do. The run is marked as waiting, and not as failed.

    Attributes:
        place: The file, or the folder of the project, that the answers are awaited in.
        item_ids: The items that were asked about, with those that have an answer.
        part: The key of the configuration whose labeler waits, such as `fallback.labeler`; empty until a run says it.
    """

    def __init__(self, message: str, place: str = "", item_ids: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.place, self.item_ids, self.part = place, list(item_ids), ""


def working_directory() -> str:
    """The working directory, where a user's configuration and functions stand.

    Raises:
        UserError: It is gone.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UserError("the working directory is gone: it was deleted or moved; cd to one that is there") from None


def either(names: list[str] | tuple[str, ...]) -> str:
    """Join names for the part of a message that says what would be right.

    Args:
        names: The names.

    Returns:
        `a, b or c`; empty if there are none.
    """
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def check_number(
    key: str, value: object, least: float = 0.0, most: float = math.inf, *, above: bool = False, below: bool = False
) -> None:
    """Refuse a setting that is not a finite number in a range.

    Args:
        key: The configuration key, for the message.
        value: The setting.
        least: The lowest number that is allowed.
        most: The highest number that is allowed.
        above: Whether `least` itself is not allowed.
        below: Whether `most` itself is not allowed.

    Raises:
        UserError: If `value` is no number, NaN, infinite or outside the range.
    """
    in_range = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > least if above else value >= least)
        and (value < most if below else value <= most)
    )
    if not in_range:
        upper = "" if most == math.inf else f", below {most:g}" if below else f", at most {most:g}" if above else None
        range_in_words = f"{'above' if above else 'from'} {least:g}{f' to {most:g}' if upper is None else upper}"
        raise UserError(f"{key}={value}: want a number {range_in_words}")


def check_whole_number(key: str, value: object, least: int) -> None:
    """Refuse a setting that is not a whole number from `least` on.

    Args:
        key: The configuration key, for the message.
        value: The setting.
        least: The lowest number that is allowed.

    Raises:
        UserError: If `value` is no whole number, or lower.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{key}={value}: want a whole number from {least}")


def check_truth_value(key: str, value: object) -> None:
    """Refuse a setting that is neither true nor false, such as the word `no`, which Python takes for true.

    Args:
        key: The configuration key, for the message.
        value: The setting.

    Raises:
        UserError: If `value` is no truth value.
    """
    if not isinstance(value, bool):
        raise UserError(f"{key}={'null' if value is None else value}: want true or false")


def check_type(key: str, value: object, annotation: object) -> None:
    """Refuse a setting that is no number or truth value where its parameter is annotated as one.

    Args:
        key: The configuration key, for the message.
        value: The setting.
        annotation: Of the parameter: `int`, `float` or `bool`, perhaps `| None`, as a type or its text; others say
            nothing of a setting here.

    Raises:
        UserError: If `value` is of another type.
    """
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    wanted, _, other = text.partition(" | ")
    if other not in ("", "None") or (other and value is None):
        return
    if wanted == "bool":
        check_truth_value(key, value)
    if wanted in ("int", "float"):
        is_right = isinstance(value, int if wanted == "int" else (int, float)) and not isinstance(value, bool)
        if not is_right:
            name = "a whole number" if wanted == "int" else "a number"
            raise UserError(f"{key}={'null' if value is None else value}: want {name}")


def check_choice(key: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a setting that is not one of some words.

    Args:
        key: The configuration key, for the message.
        value: The setting.
        choices: The words that are allowed.

    Raises:
        UserError: If `value` is none of them.
    """
    if value not in choices:
        raise UserError(f"{key}={value}: want {either(list(choices))}")


_WANTED = {
    r"could not be converted to Integer": "a whole number",
    r"could not be converted to Float": "a number",
    r"is not a valid bool": "true or false",
    r"is not Optional|Incompatible value 'None'": "something else than null",
    r"is not a ListConfig, list or tuple|with ListConfig|type hint 'typing.List": "a list, such as [a,b]",
    r"to Dict\[|with DictConfig|type hint 'typing.Dict": "a mapping, such as {a: b}",
    r"to string": "a text",
}
"""What OmegaConf says of a value of the wrong type -> what would be right."""


def in_one_line(error: BaseException) -> str:
    """Join an exception's message and those of its causes, without line breaks.

    Args:
        error: The exception.

    Returns:
        The line; the search path that Hydra lists under its messages is left out. Of a setting that is of the wrong
        type it says which would be right.
    """
    if unknown := re.match(r"Could not override '([^']+)'\.\s+To append to your config", str(error)):
        # Hydra would have the user add the misspelt key.
        return f"{unknown[1]}: no such setting; `silvertune --cfg job` shows what there is"
    message: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).split("Config search path:")[0].split("Set the environment variable")[0]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        message += [line for line in lines if not any(line in other for other in message)]
        cause = cause.__cause__
    return _of_wrong_type(message) or " ".join(message) or type(error).__name__


def _of_wrong_type(message: Sequence[str]) -> str | None:
    """What to say in place of OmegaConf's lines on a value of the wrong type; None where they are on something else."""
    line = " ".join(message)
    key = re.search(r" full_key: (\S+)", line)
    wanted = next((right for words, right in _WANTED.items() if re.search(words, line)), None)
    if key is None or wanted is None:
        return None
    typed = re.match("Error merging override (.*)", message[0])
    value = re.search(r"[Vv]alue '(.*?)'(?: of type| is not| for field| \()", line)
    place = re.match(r"In '[^']+': ", line)
    if typed:
        setting = typed[1]
    elif value:
        setting = f"{key[1]}={'null' if value[1] == 'None' else value[1]}"
    else:
        setting = key[1]
    return f"{place[0] if place else ''}{setting}: want {wanted}"


def under_key(error: UserError, key: str) -> UserError:
    """The error with the setting that it is about: an LLM does not know whether it serves a labeler or a model.

    Args:
        error: The error.
        key: The configuration key of the part that raised it.

    Returns:
        The same error, or one that says `model.llm` where it said `labeler.llm.<name>` of a model's own LLM.
    """
    unnamed = "labeler.llm.<name>"
    if unnamed not in str(error) or key.partition(".")[0] != "model":
        return error
    return type(error)(str(error).replace(unnamed, "model.llm"))


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
