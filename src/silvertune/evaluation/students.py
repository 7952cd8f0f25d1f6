"""Tuned models on their folds' test items."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from silvertune.errors import UserError
from silvertune.evaluation import alarms, predictions, thresholds
from silvertune.interfaces import Predictor, PredictorTraits, Tuned
from silvertune.schema import Evaluation, Task
from silvertune.splits import Fold

ITEMS_AT_ONCE = 50_000
"""So many items are predicted at once at most: a model's features of more would fill the memory."""
LOOKED_AT = 2_000
"""So many of the items that it was tuned on does a model predict that nothing tests, to see whether it has learned."""


@dataclass(frozen=True)
class Student:
    """A tuned model and its thresholds.

    Attributes:
        tuned: The model.
        thresholds: Rule -> the probability of task.positive from which the student says so.
        alarms: What looks wrong with it, one line each, besides what its test items show.
    """

    tuned: Tuned
    thresholds: dict[str, float]
    alarms: tuple[str, ...] = ()

    @property
    def predictor(self) -> Predictor:
        """What it predicts with."""
        return self.tuned.predictor

    @property
    def history(self) -> list[dict[str, float]]:
        """What was measured in each epoch of its tuning, if it was tuned in epochs."""
        return [dict(epoch) for epoch in PredictorTraits.of(self.predictor).history]


def tuning_metrics(students: Sequence[Student]) -> dict[str, float]:
    """Mean thresholds over the folds, what tuning cost, and what else was counted.

    Args:
        students: One a fold; none where the labeler is the arm.

    Returns:
        `threshold/<rule>`, `tuning/cost_usd` and `tuning/<figure>`; empty without students.
    """
    if not students:
        return {}
    table = pd.DataFrame([student.thresholds for student in students])
    means = {f"threshold/{rule}": float(values.mean()) for rule, values in table.items() if rule != "half"}
    figures = pd.DataFrame([dict(PredictorTraits.of(student.predictor).figures) for student in students])
    sums = {f"tuning/{name}": float(values.sum()) for name, values in figures.items()}
    return {**means, **sums, "tuning/cost_usd": sum(student.tuned.cost_usd for student in students)}


def tested_students(
    tuned_models: Iterator[Tuned],
    items: pd.DataFrame,
    labels_by_fold: Sequence[pd.Series],
    folds: Sequence[Fold],
    task: Task,
    how: Evaluation,
    on_tested: Callable[[int, pd.DataFrame], None],
) -> list[Student]:
    """Test each model as soon as it is tuned.

    Args:
        tuned_models: One a fold, in the order of the folds.
        items: All items.
        labels_by_fold: The labels that each was tuned or validated on, by item_id.
        folds: Which items validate and test.
        task: The task.
        how: How views are joined, and the rule for the threshold.
        on_tested: Called with the number of each fold and the predictions on its test items.

    Returns:
        The students.

    Raises:
        UserError: The threshold's rule needs validation labels that are not there.
    """
    students: list[Student] = []
    try:
        for tuned, labels, fold in zip(tuned_models, labels_by_fold, folds, strict=True):
            thresholds_by_rule, test = _by_rule(tuned.predictor, items, labels, fold, task, how)
            on_tested(len(students), test)
            students.append(
                Student(tuned, thresholds_by_rule, _alarms(tuned.predictor, items, labels, fold, task, how))
            )
    finally:
        if isinstance(tuned_models, Generator):
            tuned_models.close()  # at once: a backend says then which of its jobs run on
    return students


def _by_rule(
    predictor: Predictor, items: pd.DataFrame, labels: pd.Series, fold: Fold, task: Task, how: Evaluation
) -> tuple[dict[str, float], pd.DataFrame]:
    """The threshold of each rule, and the predictions on the fold's test items with the label by each."""

    def predicted(item_ids: pd.Index) -> pd.DataFrame:
        return _predicted(predictor, items.loc[item_ids], task, how)

    held_out = fold.validation[fold.validation.isin(labels.index)]
    test = predicted(fold.test)
    decided = thresholds.decided(test, predicted(held_out), labels, task)
    if how.threshold in thresholds.RULES:
        if how.threshold not in decided.labels:
            raise UserError(
                f"evaluation.threshold={how.threshold}: needs every class among the validation labels, and there are "
                f"{labels[held_out].value_counts().to_dict() or 'none'}: raise model.validation_fraction"
            )
        test["label"] = decided.labels[how.threshold]
    test = test.join(decided.labels.add_prefix("label:"))
    return decided.thresholds, predictions.complete(test, fold.test, task)


def _predicted(predictor: Predictor, items: pd.DataFrame, task: Task, how: Evaluation) -> pd.DataFrame:
    batches = [items.iloc[at : at + ITEMS_AT_ONCE] for at in range(0, max(len(items), 1), ITEMS_AT_ONCE)]
    return pd.concat([predictions.decide(predictor.predict_proba(batch), task, how) for batch in batches])


def _alarms(
    predictor: Predictor, items: pd.DataFrame, labels: pd.Series, fold: Fold, task: Task, how: Evaluation
) -> tuple[str, ...]:
    """What the predictor says itself, and without test items what some of those that it was tuned on show."""
    lines = list(PredictorTraits.of(predictor).alarms)
    if fold.test.empty:
        tuned_on = items.loc[fold.train[fold.train.isin(labels.index)]]
        some = tuned_on.iloc[:: -(-len(tuned_on) // LOOKED_AT) or 1]
        lines += alarms.of(_predicted(predictor, some, task, how).assign(fold=0), [], task.classes, "training")
    return tuple(lines)
