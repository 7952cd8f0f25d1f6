"""One run: one arm, one seed, all folds of its split. Reads like the picture in the README, top to bottom."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from silvertune import fallback_budget
from silvertune.errors import UserError
from silvertune.evaluation import alarms, label_quality, metrics, predictions, thresholds
from silvertune.evidence.computed import Means
from silvertune.evidence.evidence import BoundFilter, Evidence, decide
from silvertune.interfaces import Backend, Labeler, Predictor
from silvertune.items import Data
from silvertune.schema import Evaluation, Task
from silvertune.splits import Fold, split, with_validation
from silvertune.votes import check, none_if_null, prob_columns


@dataclass(frozen=True)
class Source:
    """A labeler and how its votes become one label an item.

    name: its config key, for messages. keep: the classes that a preselection goes on with. budget: how many items a
    fallback is asked about; None is all that were rejected. people: whether the labels are people's.
    """

    name: str
    classes: tuple[str, ...]
    labeler: Labeler
    aggregate: Callable[[pd.DataFrame], pd.DataFrame]
    keep: tuple[str, ...] = ()
    budget: fallback_budget.Budget | None = None
    people: bool = False

    def annotate(self, items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Votes on `items`, and labels for every one of them."""
        votes = self.votes(items)
        return votes, self.labels(votes, items.index)

    def votes(self, items: pd.DataFrame) -> pd.DataFrame:
        """What the labeler says of `items`."""
        return check(self.labeler.label(items), self.classes, items.index, self.name)

    def labels(self, votes: pd.DataFrame, about: pd.Index) -> pd.DataFrame:
        """A label for each of the items `about` (null where nobody had one), from votes on them and on no others."""
        counted = votes[votes["item_id"].isin(about)]
        if getattr(self.labeler, "first_only", False):
            counted = counted[counted["label"].notna()].drop_duplicates("item_id")
        labels = self.aggregate(counted).reindex(about)
        labels["label"] = none_if_null(labels["label"])
        labels["n_votes"] = labels["n_votes"].fillna(0).astype(int)
        return labels


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of, composed and bound. `model` None: the labeler itself is the arm."""

    task: Task
    data: Data
    preselect: Source | None
    labeler: Source
    bind: Callable[..., list[BoundFilter]]
    filters: list[BoundFilter]
    means: Means
    fallback: Source | None
    model: object | None
    backend: Backend
    evaluation: Evaluation
    seed: int


@dataclass(frozen=True)
class Student:
    """A tuned predictor and the probability of task.positive from which it says so, by each rule."""

    predictor: Predictor
    thresholds: dict[str, float]

    @property
    def history(self) -> list[dict[str, float]]:
        """What was measured in each epoch of its tuning, if it was tuned in epochs."""
        return getattr(self.predictor, "history", [])


@dataclass(frozen=True)
class Result:
    """What a run found.

    decisions: one row an (item, fold) of the training pools. predictions: one row a test item; `label:<rule>`
    is its label by that rule of `silvertune.evaluation.thresholds`. students: one a fold.
    """

    votes: pd.DataFrame
    decisions: pd.DataFrame
    predictions: pd.DataFrame
    report: metrics.Report
    labels: label_quality.Report
    students: list[Student]
    alarms: list[str]


def run(parts: Parts) -> Result:
    """Label, filter, tune, predict and evaluate. Raises UserError for what its author can mend."""
    items, task, gold = parts.data.items, parts.task, parts.data.gold
    folds = split(parts.data, parts.evaluation, task, parts.seed)
    folds = with_validation(folds, items["group_id"], getattr(parts.model, "validation_fraction", 0.0), parts.seed)
    pool, preselection = _preselected(parts, folds)
    wanted = pool if parts.model is not None else _union(items.index, pool, *(fold.test for fold in folds))
    votes = parts.labeler.votes(items.loc[wanted])

    decisions = [_decide(parts, votes, _union(pool, fold.train, fold.validation)) for fold in folds]
    second_opinions, second_labels = _fallback(parts, decisions)
    decisions = [_training_labels(decision, second_labels).assign(fold=k) for k, decision in enumerate(decisions)]

    students: list[Student] = []
    if parts.model is None:
        predicted = _labelers_own(parts, votes, parts.labeler.labels(votes, wanted), folds)
    else:
        predicted = []
        for fold, decision in zip(folds, decisions, strict=True):
            student, found = _tested(parts, _tuned(parts, decision, fold), decision, fold)
            students.append(student)
            predicted.append(found)

    every = pd.concat(decisions)
    prediction = pd.concat([found.assign(fold=k) for k, found in enumerate(predicted)]).join(items["group_id"])
    stages = {"preselect": preselection, "labeler": votes, "fallback": second_opinions}
    cast = pd.concat([table.assign(stage=stage) for stage, table in stages.items() if table is not None])
    quality = label_quality.report(every, cast, parts.data.annotations, prediction, gold, task)
    quality.metrics["labels/cost_usd"] = float(cast["cost_usd"].sum())
    quality.metrics["labels/human_labels"] = _human_labels(parts, every)
    if parts.fallback is not None and parts.fallback.budget is not None:
        quality.metrics.update(fallback_budget.audit(decisions, second_labels))
    report = metrics.evaluate(prediction, gold, task, replicates=parts.evaluation.replicates)
    report.metrics.update(metrics.by_rule(prediction, gold, task))
    report.metrics.update(_mean_thresholds(students))
    return Result(
        votes=cast,
        decisions=every,
        predictions=prediction.assign(gold=gold.reindex(prediction.index)),
        report=report,
        labels=quality,
        students=students,
        alarms=alarms.of(prediction, [student.history for student in students], task.classes) if students else [],
    )


def _union(order: pd.Index, *parts: pd.Index) -> pd.Index:
    """The members of `parts` that are in `order`, in its order."""
    wanted = set().union(*parts)
    return order[order.isin(list(wanted))]


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
        training=parts.data.training_items,
        gold=parts.data.gold.loc[parts.data.gold.index.isin(pool)],
        seed=parts.seed,
        bind=parts.bind,
        means=parts.means,
    )
    decision = labels.join(decide(parts.filters, evidence))
    decision["calibration"] = decision.index.isin(evidence.bought)
    if parts.fallback is None:
        return decision.assign(asked="")
    asked = fallback_budget.asked(decision, evidence.votes, parts.task, parts.fallback.budget, parts.seed)
    return decision.assign(asked=asked)


def _fallback(parts: Parts, decisions: list[pd.DataFrame]) -> tuple[pd.DataFrame | None, pd.Series]:
    """The fallback's votes and labels on what any fold asks about; each item is asked about once."""
    asked = _union(parts.data.items.index, *(decision.index[decision["asked"] != ""] for decision in decisions))
    if parts.fallback is None or asked.empty:
        return None, pd.Series(dtype=object)
    votes, labels = parts.fallback.annotate(parts.data.items.loc[asked])
    return votes, labels["label"].dropna()


