"""A labeler of people with a spreadsheet: items go out as CSV or as a workbook, answers come back in it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock

from silvertune.datasets.label_values import LabelValues
from silvertune.errors import UserError, WaitingForAnswersError, either
from silvertune.interfaces import Estimate
from silvertune.items import chosen_views, views_of
from silvertune.labelers import people, sheet_files
from silvertune.labelers.sheet_files import SheetRow
from silvertune.schema import Task

UNKNOWN = "?"
"""The answer of someone who looked and does not know: an abstention."""
ANNOTATOR = "annotator"
"""The column that says who answered, if there is one."""


class AnswerSheet:
    """Votes that people write into the column `label` of a spreadsheet; items that are not in it yet are added to it.

    The columns are `item_id`, `group_id`, the views, and `label`: empty until someone answers, then one of the
    task's classes, or ? for "do not know". Nothing that is written there is changed. A spreadsheet may have made 7 of
    the id 007, or semicolons of the commas. Several people answer in rows of their own, with their names in a further
    column `annotator`, or in further sheets of a workbook, which have their names. While an item that is asked
    about has no answer, `label` raises WaitingForAnswersError, which says what to do; the same command succeeds
    when the answers are there. An answer counts for the text that stands beside it: if that is not the
    item's (of another dataset with the same ids, say), UserError names the row.

    Args:
        task: The classes.
        item_ids: The ids of the dataset, by which rows are matched with items; None: those of the items asked about.
        path: The file, CSV or `.xlsx`; it is made where there is none.
        annotator: Who answers; `<annotator>/<name>` where a row says a name.
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
        self.answers()

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """One vote an item and annotator.

        Args:
            items: The items to ask about.

        Returns:
            A votes table (`silvertune.votes`) in the order of the items, annotators by name.

        Raises:
            UserError: The file has something that it should not have.
            WaitingForAnswersError: Answers are missing.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            answers = self._answers_about(items)
            if new := [item for item in sorted(items.index) if item not in answers]:
                self._add(items.loc[new])
        if waiting := people.unanswered(answers, items.index):
            raise WaitingForAnswersError(
                f"{self.path}: {len(waiting)} of {len(items)} item(s) wait for an answer: fill in the column label"
                f" ({either([*self.classes, UNKNOWN])}) and run the same command again",
                place=str(self.path),
                item_ids=items.index,
            )
        return people.table(answers, items.index, self.classes, self.cost_usd)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """At most: an answer for each item that has none yet."""
        return people.estimate(self._answers_about(items), items.index, self.annotator, self.cost_usd)

    def answers(self) -> list[people.Answer]:
        """What each row of the file says. UserError where it is not as it should be."""
        rows = self._rows()
        places = [row.place for row in rows]
        reader = LabelValues({name: name for name in self.classes}, "column label", abstain=[UNKNOWN])
        labels = reader.read([row.columns["label"].strip() or None for row in rows], places)
        return [
            people.Answer(row.columns["item_id"], self._annotator(row), label, row.columns, row.place)
            for row, label in zip(rows, labels, strict=True)
        ]

    def _answers_about(self, items: pd.DataFrame) -> people.Answers:
        views = views_of(items)
        return people.by_item(
            self.answers(), items, self.item_ids, lambda item: {view: items.at[item, view] for view in views}
        )

    def _annotator(self, row: SheetRow) -> str:
        name = row.columns.get(ANNOTATOR, "").strip() or row.sheet
        return f"{self.annotator}/{name}" if name else self.annotator

    def _rows(self) -> list[SheetRow]:
        """The rows of the file; none where there is no file. UserError where one has no id, or an id twice."""
        rows = sheet_files.read(self.path, ("item_id", "label"))
        seen: set[tuple[str, str]] = set()
        for row in rows:
            item, who = row.columns["item_id"], self._annotator(row)
            if (item, who) in seen or not item:
                by = f" by {who}" if who != self.annotator else ""
                problem = f"item_id {item!r} is there twice{by}" if item else "has no item_id"
                raise UserError(f"{row.place}: {problem}; want one row an item")
            seen.add((item, who))
        return rows

    def _add(self, items: pd.DataFrame) -> None:
        """Append rows for `items`, without an answer."""
        views = chosen_views(items, self.views, "labeler.views")
        rows = []
        for item, row in items.iterrows():
            texts = {view: row[view] if pd.notna(row[view]) else "" for view in views}
            rows.append({"item_id": str(item), "group_id": row["group_id"], **texts})
        sheet_files.append(self.path, ["item_id", "group_id", *views, "label"], rows)
