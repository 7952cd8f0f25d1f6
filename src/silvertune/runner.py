"""One run: one arm, one seed, all folds of its split. Reads like the picture in the README, top to bottom."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from silvertune.errors import UserError
from silvertune.evaluation import label_quality, metrics, predictions
from silvertune.evidence import BoundFilter, Evidence, decide
from silvertune.interfaces import Backend, Labeler, Predictor
from silvertune.items import Data
from silvertune.schema import Evaluation, Task
from silvertune.splits import Fold, split
from silvertune.votes import check


@dataclass(frozen=True)
class Source:
    """A labeler and how its votes become one label an item.

    name: its config key, for messages. keep: the classes that a preselection goes on with.
    """

    name: str
    classes: tuple[str, ...]
    labeler: Labeler
    aggregate: Callable[[pd.DataFrame], pd.DataFrame]
    keep: tuple[str, ...] = ()

    def annotate(self, items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Votes on `items`, and labels for every one of them (null where nobody had a label)."""
        votes = check(self.labeler.label(items), self.classes, items.index, self.name)
        counted = votes
        if getattr(self.labeler, "first_only", False):
            counted = votes[votes["label"].notna()].drop_duplicates("item_id")
        labels = self.aggregate(counted).reindex(items.index)
        labels["label"] = labels["label"].astype(object).where(labels["label"].notna(), None)
        labels["n_votes"] = labels["n_votes"].fillna(0).astype(int)
        return votes, labels


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of, composed and bound. `model` None: the labeler itself is the arm."""

    task: Task
    data: Data
    preselect: Source | None
    labeler: Source
    bind: Callable[..., list[BoundFilter]]
    filters: list[BoundFilter]
    fallback: Source | None
    model: object | None
    backend: Backend
    evaluation: Evaluation
    seed: int


@dataclass(frozen=True)
class Result:
    """What a run found. `decisions`: one row an (item, fold) of the training pools; `predictors`: one a fold."""

    votes: pd.DataFrame
    decisions: pd.DataFrame
    predictions: pd.DataFrame
    report: metrics.Report
    labels: label_quality.Report
    predictors: list[Predictor]


def run(parts: Parts) -> Result:
    """Label, filter, tune, predict and evaluate. Raises UserError for what its author can mend."""
    items, task, gold = parts.data.items, parts.task, parts.data.gold
    folds = split(parts.data, parts.evaluation, task, parts.seed)
    pool, preselection = _preselected(parts, folds)
    wanted = pool if parts.model is not None else _union(items.index, pool, *(fold.test for fold in folds))
    votes, labels = parts.labeler.annotate(items.loc[wanted])

    decisions = [_decide(parts, votes, labels.loc[_union(pool, fold.train, fold.validation)]) for fold in folds]
    second_opinions, second_labels = _fallback(parts, decisions)
    decisions = [_training_labels(decision, second_labels).assign(fold=k) for k, decision in enumerate(decisions)]

    predicted, predictors = [], []
    for number, (fold, decision) in enumerate(zip(folds, decisions, strict=True)):
        if parts.model is None:
            test_votes = votes[votes["item_id"].isin(fold.test)]
            found = predictions.from_labels(labels.loc[fold.test], test_votes, task, parts.evaluation)
        else:
            predictor = _tuned(parts, decision, fold)
            predictors.append(predictor)
            probs = predictor.predict_proba(items.loc[fold.test])
            found = predictions.complete(predictions.decide(probs, task, parts.evaluation), fold.test, task)
        predicted.append(found.assign(fold=number))

    every = pd.concat(decisions)
    prediction = pd.concat(predicted).join(items["group_id"])
    stages = {"preselect": preselection, "labeler": votes, "fallback": second_opinions}
    cast = pd.concat([table.assign(stage=stage) for stage, table in stages.items() if table is not None])
    quality = label_quality.report(every, votes[votes["item_id"].isin(pool)], parts.data.annotations, gold, task)
    quality.metrics["labels/cost_usd"] = float(cast["cost_usd"].sum())
    return Result(
        votes=cast,
        decisions=every,
        predictions=prediction.assign(gold=gold.reindex(prediction.index)),
        report=metrics.evaluate(prediction, gold, task, replicates=parts.evaluation.replicates),
        labels=quality,
        predictors=predictors,
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


def _decide(parts: Parts, votes: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The labels of one training pool with what the filters say of them."""
    evidence = Evidence(
        items=parts.data.items.loc[labels.index],
        votes=votes[votes["item_id"].isin(labels.index)],
        labels=labels,
        task=parts.task,
        gold=parts.data.gold.loc[parts.data.gold.index.isin(labels.index)],
        seed=parts.seed,
        bind=parts.bind,
        student=parts.model,
    )
    return labels.join(decide(parts.filters, evidence))


def _fallback(parts: Parts, decisions: list[pd.DataFrame]) -> tuple[pd.DataFrame | None, pd.Series]:
    """The fallback's votes and labels on what any fold rejected; each item is asked about once."""
    rejected = _union(parts.data.items.index, *(decision.index[~decision["keep"]] for decision in decisions))
    if parts.fallback is None or rejected.empty:
        return None, pd.Series(dtype=object)
    votes, labels = parts.fallback.annotate(parts.data.items.loc[rejected])
    return votes, labels["label"].dropna()


def _training_labels(decision: pd.DataFrame, second_labels: pd.Series) -> pd.DataFrame:
    """`train_label` and `source` of each item: the kept label, the fallback's, or none."""
    used = decision.assign(
        train_label=decision["label"].where(decision["keep"], None),
        source=decision["keep"].map({True: "labeler", False: "dropped"}),
    )
    answered = decision.index[~decision["keep"] & decision.index.isin(second_labels.index)]
    used.loc[answered, "train_label"] = second_labels[answered]
    used.loc[answered, "source"] = "fallback"
    used.loc[answered, "weight"] = 1.0
    return used


def _tuned(parts: Parts, decision: pd.DataFrame, fold: Fold) -> Predictor:
    """The student, tuned on what the fold's decision kept."""
    chosen = decision[decision["train_label"].notna()]
    training = parts.data.items.loc[chosen.index].assign(label=chosen["train_label"], weight=chosen["weight"])
    train = training[training.index.isin(fold.train)]
    _check_classes(train, decision[decision.index.isin(fold.train)], parts)
    validation = training[training.index.isin(fold.validation)]
    return parts.backend.tune(parts.model, train, validation, seed=parts.seed)


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
