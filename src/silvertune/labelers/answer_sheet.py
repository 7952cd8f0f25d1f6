"""A labeler of people with a spreadsheet: items go out as CSV, answers come back in it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock

from silvertune import votes
from silvertune.errors import UserError, either
from silvertune.interfaces import Estimate
from silvertune.items import chosen_views, views_of
from silvertune.schema import Task

UNKNOWN = "?"
"""The answer of someone who looked and does not know: an abstention."""


def _words(text: object) -> list[str]:
    """What a spreadsheet leaves of a text: its words, but not its kinds of space and line ends."""
    return str(text).split() if isinstance(text, str) else []


class AnswerSheet:
    """Votes that people wrote into the column `label` of a CSV file; items that are not in it yet are added to it.

    The columns are `item_id`, `group_id`, the views, and `label`: empty until someone answers, then one of the
    task's classes, or ? for "do not know". Nothing that was written is changed. While an item that is asked about
    has no answer, `label` raises UserError, so that the run fails and says what to do; the same command does it
    when the answers are there. An answer counts for the text that stands beside it: if that is not the item's (of
    another data set with the same ids, say), UserError names the row.

    path: the file; it is made where there is none. annotator: who answers. cost_usd: of one answer, dollars.
    views: the views that people see; null is all.
    """

    def __init__(self, task: Task, *, path: str, annotator: str, cost_usd: float, views: Sequence[str] | None) -> None:
        self.classes, self.path, self.annotator, self.cost_usd = task.classes, Path(path), annotator, cost_usd
        self.views = views
        self._answers()

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """One vote an item. Raises UserError for what the file should not have, and while answers are missing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            answers = self._answers(items)
            if new := [item for item in sorted(items.index) if item not in answers]:
                self._add(items.loc[new])
        if waiting := [item for item in items.index if not answers.get(item)]:
            raise UserError(
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
        answers = self._answers()
        missing = sum(not answers.get(item) for item in items.index)
        return {self.annotator: Estimate(calls=float(missing), dollars=missing * self.cost_usd)}

    def _answers(self, items: pd.DataFrame | None = None) -> dict[str, str]:
        """item_id -> what stands in `label`. Raises UserError that names the file and the row.

        items: whose views must be those in the file, spaces aside, where an answer stands.
        """
        if not self.path.is_file():
            return {}
        try:
            text = self.path.read_text(encoding="utf-8-sig")  # as spreadsheets save it
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: can't be read as UTF-8 CSV ({error})") from None
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if missing := {"item_id", "label"} - set(reader.fieldnames or ()):
            there = ", ".join(map(repr, reader.fieldnames or ())) or "none"
            raise UserError(
                f"{self.path}: has no column {sorted(missing)[0]!r}; want item_id and label (columns, between commas: "
                f"{there})"
            )
        views = set(reader.fieldnames or ()) & set(views_of(items) if items is not None else ())
        answers: dict[str, str] = {}
        for number, row in enumerate(reader, start=2):
            item, label = row["item_id"] or "", (row["label"] or "").strip()
            if item in answers or not item:
                what = f"item_id {item!r} is there twice" if item else "has no item_id"
                raise UserError(f"{self.path}, row {number}: {what}; want one row an item")
            if label and label not in (*self.classes, UNKNOWN):
                raise UserError(
                    f"{self.path}, row {number}: label {label!r} is no class; want {either([*self.classes, UNKNOWN])}"
                )
            if label and items is not None and item in items.index:
                for view in sorted(views):
                    if _words(row[view]) != _words(items.at[item, view]):
                        raise UserError(
                            f"{self.path}, row {number}: the answer was given to another {view} of item {item!r} than "
                            "the data have; want labeler.path of a file for these data"
                        )
            answers[item] = label
        return answers

    def _add(self, items: pd.DataFrame) -> None:
        """Append rows for `items`, without an answer."""
        views = chosen_views(items, self.views, "labeler.views")
        new = not self.path.is_file()
        text = "" if new else self.path.read_text(encoding="utf-8-sig")
        columns = next(csv.reader(io.StringIO(text, newline="")), None) or ["item_id", "group_id", *views, "label"]
        out = io.StringIO(text if text.endswith("\n") or not text else f"{text}\n", newline="")
        out.seek(0, io.SEEK_END)
        writer = csv.DictWriter(out, columns, extrasaction="ignore", restval="")
        if not text:
            writer.writeheader()
        for item, row in items.iterrows():
            texts = {view: row[view] if pd.notna(row[view]) else "" for view in views}
            writer.writerow({"item_id": item, "group_id": row["group_id"], **texts})
        written = self.path.with_suffix(f"{self.path.suffix}.tmp")
        written.write_text(out.getvalue(), encoding="utf-8-sig", newline="")
        written.replace(self.path)
