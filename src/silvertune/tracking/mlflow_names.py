"""Names of params and metrics as MLflow takes them: classes, views and values of a user's data are parts of them."""

from collections.abc import Iterable

LONGEST = 240
"""MLflow takes ten characters more, which are left for a number."""


def mlflow_names(names: Iterable[str]) -> list[str]:
    """A name that MLflow takes for each name, no two the same.

    MLflow allows letters, digits and `_-. :/`, refuses what would be another path as a file (`a//b`, `a/..`), and
    refuses or overwrites what is logged twice.

    Args:
        names: The names, such as `labels_by_class/C++/noise_after`.

    Returns:
        The same names with `_` for what is not allowed, in their order; from the second that becomes the same on, with
        a number behind it.
    """
    taken: dict[str, None] = {}
    for name in names:
        plain = "/".join(_of_file(part) for part in map(_allowed, name.split("/")))[:LONGEST].rstrip("/")
        unique, number = plain, 2
        while unique in taken:
            unique, number = f"{plain}_{number}", number + 1
        taken[unique] = None
    return list(taken)


def _allowed(part: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-. :" else "_" for letter in part)


def _of_file(part: str) -> str:
    """The part as the name of a file: neither empty nor another folder."""
    return "_" * max(len(part), 1) if part in ("", ".", "..") else part
