"""A labeler of people with a spreadsheet: items go out as CSV, answers come back in it."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock

from silvertune import votes
from silvertune.datasets.item_ids import matched
from silvertune.datasets.label_values import LabelValues
from silvertune.errors import UserError, WaitingForAnswersError, either
from silvertune.interfaces import Estimate
from silvertune.items import chosen_views, views_of
from silvertune.schema import Task

UNKNOWN = "?"
"""The answer of someone who looked and does not know: an abstention."""


@dataclass(frozen=True)
class _Row:
    """A row of the file: its item_id and label as they are written, its other columns, and where it stands."""

    item: str
    label: str
    columns: Mapping[str, str]
    place: str


class AnswerSheet:
    """Votes that people write into the column `label` of a CSV file; items that are not in it yet are added to it.

    The columns are `item_id`, `group_id`, the views, and `label`: empty until someone answers, then one of the
    task's classes, or ? for "do not know". Nothing that is written there is changed. A spreadsheet may have made 7 of
    the id 007, or semicolons of the commas. While an item that is asked
    about has no answer, `label` raises WaitingForAnswersError, which says what to do; the same command succeeds
    when the answers are there. An answer counts for the text that stands beside it: if that is not the
    item's (of another dataset with the same ids, say), UserError names the row.

    Args:
        task: The classes.
        item_ids: The ids of the dataset, by which rows are matched with items; None: those of the items asked about.
        path: The file; it is made where there is none.
        annotator: Who answers.
        cost_usd: What one answer costs, dollars.
        views: The views that people see; None is all.

    Raises:
        UserError: The file can't be read, or a row of it is not as above.
    """

    def __init__(
        self,
        task: Task,
        item_ids: pd.Index | None = None,
        *,
        path: str,
        annotator: str,
        cost_usd: float,
        views: Sequence[str] | None,
    ) -> None:
        self.classes, self.path, self.annotator, self.cost_usd = task.classes, Path(path), annotator, cost_usd
        self.item_ids, self.views = item_ids, views
        self._labels(list(self._rows()))

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """One vote an item.

        Args:
            items: The items to ask about.

        Returns:
            A votes table (`silvertune.votes`) in the order of the items.

        Raises:
            UserError: The file has something that it should not have, or answers are missing.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            answers = self._answers(items)
            if new := [item for item in sorted(items.index) if item not in answers]:
                self._add(items.loc[new])
        if waiting := [item for item in items.index if not answers.get(item)]:
            raise WaitingForAnswersError(
                f"{self.path}: {len(waiting)} of {len(items)} item(s) wait for an answer: fill in the column label"
                f" ({either([*self.classes, UNKNOWN])}) and run the same command again"
            )
        rows = [
            {
                "item_id": item,
                "annotator": self.annotator,
                "view": votes.WHOLE_ITEM,
                "label": None if answers[item] == UNKNOWN else answers[item],
                "cost_usd": self.cost_usd,
            }
            for item in items.index
        ]
        return votes.table(rows, self.classes)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """At most: an answer for each item that has none yet."""
        answers = self._answers(items)
        missing = sum(not answers.get(item) for item in items.index)
        return {self.annotator: Estimate(calls=float(missing), dollars=missing * self.cost_usd)}

    def written(self) -> list[tuple[str, str]]:
        """The item_id of each row of the file, as it is written, and the row's place: file and number."""
        return [(row.item, row.place) for row in self._rows()]

    def _answers(self, items: pd.DataFrame) -> dict[str, str]:
        """The answer to each of the items that the file has: a class, UNKNOWN, or "" where it has none yet."""
        rows = list(self._rows())
        labels = self._labels(rows)
        matches = matched([row.item for row in rows], items.index if self.item_ids is None else self.item_ids)
        answers: dict[str, str] = {}
        for row, label in zip(rows, labels, strict=True):
            item = matches.get(row.item)
            if item is None or item not in items.index:
                continue
            if item in answers:
                raise UserError(f"{row.place}: item_id {row.item!r} is item {item!r} again; want one row an item")
            for view in views_of(items) if label else ():
                if view in row.columns and _words(row.columns[view]) != _words(items.at[item, view]):
                    raise UserError(
                        f"{row.place}: the answer was given to another {view} of item {item!r} than the data have; "
                        "want labeler.path of a file for these data"
                    )
            answers[item] = label
        return answers

    def _rows(self) -> Iterator[_Row]:
        """The rows of the file; none where there is no file. UserError where one has no id, or an id twice."""
        if not self.path.is_file():
            return
        try:
            text = self.path.read_text(encoding="utf-8-sig")  # as spreadsheets save it
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: can't be read as UTF-8 CSV ({error})") from None
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_separator(text))
        if missing := {"item_id", "label"} - set(reader.fieldnames or ()):
            columns = ", ".join(map(repr, reader.fieldnames or ())) or "none"
            raise UserError(
                f"{self.path}: has no column {sorted(missing)[0]!r}; want item_id and label (columns, between commas: "
                f"{columns})"
            )
        seen: set[str] = set()
        for number, cells in enumerate(reader, start=2):
            item, place = cells["item_id"] or "", f"{self.path}, row {number}"
            if item in seen or not item:
                problem = f"item_id {item!r} is there twice" if item else "has no item_id"
                raise UserError(f"{place}: {problem}; want one row an item")
            seen.add(item)
            yield _Row(item, (cells["label"] or "").strip(), cells, place)

    def _labels(self, rows: Sequence[_Row]) -> list[str]:
        """The class that each row's label is, UNKNOWN, or "" where there is none."""
        reader = LabelValues({name: name for name in [*self.classes, UNKNOWN]}, "column label")
        meanings = reader.read([row.label or None for row in rows], [row.place for row in rows])
        return [meaning if isinstance(meaning, str) else "" for meaning in meanings]

    def _add(self, items: pd.DataFrame) -> None:
        """Append rows for `items`, without an answer."""
        views = chosen_views(items, self.views, "labeler.views")
        new = not self.path.is_file()
        text = "" if new else self.path.read_text(encoding="utf-8-sig")
        separator = _separator(text)
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), None)
        columns = header or ["item_id", "group_id", *views, "label"]
        out = io.StringIO(text if text.endswith("\n") or not text else f"{text}\n", newline="")
        out.seek(0, io.SEEK_END)
        writer = csv.DictWriter(out, columns, extrasaction="ignore", restval="", delimiter=separator)
        if not text:
            writer.writeheader()
        for item, row in items.iterrows():
            texts = {view: row[view] if pd.notna(row[view]) else "" for view in views}
            writer.writerow({"item_id": item, "group_id": row["group_id"], **texts})
        written = self.path.with_suffix(f"{self.path.suffix}.tmp")
        written.write_text(out.getvalue(), encoding="utf-8-sig", newline="")
        written.replace(self.path)


def _separator(text: str) -> str:
    """What separates the columns of a file: the comma that we write, or what a spreadsheet made of it."""
    header = text.split("\n", 1)[0]
    return next((separator for separator in ",;\t" if separator in header), ",")


def _words(text: object) -> list[str]:
    """What a spreadsheet leaves of a text: its words, but not its kinds of space and line ends."""
    return str(text).split() if isinstance(text, str) else []
