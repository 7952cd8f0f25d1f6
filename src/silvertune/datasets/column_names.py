"""Names of a file's columns and of an object's keys, of which no two are the same letters."""

from silvertune.datasets.values import normal_form
from silvertune.errors import UserError


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
