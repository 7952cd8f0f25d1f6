"""Which item a file means that was written elsewhere: by a spreadsheet, a notebook, another tool."""

from collections.abc import Iterable
from decimal import Decimal

from silvertune.datasets.values import normal_form, number_of, without_blanks_around


def matched(written_ids: Iterable[str], item_ids: Iterable[str]) -> dict[str, str]:
    """Match ids of a file with those of a dataset.

    An id that is no item's is matched in Unicode's composed form and without blanks around it, if exactly one item is
    spelled so. Spreadsheets and data frames read 007 as the number 7 and write 7.0. So what is left is matched as a
    number, if exactly one item has that number and exactly one spelling of it is among `written_ids`.

    Args:
        written_ids: Ids as the file has them.
        item_ids: Ids of the dataset.

    Returns:
        Written id -> the item's id, of those that are matched.
    """
    written, items = list(dict.fromkeys(written_ids)), set(item_ids)
    matches = {name: name for name in written if name in items}
    if len(matches) < len(written):
        items_by_text: dict[str, list[str]] = {}
        for item in items:
            items_by_text.setdefault(without_blanks_around(normal_form(item)), []).append(item)
        for name in written:
            alike = items_by_text.get(without_blanks_around(normal_form(name)), [])
            if name not in items and len(alike) == 1:
                matches[name] = alike[0]
    if len(matches) < len(written):
        items_by_number, written_by_number = _by_number(items), _by_number(written)
        for number, spellings in written_by_number.items():
            alike = items_by_number.get(number, [])
            if len(spellings) == 1 and len(alike) == 1:
                matches.setdefault(spellings[0], alike[0])
    return {name: matches[name] for name in written if name in matches}


def _by_number(ids: Iterable[str]) -> dict[Decimal, list[str]]:
    """The ids that are numbers, by number. Words such as `true` are none here."""
    numbers: dict[Decimal, list[str]] = {}
    for name in ids:
        if not name.strip().isalpha() and (number := number_of(name)) is not None:
            numbers.setdefault(number, []).append(name)
    return numbers
