"""One run: one arm, one seed, all folds of its split. Reads like the picture in `docs/concepts.md`, top to bottom."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from silvertune import fallback_budget
from silvertune.backends.training_sets import training_set
from silvertune.errors import UserError
from silvertune.evaluation import alarms, label_quality, metrics, predictions
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
        decisions: One row an (item, fold) of the training pools.
        predictions: One row a test item, none in a production run; `label:<rule>` is its label by that rule of
            `silvertune.evaluation.thresholds`.
        report: Metrics of the predictions.
        labels: Quality of the labels.
        students: One a fold; none where the labeler is the arm.
        alarms: What looks wrong with the students, in words.
    """

    votes: pd.DataFrame
    decisions: pd.DataFrame
    predictions: pd.DataFrame
    report: metrics.Report
    labels: label_quality.Report
    students: list[Student]
    alarms: list[str]


def run(parts: Parts, on_votes: Callable[[pd.DataFrame], None] = lambda votes: None) -> Result:
    """Label, filter, tune, predict and evaluate.

    Args:
        parts: What the run is made of.
        on_votes: Called with the labeler's votes as soon as they are there: they may have been paid for.

    Returns:
        What the run found.

    Raises:
        UserError: Something that the author of the configuration or of the data can mend.
    """
    items, task, gold = parts.data.items, parts.task, parts.data.gold
    folds = split(parts.data, parts.evaluation, task, parts.seed)
    folds = with_validation(folds, items["group_id"], parts.traits.validation_fraction, parts.seed)
    pool, preselect_votes = _preselected(parts, folds)
    item_ids = pool if parts.model is not None else _union(items.index, pool, *(fold.test for fold in folds))
    votes = parts.labeler.votes(items.loc[item_ids])
    on_votes(votes)

    decisions = [_decide(parts, votes, _union(pool, fold.train, fold.validation)) for fold in folds]
    fallback_votes, fallback_labels = _fallback(parts, decisions)
    decisions = [_training_labels(decision, fallback_labels).assign(fold=k) for k, decision in enumerate(decisions)]

    if parts.model is None:
        students: list[Student] = []
        tested = _labelers_own(parts, votes, parts.labeler.labels(votes, item_ids), folds)
    else:
        sets = [_training_set(parts, votes, decision, fold) for decision, fold in zip(decisions, folds, strict=True)]
        tuned_models = parts.backend.tune(parts.model, sets)
        students, tested = tested_students(tuned_models, items, decisions, folds, task, parts.evaluation)

    all_decisions = pd.concat(decisions)
    prediction = pd.concat([table.assign(fold=k) for k, table in enumerate(tested)]).join(items["group_id"])
    stages = {"preselect": preselect_votes, "labeler": votes, "fallback": fallback_votes}
    all_votes = pd.concat([table.assign(stage=stage) for stage, table in stages.items() if table is not None])
    quality = label_quality.report(all_decisions, all_votes, parts.data.annotations, prediction, gold, task)
    quality.metrics["labels/cost_usd"] = float(all_votes["cost_usd"].sum())
    quality.metrics["labels/copied_test_items"] = float(copied_test_items(items, folds))
    quality.metrics["labels/human_labels"] = _human_labels(parts, all_decisions)
    if parts.fallback is not None and parts.fallback.budget is not None:
        quality.metrics.update(fallback_budget.audit(decisions, fallback_labels))
    report = metrics.evaluate(prediction, gold, task, replicates=parts.evaluation.replicates)
    report.metrics.update(metrics.by_rule(prediction, gold, task))
    report.metrics.update(tuning_metrics(students))
    return Result(
        votes=all_votes,
        decisions=all_decisions,
        predictions=prediction.assign(gold=gold.reindex(prediction.index)),
        report=report,
        labels=quality,
        students=students,
        alarms=[
            *(alarms.of(prediction, [student.history for student in students], task.classes) if students else []),
            *dict.fromkeys(line for student in students for line in student.alarms),
        ],
    )


