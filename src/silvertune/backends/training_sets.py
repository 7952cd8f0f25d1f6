"""Makes training sets: the items of a fold that have a training label, with their labels and weights."""

from collections.abc import Sequence

import pandas as pd

from silvertune.errors import UserError
from silvertune.interfaces import ModelTraits, TrainingSet
from silvertune.schema import Task
from silvertune.splits import Fold
from silvertune.votes import prob_columns


def training_set(
    items: pd.DataFrame,
    decision: pd.DataFrame,
    fold: Fold,
    task: Task,
    *,
    traits: ModelTraits,
    settings: str,
    seed: int,
    filters: Sequence[str],
    why_no_label: str,
) -> TrainingSet:
    """Make the training set of one fold.

    Args:
        items: All items.
        decision: Indexed by item_id: `label`, `train_label` (None where the item is dropped), `weight`, `source`.
        fold: Which items are trained on, and which validate.
        task: The task.
        traits: The model's.
        settings: Digest of the settings that decide what tuning gives.
        seed: Seed of the tuning.
        filters: Names of the chain's filters, for messages.
        why_no_label: What the votes without a label say, for the message where no label is left.

    Returns:
        The items with a training label, in the order of `items`.

    Raises:
        UserError: No label is left, a class lost all its labels, or there is one class only.
    """
    chosen = decision[decision["train_label"].notna()]
    rows = items.loc[chosen.index].assign(label=chosen["train_label"], weight=chosen["weight"])
    if traits.soft_labels:
        rows = rows.join(_soft_labels(chosen, task))
    train = rows[rows.index.isin(fold.train)]
    _check_classes(train, decision[decision.index.isin(fold.train)], task, filters, why_no_label)
    return TrainingSet(train, rows[rows.index.isin(fold.validation)], seed, settings)


def _soft_labels(chosen: pd.DataFrame, task: Task) -> pd.DataFrame:
    """`prob:<class>` of each training label: the aggregation's where it knows a distribution, else all on the label."""
    columns = prob_columns(task.classes)
    hard = pd.DataFrame({f"prob:{name}": (chosen["train_label"] == name).astype(float) for name in task.classes})
    if not set(columns) <= set(chosen.columns):
        return hard
    from_labeler = (chosen["source"] == "labeler") & chosen[columns].notna().all(axis=1)
    return hard.where(~from_labeler, chosen[columns])


def _check_classes(
    train: pd.DataFrame, decision: pd.DataFrame, task: Task, filters: Sequence[str], why_no_label: str
) -> None:
    """A model can't be tuned on nothing or on one class, and a filter must not lose a class without a word.

    A label of weight 0 counts as none.
    """
    # An array as the mask: a Series would make pandas hash the ids, and keep that.
    has_weight = (train["weight"] > 0).to_numpy()
    before, after = decision["label"].value_counts(), train["label"][has_weight].value_counts()
    chain = "+".join(filters)
    counts = {name: f"{int(before.get(name, 0))} -> {int(after.get(name, 0))}" for name in task.classes}
    if after.empty:
        unsure = "confidence" in decision and before.sum() and decision["confidence"].isna().all()
        hint = "; none of the labels has a confidence (LLMs: labeler.confidence=true asks for it)" if unsure else ""
        raise UserError(
            f"filter={chain}: no label is left to tune on (labels before -> after, by class: {counts}){hint}"
            f"{why_no_label}"
        )
    if lost := [name for name in task.classes if name in before and name not in after]:
        raise UserError(
            f"filter={chain}: every label of class {lost[0]!r} was dropped or has weight 0 (before -> after: {counts})"
        )
    if len(after) < 2:
        raise UserError(f"labeler: every label is {after.index[0]!r}; a model needs at least two classes to be tuned")
