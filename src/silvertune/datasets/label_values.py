"""Which class a value of a file means: the one reading of labels for every kind of file.

Gold, annotations, votes files and answer sheets all read their labels here.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

from silvertune.datasets.class_names import class_name
from silvertune.datasets.values import Where, is_null, normal_form, number_of, text_of, without_blanks_around
from silvertune.errors import UserError, either


class NoLabel(Enum):
    """What a value means that means no class."""

    ABSTAINED = "abstained"
    NOTHING = "nothing"


Meaning = str | NoLabel


class LabelValues:
    """What the values of one column mean.

    A value means the class that is spelled exactly so, in Unicode's composed form; else the one that is spelled so
    without blanks around it; else the one that is the same number. A number decides only where it can: 1.1 and 1.10
    may be two sections of a document, 7 and 007 two keys. So it is an error if two meanings are the same number as
    a value that is spelled like neither, or if the column spells one number in two ways.

    Args:
        classes: Value (text, a number or a truth value) -> the class that it means.
        key: The configuration's key of the column, for messages.
        abstain: Values that mean "do not know", whatever `classes` says of them.
        ignore: Values that count as null, whatever `classes` and `abstain` say of them.
        remedy: What else to do about a value that means nothing, for the message.
        settings: The configuration's key under which `values`, `abstain` and `ignore` stand; "": `key` has them.

    Raises:
        UserError: Two values of different classes have one spelling, or yaml has lost how one is written.
    """

    def __init__(
        self,
        classes: Mapping[Any, str],
        key: str,
        *,
        abstain: Iterable[Any] = (),
        ignore: Iterable[Any] = (),
        remedy: str = "",
        settings: str = "",
    ) -> None:
        self.key, self.remedy = key, remedy
        keys = {name: f"{settings}.{name}" if settings else key for name in ("values", "abstain", "ignore")}
        self.spellings: dict[str, tuple[Any, Meaning]] = {}
        for value, name in classes.items():
            spelling = _spelling(value, keys["values"])
            if self.spellings.setdefault(spelling, (value, name))[1] != name:
                first = self.spellings[spelling][1]
                raise UserError(
                    f"{keys['values']}: {spelling!r} stands for {first!r} and for {name!r}; want one of them"
                )
        self.spellings |= {_spelling(value, keys["abstain"]): (value, NoLabel.ABSTAINED) for value in abstain}
        self.spellings |= {_spelling(value, keys["ignore"]): (value, NoLabel.NOTHING) for value in ignore}
        self.stripped: dict[str, list[tuple[Any, Meaning]]] = {}
        self.numbers: dict[Decimal, list[tuple[Any, Meaning]]] = {}
        for spelling, (value, meaning) in self.spellings.items():
            self.stripped.setdefault(without_blanks_around(spelling), []).append((value, meaning))
            if (number := number_of(value)) is not None:
                self.numbers.setdefault(number, []).append((value, meaning))

    def read(self, values: Sequence[Any], places: Sequence[str]) -> list[Meaning]:
        """The meaning of each value of the column.

        Args:
            values: The column's values, top to bottom. A list of one value counts as that value, an empty one as null.
            places: File and row of each, for messages.

        Returns:
            For each value the class that it means, or `NoLabel`; `NoLabel.NOTHING` for null.

        Raises:
            UserError: A value has no meaning, or may have two.
        """
        column = [
            value
            if value is None or (type(value) is str and value.isascii())
            else _single(value, places, row, self.key)
            for row, value in enumerate(values)
        ]
        # Labels are few, so each is looked up once; by its type too, as 1 and True are equal.
        keys = [value if type(value) is str else (type(value), repr(value)) for value in column]
        first_rows: dict[Any, int] = {}
        for row, key in enumerate(keys):
            first_rows.setdefault(key, row)
        written: dict[Decimal, dict[str, str]] = {}
        for row in first_rows.values():
            value = column[row]
            if isinstance(value, str) and (number := number_of(value)) is not None:
                written.setdefault(number, {}).setdefault(without_blanks_around(value), places[row])
        meanings = {key: self._meaning(column[row], places[row], written) for key, row in first_rows.items()}
        return [meanings[key] for key in keys]

    def meaning_of(self, value: Any) -> Meaning | None:
        """What one value means, exactly or as a number; None where it means nothing here."""
        if isinstance(value, str) and (exact := self.spellings.get(normal_form(value))) is not None:
            return exact[1]
        number = number_of(value)
        alike = self.numbers.get(number, []) if number is not None else []
        return alike[0][1] if alike else None

    def _meaning(self, value: Any, place: str, written: Mapping[Decimal, Mapping[str, str]]) -> Meaning:
        if is_null(value):
            return NoLabel.NOTHING
        if isinstance(value, str):
            exact = self.spellings.get(normal_form(value))
            if exact is not None:
                return exact[1]
            alike = self.stripped.get(without_blanks_around(normal_form(value)), [])
            if alike:
                return self._only(alike, value, place, "without the blanks around it")
        number = number_of(value)
        alike = self.numbers.get(number, []) if number is not None else []
        if not alike:
            raise UserError(f"{place}: {self.key}: {self._unknown(value)}")
        meaning = self._only(alike, value, place, "as a number")
        if isinstance(value, str) and number is not None and len(written[number]) > 1:
            other = next(text for text in written[number] if text != without_blanks_around(value))
            raise UserError(
                f"{place}: {self.key}: {value!r} is spelled like no label, and the column spells its number as "
                f"{other!r} too ({written[number][other]}); write them alike"
            )
        return meaning

    def _only(self, alike: Sequence[tuple[Any, Meaning]], value: Any, place: str, reading: str) -> Meaning:
        """The meaning of `alike`, or UserError where there are several."""
        if len({meaning for _, meaning in alike}) > 1:
            shown = " and ".join(repr(value) for value, _ in alike[:2])
            raise UserError(
                f"{place}: {self.key}: {value!r} is, {reading}, both {shown}; write the labels exactly as the classes, "
                "as text"
            )
        return alike[0][1]

    def _unknown(self, value: Any) -> str:
        wanted = either(sorted(str(value) for value, _ in self.spellings.values()))
        hint = self.remedy
        if str(value).lower() in ("yes", "no", "on", "off", "y", "n") and any(
            isinstance(value, bool) for value, _ in self.spellings.values()
        ):
            hint = f" (yaml reads {value} without quotes as a truth value: quote it in the configuration)"
        return f"unknown label {value!r}; want {wanted}{hint}"


def _spelling(value: Any, key: str) -> str:
    """The text that spells a value of the configuration; a truth value and 1.0 stand for what they are as numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(value)
    return class_name(value, key)


def _single(value: Any, places: Sequence[str], row: int, key: str) -> Any:
    """The value itself, bytes as text, or the one value of a list."""
    if isinstance(value, list):
        if len(value) > 1:
            raise UserError(
                f"{places[row]}: {key}: {len(value)} labels in a list ({str(value)[:60]}); want one, or an empty list"
            )
        return _single(value[0], places, row, key) if value else None
    return text_of(value, Where(places, row, key)) if isinstance(value, str | bytes) else value
