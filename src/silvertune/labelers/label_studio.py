"""A labeler of people with Label Studio: its tasks go out as JSON, its JSON exports come back."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from silvertune import votes
from silvertune.datasets.label_values import LabelValues, NoLabel
from silvertune.errors import UserError, WaitingForAnswersError, either
from silvertune.interfaces import Estimate
from silvertune.items import chosen_views
from silvertune.labelers import label_studio_files as files
from silvertune.labelers import people
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
        annotator: Votes are by `<annotator>/<name>`, or by `<annotator>` where an export does not say who answered.
        names: A user's e-mail or Label Studio's number -> name; the e-mail decides where both are there. Who is not
            there has the e-mail as name, or the number where the export has no e-mail. None: nobody is there.
        views: The views that people see; None is all.
        tables: Those of the views that hold a table as JSON, for people to see rows and columns.
        drafts_by: Annotators of the dataset, or patterns, whose mean label is filled in; empty: the labels of the run's
            labeler, where this is a fallback.
        cost_usd: What one answer costs, dollars.

    Raises:
        UserError: An export can't be read, is one of another project, has an answer that is no class, or does not tell
            two users from one.
    """

    def __init__(
        self,
        task: Task,
        annotations: pd.DataFrame,
        item_ids: pd.Index | None = None,
        *,
        path: str,
        annotator: str,
        names: Mapping[Any, str] | None,
        views: Sequence[str] | None,
        tables: Sequence[str],
        drafts_by: Sequence[str] | str,
        cost_usd: float,
    ) -> None:
        self.task, self.item_ids, self.folder = task, item_ids, Path(path)
        self.annotator, self.cost_usd = annotator, cost_usd
        self.names = {str(who): name for who, name in (names or {}).items()}
        self.views, self.tables = views, list(tables)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"labeler.path={path}: is a file; want a folder for Label Studio's tasks and exports")
        self.drafts = _drafts(annotations, [drafts_by] if isinstance(drafts_by, str) else drafts_by, task)
        self.answers()

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
        answers = self._answers_about(items)
        if waiting := people.unanswered(answers, items.index):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "tasks.lock"):
                to_import = self._ask(items.loc[sorted(waiting)])
            names = " and ".join(file.name for file in to_import)
            raise WaitingForAnswersError(
                f"{self.folder}: {len(waiting)} of {len(items)} item(s) wait for an answer (the first is "
                f"{waiting[0]!r}): import {names} into a Label Studio project with the labeling interface "
                f"{files.CONFIG}, label them, put its JSON export into the folder and run the same command again",
                place=f"the Label Studio project of {self.folder}",
                item_ids=items.index,
            )
        return people.table(answers, items.index, self.task.classes, self.cost_usd)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """At most: an answer for each item that has none yet."""
        return people.estimate(self._answers_about(items), items.index, self.annotator, self.cost_usd)

    def answers(self) -> list[people.Answer]:
        """What the annotations in all exports say; of one that several of them have, as it was changed last.

        Who skips a task, however often, abstains, unless the same annotator has labelled it as well.
        """
        annotations = self._latest()
        places = [one.place for one in annotations]
        reader = LabelValues({name: name for name in self.task.classes}, "label")
        labels = reader.read([one.choice for one in annotations], places)
        answers = [
            people.Answer(one.item, who, label if one.choice is not None else NoLabel.ABSTAINED, _seen(one), one.place)
            for one, who, label in zip(annotations, self._names(annotations), labels, strict=True)
        ]
        settled = {(answer.item, answer.annotator) for answer in answers if answer.label is not NoLabel.ABSTAINED}
        kept = []
        for answer in answers:
            pair = answer.item, answer.annotator
            if answer.label is not NoLabel.ABSTAINED or pair not in settled:
                kept.append(answer)
            settled.add(pair)
        return kept

    def _latest(self) -> list[files.Annotation]:
        """Each annotation once: as it was changed last, from an export that says the most of who gave it."""
        latest: dict[Any, files.Annotation] = {}
        for file in files.export_files(self.folder):
            for position, one in enumerate(files.annotations(file)):
                key = (file, position) if one.key is None else (one.item, *one.key)
                latest[key] = max(one, latest.get(key, one), key=lambda a: (a.changed, a.email != "", a.user != ""))
        return list(latest.values())

    def _names(self, annotations: Sequence[files.Annotation]) -> list[str]:
        """Who gave each annotation, as votes name them.

        Exports name a user by number, by e-mail or by both. A number alone may be that of another Label Studio's user
        than the number with an e-mail, so only `names` says whether the two are one.
        """
        names = [self.names.get(one.email) or self.names.get(one.user) or one.email or one.user for one in annotations]
        with_both = {one.user: one for one in annotations if one.user and one.email}
        for one, name in zip(annotations, names, strict=True):
            if name == one.user and (other := with_both.get(name)) is not None:
                raise UserError(
                    f"{one.place}: is by user {name}, and {other.place} by {other.email}, who has that number; want a "
                    f"name for {name} and one for {other.email} in labeler.names"
                )
        return [f"{self.annotator}/{name}" if name else self.annotator for name in names]

    def _answers_about(self, items: pd.DataFrame) -> people.Answers:
        def texts_of(item: str) -> dict[str, str]:
            texts = self._texts(items.loc[[item]]).values()
            return {_view(key): text for key, text in texts}

        return people.by_item(self.answers(), items, self.item_ids, texts_of)

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


def _view(key: str) -> str:
    """The view that a key of a task's data stands for, for messages."""
    return key.removeprefix(files.VIEW)


def _seen(annotation: files.Annotation) -> dict[str, Any]:
    return {_view(key): text for key, text in annotation.data.items() if key.startswith(files.VIEW)}


def _drafts(annotations: pd.DataFrame, annotators: Sequence[str], task: Task) -> pd.DataFrame | None:
    """The label that some annotators of the dataset give to each item, with its mean score; None without annotators."""
    if not annotators:
        return None
    present = list(dict.fromkeys(annotations["annotator"]))
    chosen = votes.annotators_named(annotators, present, "labeler.drafts_by", None)
    scores = votes.class_scores(annotations[annotations["annotator"].isin(chosen)], task.classes)
    return pd.DataFrame({"label": scores.idxmax(axis=1).astype(object), "confidence": scores.max(axis=1)})