def _training_labels(decision: pd.DataFrame, second_labels: pd.Series) -> pd.DataFrame:
    """`train_label` and `source` of each item: the fallback's label, the kept one, or none."""
    used = decision.assign(
        train_label=decision["label"].where(decision["keep"], None),
        source=decision["keep"].map({True: "labeler", False: "dropped"}),
    )
    answered = decision.index[(decision["asked"] != "") & decision.index.isin(second_labels.index)]
    used.loc[answered, "train_label"] = second_labels[answered]
    used.loc[answered, "source"] = "fallback"
    used.loc[answered, "weight"] = 1.0
    return used


def _human_labels(parts: Parts, decisions: pd.DataFrame) -> float:
    """How many labels people gave: an item that several folds train on was labelled once by each who was asked."""
    asked = [decisions["calibration"]]
    if parts.labeler.people:
        asked.append(decisions["label"].notna())
    if parts.fallback is not None and parts.fallback.people:
        asked.append(decisions["source"] == "fallback")
    return float(sum(decisions.index[given].nunique() for given in asked))


def _labelers_own(parts: Parts, votes: pd.DataFrame, labels: pd.DataFrame, folds: list[Fold]) -> list[pd.DataFrame]:
    """The labels themselves as predictions on each fold's test items."""
    return [
        predictions.from_labels(
            labels.loc[fold.test], votes[votes["item_id"].isin(fold.test)], parts.task, parts.evaluation
        )
        for fold in folds
    ]


