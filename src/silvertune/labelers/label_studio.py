"""A labeler of people with Label Studio: its tasks go out as JSON, its JSON exports come back."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from silvertune import votes
from silvertune.datasets.item_ids import matched
from silvertune.datasets.label_values import LabelValues
from silvertune.errors import UserError, WaitingForAnswersError, either
from silvertune.interfaces import Estimate
from silvertune.items import chosen_views
from silvertune.labelers import label_studio_files as files
from silvertune.schema import Task


class LabelStudio:
    """Votes that people give in Label Studio, with the labels of a machine filled in for them to correct.

    The folder `path` has what to import there: `config.xml`, the labeling interface, and `tasks.json`. Items that are
    asked about later go into `tasks-2.json` and so on, so that no item is imported twice. Every other `.json` in the
    folder is an export (format JSON, or JSON-MIN, which leaves out skipped tasks). While an item that is asked about
    has no answer, `label` raises WaitingForAnswersError, which says what to do; the same command succeeds when the
    exports are there. Who skips a task abstains. An item may have answers by several annotators, one each.

    Args:
        task: The classes.
        annotations: The votes that came with the data, for `drafts_by`.
        item_ids: The ids of the dataset, by which tasks are matched with items; None: those of the items asked about.
        path: The folder; it is made where there is none.
        annotator: Votes are by `<annotator>/<user>`, or by `<annotator>` where an export does not say who answered.
        names: Label Studio's number or e-mail of a user -> the name to keep in its place.
        views: The views that people see; None is all.
        tables: Those of the views that hold a table as JSON, for people to see rows and columns.
        drafts_by: Annotators of the dataset, or patterns, whose mean label is filled in; empty: the labels of the run's
            labeler, where this is a fallback.
        cost_usd: What one answer costs, dollars.

    Raises:
        UserError: An export can't be read, is one of another project, or has an answer that is no class.
    """

    def __init__(
        self,
        task: Task,
        annotations: pd.DataFrame,
        item_ids: pd.Index | None = None,
        *,
        path: str,
        annotator: str,
        names: Mapping[Any, str],
        views: Sequence[str] | None,
        tables: Sequence[str],
        drafts_by: Sequence[str] | str,
        cost_usd: float,
    ) -> None:
        self.task, self.item_ids, self.folder = task, item_ids, Path(path)
        self.annotator, self.names, self.cost_usd = annotator, {str(who): name for who, name in names.items()}, cost_usd
        self.views, self.tables = views, list(tables)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"labeler.path={path}: is a file; want a folder for Label Studio's tasks and exports")
        self.drafts = _drafts(annotations, [drafts_by] if isinstance(drafts_by, str) else drafts_by, task)
        self._labels(self._answers())

    @staticmethod
    def files_in_identity(folder: Path) -> Iterable[Path]:
        """The exports: what was asked does not change what was answered."""
        return files.export_files(folder)

    def show_drafts(self, drafts: pd.DataFrame) -> None:
        """Fill in these labels; those of `drafts_by` come first.

        Args:
            drafts: `label` (may be null) and `confidence` by item_id.
        """
        if self.drafts is None:
            self.drafts = drafts

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """One vote an item and annotator.

        Args:
            items: The items to ask about.

        Returns:
            A votes table (`silvertune.votes`) in the order of the items, annotators by name.

        Raises:
            WaitingForAnswersError: Answers are missing.
            UserError: An export has something that it should not have.
        """
        by_item = self._answers_to(items)
        if waiting := [item for item in items.index if item not in by_item]:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "tasks.lock"):
                to_import = self._ask(items.loc[sorted(waiting)])
            names = " and ".join(file.name for file in to_import)
            raise WaitingForAnswersError(
                f"{self.folder}: {len(waiting)} of {len(items)} item(s) wait for an answer: import {names} into a "
                f"Label Studio project with the labeling interface {files.CONFIG}, label them, put its JSON "
                "export into the folder and run the same command again",
                place=f"the Label Studio project of {self.folder}",
                item_ids=items.index,
            )
        rows = [
            {
                "item_id": item,
                "annotator": annotator,
                "view": votes.WHOLE_ITEM,
                "label": label,
                "cost_usd": self.cost_usd,
            }
            for item in items.index
            for annotator, label in sorted(by_item[item].items())
        ]
        return votes.table(rows, self.task.classes)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """At most: an answer for each item that has none yet."""
        by_item = self._answers_to(items)
        missing = sum(item not in by_item for item in items.index)
        return {self.annotator: Estimate(calls=float(missing), dollars=missing * self.cost_usd)}

    def _answers(self) -> list[files.Answer]:
        """The answers in all exports; of an annotation that several of them have, the one that was changed last."""
        latest: dict[Any, files.Answer] = {}
        for file in files.export_files(self.folder):
            for position, answer in enumerate(files.answers(file)):
                is_numbered = bool(answer.number)
                key = (answer.item, answer.annotator, answer.number) if is_numbered else (file, position)
                if key not in latest or latest[key].changed <= answer.changed:
                    latest[key] = answer
        return list(latest.values())

    def _labels(self, answers: Sequence[files.Answer]) -> list[str | None]:
        """The class that each answer is; None where the annotator skipped the task."""
        reader = LabelValues({name: name for name in self.task.classes}, "label")
        meanings = reader.read([answer.choice for answer in answers], [answer.place for answer in answers])
        return [meaning if isinstance(meaning, str) else None for meaning in meanings]

    def _answers_to(self, items: pd.DataFrame) -> dict[str, dict[str, str | None]]:
        """Annotator -> label (None: skipped) for each of the items that has answers."""
        answers = self._answers()
        known_ids = items.index if self.item_ids is None else self.item_ids
        matches = matched([answer.item for answer in answers], known_ids)
        by_item: dict[str, dict[str, str | None]] = {}
        places: dict[tuple[str, str], str] = {}
        for answer, label in zip(answers, self._labels(answers), strict=True):
            item = matches.get(answer.item)
            if item is None and self.item_ids is not None:
                raise UserError(
                    f"{answer.place}: the dataset has no item {answer.item!r} (its ids are such as "
                    f"{str(self.item_ids[0])!r}); want an export of tasks about these data"
                )
            if item is None or item not in items.index:
                continue
            who = self._name(answer.annotator)
            if (item, who) in places:
                raise UserError(
                    f"{answer.place}: annotator {who} answers item {item!r} again, first in {places[item, who]}; want "
                    "one answer by each annotator: delete the other in Label Studio, or an export that is out of date"
                )
            places[item, who] = answer.place
            self._check_text(answer, items.loc[[item]])
            by_item.setdefault(item, {})[who] = label
        return by_item

    def _name(self, who: str) -> str:
        return f"{self.annotator}/{self.names.get(who, who)}" if who else self.annotator

    def _check_text(self, answer: files.Answer, item: pd.DataFrame) -> None:
        """Raise UserError where the task shows another text than the item has."""
        for view, (key, text) in self._texts(item).items():
            if key in answer.data and str(answer.data[key] or "").split() != text.split():
                raise UserError(
                    f"{answer.place}: the answer was given to another {view} of item {item.index[0]!r} than the data "
                    "have; want labeler.path of a folder for these data"
                )

    def _texts(self, item: pd.DataFrame) -> dict[str, tuple[str, str]]:
        """View -> its key in a task's data and what people see of it."""
        views = chosen_views(item, self.views, "labeler.views")
        if wrong := [view for view in self.tables if view not in views]:
            raise UserError(f"labeler.tables={self.tables}: people see no view {wrong[0]!r}; want {either(views)}")
        texts = {}
        for view, key in files.columns_of(views).items():
            text = item[view].iloc[0]
            text = text if isinstance(text, str) else ""
            where = f"labeler.tables={self.tables}: item {item.index[0]!r}, view {view}"
            texts[view] = key, files.table_as_html(text, where) if text and view in self.tables else text
        return texts

    def _ask(self, items: pd.DataFrame) -> list[Path]:
        """Write tasks for the items that no file of tasks has; the files that have any of `items`."""
        asked = {file: set(files.items_in_tasks(file)) for file in files.tasks_files(self.folder)}
        earlier = set().union(*asked.values())
        if new := [item for item in items.index if item not in earlier]:
            tasks = []
            for item in new:
                texts = dict(self._texts(items.loc[[item]]).values())
                tasks.append(files.task(str(item), str(items.at[item, "group_id"]), texts, self._draft(item)))
            views = chosen_views(items, self.views, "labeler.views")
            file = files.write_tasks(self.folder, tasks, files.config(self.task, views, self.tables))
            asked[file] = set(new)
        return [file for file, there in asked.items() if not there.isdisjoint(items.index)]

    def _draft(self, item: str) -> tuple[str, float] | None:
        """The label to fill in for an item, and how sure its labeler is."""
        if self.drafts is None or item not in self.drafts.index:
            return None
        label: Any = self.drafts.at[item, "label"]
        confidence: Any = self.drafts.at[item, "confidence"]
        return (label, float(confidence)) if isinstance(label, str) else None


def _drafts(annotations: pd.DataFrame, annotators: Sequence[str], task: Task) -> pd.DataFrame | None:
    """The label that some annotators of the dataset give to each item, with its mean score; None without annotators."""
    if not annotators:
        return None
    present = list(dict.fromkeys(annotations["annotator"]))
    chosen: list[str] = []
    for pattern in annotators:
        names = votes.annotators_named(pattern, present)
        if not names:
            raise UserError(
                f"labeler.drafts_by={pattern}: no such annotator in dataset.annotations; there is "
                f"{', '.join(present) or 'none at all'}"
            )
        chosen += names
    scores = votes.class_scores(annotations[annotations["annotator"].isin(chosen)], task.classes)
    return pd.DataFrame({"label": scores.idxmax(axis=1).astype(object), "confidence": scores.max(axis=1)})