def largest_training_sets(parts: Parts) -> list[TrainingSet]:
    """Training sets that no run of these parts exceeds, for estimates: all items of each fold, with a made-up label."""
    items, longest = parts.data.items, max(parts.task.classes, key=len)
    folds = split(parts.data, parts.evaluation, parts.task, parts.seed)
    folds = with_validation(folds, items["group_id"], parts.traits.validation_fraction, parts.seed)
    labelled = items.assign(label=longest, weight=1.0)
    if parts.traits.soft_labels:
        labelled = labelled.assign(**{f"prob:{name}": float(name == longest) for name in parts.task.classes})
    sets = [(labelled.loc[fold.train], labelled.loc[fold.validation]) for fold in folds]
    return [TrainingSet(train, validation, parts.seed, parts.tuning_settings) for train, validation in sets]


def _union(order: pd.Index, *parts: pd.Index) -> pd.Index:
    """The members of `parts` that are in `order`, in its order."""
    return order[order.isin(list(set().union(*parts)))]


def _preselected(parts: Parts, folds: list[Fold]) -> tuple[pd.Index, pd.DataFrame | None]:
    """The items that may be trained on: all, or those that a preselection, by the votes returned, goes on with."""
    pool = _union(parts.data.items.index, *(fold.train for fold in folds), *(fold.validation for fold in folds))
    if parts.preselect is None:
        return pool, None
    votes, labels = parts.preselect.annotate(parts.data.items.loc[pool])
    chosen = labels.index[labels["label"].isin(list(parts.preselect.keep))]
    if chosen.empty:
        raise UserError(f"preselect.keep={list(parts.preselect.keep)}: the preselection found no such item")
    return chosen, votes


def _decide(parts: Parts, votes: pd.DataFrame, pool: pd.Index) -> pd.DataFrame:
    """The labels of one training pool with what the filters say of them, and which go to the fallback.

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
    if parts.fallback is None:
        return decision.assign(asked="")
    why_asked = fallback_budget.reasons_to_ask(decision, evidence.votes, parts.task, parts.fallback.budget, parts.seed)
    return decision.assign(asked=why_asked)


def _fallback(parts: Parts, decisions: list[pd.DataFrame]) -> tuple[pd.DataFrame | None, pd.Series]:
    """The fallback's votes and labels on what any fold asks about; each item is asked about once."""
    item_ids = _union(parts.data.items.index, *(decision.index[decision["asked"] != ""] for decision in decisions))
    if parts.fallback is None or item_ids.empty:
        return None, pd.Series(dtype=object)
    drafts = pd.concat([decision[["label", "confidence"]] for decision in decisions])
    drafts = drafts[~drafts.index.duplicated()].reindex(item_ids)
    votes, labels = parts.fallback.annotate(parts.data.items.loc[item_ids], drafts)
    return votes, labels["label"].dropna()


def _training_labels(decision: pd.DataFrame, fallback_labels: pd.Series) -> pd.DataFrame:
    """`train_label` and `source` of each item: the fallback's label, the kept one, or none."""
    labelled = decision.assign(
        train_label=decision["label"].where(decision["keep"], None),
        source=decision["keep"].map({True: "labeler", False: "dropped"}),
    )
    answered = decision.index[(decision["asked"] != "") & decision.index.isin(fallback_labels.index)]
    labelled.loc[answered, "train_label"] = fallback_labels[answered]
    labelled.loc[answered, "source"] = "fallback"
    labelled.loc[answered, "weight"] = 1.0
    return labelled


def _human_labels(parts: Parts, decisions: pd.DataFrame) -> float:
    """How many labels people gave: an item that several folds train on was labelled once by each who was asked."""
    by_people = [decisions["calibration"]]
    if parts.labeler.people:
        by_people.append(decisions["label"].notna())
    if parts.fallback is not None and parts.fallback.people:
        by_people.append(decisions["source"] == "fallback")
    return float(sum(decisions.index[labelled].nunique() for labelled in by_people))


def _labelers_own(parts: Parts, votes: pd.DataFrame, labels: pd.DataFrame, folds: list[Fold]) -> list[pd.DataFrame]:
    """The labels themselves as predictions on each fold's test items."""
    return [
        predictions.from_labels(
            labels.loc[fold.test], votes[votes["item_id"].isin(fold.test)], parts.task, parts.evaluation
        )
        for fold in folds
    ]


def _training_set(parts: Parts, votes: pd.DataFrame, decision: pd.DataFrame, fold: Fold) -> TrainingSet:
    return training_set(
        parts.data.items, decision, fold, parts.task, traits=parts.traits, settings=parts.tuning_settings,
        seed=parts.seed, filters=[bound.key for bound in parts.filters], why_no_label=why_no_label(votes),
    )  # fmt: skip
