"""One run: one arm, one seed, all folds of its split. Reads like the picture in `docs/concepts.md`, top to bottom."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from silvertune import fallback_budget
from silvertune.backends.training_sets import training_set
from silvertune.errors import UserError
from silvertune.evaluation import alarms, label_quality, metrics, predictions
from silvertune.evaluation.result_tables import ResultTables
from silvertune.evaluation.students import Student, tested_students, tuning_metrics
from silvertune.evidence.computed import Resources
from silvertune.evidence.evidence import BoundFilter, Evidence, decide
from silvertune.interfaces import Backend, Model, ModelTraits, TrainingSet
from silvertune.items import Data
from silvertune.labelers.source import LabelSource, why_no_label
from silvertune.schema import Evaluation, Task
from silvertune.splits import Fold, copied_test_items, split, with_validation


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of, composed and bound.

    Attributes:
        model: What is tuned; None: the labeler itself is the arm.
        tuning_settings: Digest of the settings that decide what tuning gives (`silvertune.identity.of_tuning`).
        bind: Binds other filters' configs, for filters that are made of filters.
        resources: What evidence is computed with.
    """

    task: Task
    data: Data
    preselect: LabelSource | None
    labeler: LabelSource
    bind: Callable[..., list[BoundFilter]]
    filters: list[BoundFilter]
    resources: Resources
    fallback: LabelSource | None
    model: Model | None
    backend: Backend
    evaluation: Evaluation
    seed: int
    tuning_settings: str = ""

    @property
    def traits(self) -> ModelTraits:
        """The model's optional attributes; the defaults where there is no model."""
        return ModelTraits.of(self.model)


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        votes: All votes, with the `stage` (preselect, labeler, fallback) that they are of.
        tables: On disk, by name: `votes`; `decisions`, with one row an (item, fold) of the training pools; and
            `predictions`, with one row a test item and none in a production run. Of these, `label:<rule>` is the label
            by that rule of `silvertune.evaluation.thresholds`.
        report: Metrics of the predictions.
        labels: Quality of the labels.
        students: One a fold; none where the labeler is the arm.
        alarms: What looks wrong with the students, in words.
    """

    votes: pd.DataFrame
    tables: ResultTables
    report: metrics.Report
    labels: label_quality.Report
    students: list[Student]
    alarms: list[str]

    @property
    def decisions(self) -> pd.DataFrame:
        """The table `decisions`, whole, indexed by item_id."""
        return self.tables.read("decisions")

    @property
    def predictions(self) -> pd.DataFrame:
        """The table `predictions`, whole, indexed by item_id."""
        return self.tables.read("predictions")


def run(parts: Parts, tables: ResultTables | None = None) -> Result:
    """Label, filter, tune, predict and evaluate.

    Args:
        parts: What the run is made of.
        tables: Gets votes, decisions and predictions as they come (votes may have been paid for); None: temporary ones.

    Returns:
        What the run found.

    Raises:
        UserError: Something that the author of the configuration or of the data can mend.
    """
    items, task, gold = parts.data.items, parts.task, parts.data.gold
    tables = ResultTables() if tables is None else tables
    folds = split(parts.data, parts.evaluation, task, parts.seed)
    folds = with_validation(folds, items["group_id"], parts.traits.validation_fraction, parts.seed)
    pool, preselect_votes = _preselected(parts, folds, tables)
    item_ids = pool if parts.model is not None else _union(items.index, pool, *(fold.test for fold in folds))
    votes = parts.labeler.votes(items.loc[item_ids])
    tables.add("votes", votes.assign(stage="labeler"))

    for k, fold in enumerate(folds):
        tables.add("decisions", _decide(parts, votes, _union(pool, fold.train, fold.validation)).assign(fold=k))
    fallback_votes, fallback_labels = _fallback(parts, tables)

    students = _tested_students(parts, votes, item_ids, folds, tables)

    decisions = tables.read("decisions", [*label_quality.DECIDED, "calibration"])
    prediction = tables.read("predictions", ["label", "prob:", "label:", "fold"]).join(items["group_id"])
    stages = {"preselect": preselect_votes, "labeler": votes, "fallback": fallback_votes}
    all_votes = pd.concat([table.assign(stage=stage) for stage, table in stages.items() if table is not None])
    quality = label_quality.report(decisions, all_votes, parts.data.annotations, prediction, gold, task)
    quality.metrics["labels/cost_usd"] = float(all_votes["cost_usd"].sum())
    quality.metrics["labels/copied_test_items"] = float(copied_test_items(items, folds))
    quality.metrics["labels/human_labels"] = _human_labels(parts, decisions)
    if parts.fallback is not None and parts.fallback.budget is not None:
        pools = [tables.read("decisions", ["label", "keep", "asked"], part=k) for k in range(len(folds))]
        quality.metrics.update(fallback_budget.audit(pools, fallback_labels))
    report = metrics.evaluate(prediction, gold, task, replicates=parts.evaluation.replicates)
    report.metrics.update(metrics.by_rule(prediction, gold, task))
    report.metrics.update(tuning_metrics(students))
    return Result(
        votes=all_votes,
        tables=tables,
        report=report,
        labels=quality,
        students=students,
        alarms=[
            *(alarms.of(prediction, [student.history for student in students], task.classes) if students else []),
            *dict.fromkeys(line for student in students for line in student.alarms),
        ],
    )


def _union(order: pd.Index, *parts: pd.Index) -> pd.Index:
    """The members of `parts` that are in `order`, in its order."""
    return order[order.isin(list(set().union(*parts)))]


def _preselected(parts: Parts, folds: list[Fold], tables: ResultTables) -> tuple[pd.Index, pd.DataFrame | None]:
    """The items that may be trained on: all, or those that a preselection, by the votes returned, goes on with."""
    pool = _union(parts.data.items.index, *(fold.train for fold in folds), *(fold.validation for fold in folds))
    if parts.preselect is None:
        return pool, None
    votes, labels = parts.preselect.annotate(parts.data.items.loc[pool])
    tables.add("votes", votes.assign(stage="preselect"))
    chosen = labels.index[labels["label"].isin(list(parts.preselect.keep))]
    if chosen.empty:
        raise UserError(f"preselect.keep={list(parts.preselect.keep)}: the preselection found no such item")
    return chosen, votes


def _decide(parts: Parts, votes: pd.DataFrame, pool: pd.Index) -> pd.DataFrame:
    """The labels of one training pool, what the filters say of them, which are trained on and which go to the fallback.

    Aggregated from the pool's own votes: an aggregation that weighs annotators learns nothing from test items.
    """
    labels = parts.labeler.labels(votes, pool)
    evidence = Evidence(
        items=parts.data.items.loc[pool],
        votes=votes[votes["item_id"].isin(pool)],
        labels=labels,
        task=parts.task,
        annotations=parts.data.annotations[parts.data.annotations["item_id"].isin(pool)],
        item_ids=parts.data.items.index,
        training=parts.data.training_items,
        gold=parts.data.gold.loc[parts.data.gold.index.isin(pool)],
        seed=parts.seed,
        bind=parts.bind,
        resources=parts.resources,
    )
    decision = labels.join(decide(parts.filters, evidence))
    decision["calibration"] = decision.index.isin(evidence.bought)
    decision["asked"] = ""
    if (asked := parts.fallback) is not None:
        why = fallback_budget.reasons_to_ask(decision, evidence.votes, parts.task, asked.budget, parts.seed)
        decision["asked"] = why
    decision["train_label"] = decision["label"].where(decision["keep"], None)
    decision["source"] = decision["keep"].map({True: "labeler", False: "dropped"})
    return decision


def _fallback(parts: Parts, tables: ResultTables) -> tuple[pd.DataFrame | None, pd.Series]:
    """The fallback's votes and labels on what any fold asks about; each item is asked about once.

    The decisions on disk get its labels, to be trained on.
    """
    if parts.fallback is None:
        return None, pd.Series(dtype=object)
    decisions = tables.read("decisions", ["label", "confidence", "asked"])
    asked = decisions.loc[decisions["asked"] != "", ["label", "confidence"]]
    item_ids = _union(parts.data.items.index, asked.index)
    if item_ids.empty:
        return None, pd.Series(dtype=object)
    drafts = asked[~asked.index.duplicated()].reindex(item_ids)
    votes, labels = parts.fallback.annotate(parts.data.items.loc[item_ids], drafts)
    tables.add("votes", votes.assign(stage="fallback"))
    fallback_labels = labels["label"].dropna()
    for k in range(tables.count("decisions")):
        decision = tables.read("decisions", part=k)
        tables.replace("decisions", k, fallback_budget.with_answers(decision, fallback_labels))
    return votes, fallback_labels


def _human_labels(parts: Parts, decisions: pd.DataFrame) -> float:
    """How many labels people gave: an item that several folds train on was labelled once by each who was asked."""
    by_people = [decisions["calibration"]]
    if parts.labeler.people:
        by_people.append(decisions["label"].notna())
    if parts.fallback is not None and parts.fallback.people:
        by_people.append(decisions["source"] == "fallback")
    return float(sum(decisions.index[labelled.to_numpy()].nunique() for labelled in by_people))


def _tested_students(
    parts: Parts, votes: pd.DataFrame, item_ids: pd.Index, folds: list[Fold], tables: ResultTables
) -> list[Student]:
    """Tune a student a fold, none where the labeler is the arm; what they predict on their test items goes to disk."""

    of_items = parts.data.items[["group_id"]].assign(gold=parts.data.gold)

    def on_tested(k: int, tested: pd.DataFrame) -> None:
        tables.add("predictions", tested.assign(fold=k).join(of_items))

    if parts.model is None:
        labels = parts.labeler.labels(votes, item_ids)
        for k, fold in enumerate(folds):
            on_test = votes[votes["item_id"].isin(fold.test)]
            on_tested(k, predictions.from_labels(labels.loc[fold.test], on_test, parts.task, parts.evaluation))
        return []
    sets = [_training_set(parts, votes, tables.read("decisions", part=k), fold) for k, fold in enumerate(folds)]
    trained = (tables.read("decisions", ["train_label"], part=k)["train_label"] for k in range(len(folds)))
    labels_by_fold = [labels[labels.notna().to_numpy()] for labels in trained]
    tuned = parts.backend.tune(parts.model, sets)
    return tested_students(tuned, parts.data.items, labels_by_fold, folds, parts.task, parts.evaluation, on_tested)


def _training_set(parts: Parts, votes: pd.DataFrame, decision: pd.DataFrame, fold: Fold) -> TrainingSet:
    return training_set(
        parts.data.items, decision, fold, parts.task, traits=parts.traits, settings=parts.tuning_settings,
        seed=parts.seed, filters=[bound.key for bound in parts.filters], why_no_label=why_no_label(votes),
    )  # fmt: skip