def _tuned(parts: Parts, decision: pd.DataFrame, fold: Fold) -> Predictor:
    """The student, tuned on what the fold's decision kept."""
    chosen = decision[decision["train_label"].notna()]
    training = parts.data.items.loc[chosen.index].assign(label=chosen["train_label"], weight=chosen["weight"])
    if getattr(parts.model, "soft_labels", False):
        training = training.join(_soft_labels(chosen, parts.task))
    train = training[training.index.isin(fold.train)]
    _check_classes(train, decision[decision.index.isin(fold.train)], parts)
    validation = training[training.index.isin(fold.validation)]
    return parts.backend.tune(parts.model, train, validation, seed=parts.seed)


def _soft_labels(chosen: pd.DataFrame, task: Task) -> pd.DataFrame:
    """`prob:<class>` of each training label: the aggregation's where it knows a distribution, else all on the label."""
    columns = prob_columns(task.classes)
    hard = pd.DataFrame({f"prob:{name}": (chosen["train_label"] == name).astype(float) for name in task.classes})
    if not set(columns) <= set(chosen.columns):
        return hard
    from_labeler = (chosen["source"] == "labeler") & chosen[columns].notna().all(axis=1)
    return hard.where(~from_labeler, chosen[columns])


def _check_classes(train: pd.DataFrame, decision: pd.DataFrame, parts: Parts) -> None:
    """A student can't be tuned on nothing or on one class, and a filter must not lose a class without a word."""
    before, after = decision["label"].value_counts(), train["label"].value_counts()
    chain = "+".join(bound.key for bound in parts.filters)
    counts = {name: f"{int(before.get(name, 0))} -> {int(after.get(name, 0))}" for name in parts.task.classes}
    if train.empty:
        raise UserError(f"filter={chain}: no label is left to tune on (labels before -> after, by class: {counts})")
    if lost := [name for name in parts.task.classes if name in before and name not in after]:
        raise UserError(f"filter={chain}: every label of class {lost[0]!r} was dropped (before -> after: {counts})")
    if len(after) < 2:
        raise UserError(f"labeler: every label is {after.index[0]!r}; a model needs at least two classes to be tuned")


def _tested(parts: Parts, predictor: Predictor, decision: pd.DataFrame, fold: Fold) -> tuple[Student, pd.DataFrame]:
    """The tuned student and its predictions on the fold's test items, by every rule for the threshold."""
    items, task, how = parts.data.items, parts.task, parts.evaluation

    def predicted(ids: pd.Index) -> pd.DataFrame:
        return predictions.decide(predictor.predict_proba(items.loc[ids]), task, how)

    silver = decision["train_label"].dropna()
    held_out = fold.validation[fold.validation.isin(silver.index)]
    test = predicted(fold.test)
    decided = thresholds.decided(test, predicted(held_out), silver, task)
    if how.threshold in thresholds.RULES:
        if how.threshold not in decided.labels:
            raise UserError(
                f"evaluation.threshold={how.threshold}: needs every class among the validation labels, and there are "
                f"{silver[held_out].value_counts().to_dict() or 'none'}: raise model.validation_fraction"
            )
        test["label"] = decided.labels[how.threshold]
    test = test.join(decided.labels.add_prefix("label:"))
    return Student(predictor, decided.thresholds), predictions.complete(test, fold.test, task)


def _mean_thresholds(students: list[Student]) -> dict[str, float]:
    table = pd.DataFrame([student.thresholds for student in students])
    return {f"threshold/{rule}": float(values.mean()) for rule, values in table.items() if rule != "half"}
