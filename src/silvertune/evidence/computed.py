"""Evidence that takes computation: embeddings, out-of-fold probabilities, training dynamics.

It depends only on the items and labels of one training pool, not on the seed of a run. The arms and seeds of a study
that have the same pool therefore share it, on disk (`silvertune.evidence.cache`; the encoder keeps its embeddings).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune import import_path
from silvertune.encoders.encoder import Encoder
from silvertune.errors import UserError
from silvertune.evidence.cache import cached, content_of
from silvertune.items import views_of
from silvertune.votes import none_if_null

SEED = 0
"""The seed of the folds and of the student: the same in every run, so that the runs of a study share the evidence."""


@dataclass(frozen=True)
class Resources:
    """What evidence is computed with.

    Attributes:
        encoder: The encoder.
        encoder_key: The digest of what determines its output (`silvertune.identity.of_part`).
        student: The model that is tuned for evidence. It has `fit(train, validation, seed)` as a local model has, and
            may have `dynamics(train, seed)`, which gives its logits after each epoch, and `prepare(items)`, which is
            called with the whole pool before the first fit, to read its texts once for all folds and labels.
        student_key: The digest of what determines its output.
        folds: The number of folds of `out_of_fold`, from 2.
        epochs: The number of epochs of `training_dynamics`, from 1, if the student has no `dynamics`.
        calibration: How many items of the pool may show their gold label to filters; 0: none.
        cache: The folder of computed evidence.
    """

    encoder: Encoder
    encoder_key: str
    student: Any
    student_key: str
    folds: int
    epochs: int
    calibration: int
    cache: Path


def embeddings(resources: Resources, items: pd.DataFrame) -> pd.DataFrame:
    """Embed items: the mean over the item's views, scaled to unit length.

    Args:
        resources: What evidence is computed with.
        items: The items.

    Returns:
        Indexed like `items`, float32 columns 0..d-1; all zeros for an item without a view to read.
    """
    views = views_of(items)
    texts = list(dict.fromkeys(text for view in views for text in items[view].dropna()))
    if not texts:
        return pd.DataFrame(np.zeros((len(items), 1), dtype=np.float32), index=items.index)
    vectors = resources.encoder.embed(texts, resources.cache)
    text_index = pd.Index(texts)
    total = np.zeros((len(items), vectors.shape[1]), dtype=np.float32)
    for view in views:
        has_text = items[view].notna().to_numpy()
        total[has_text] += vectors[text_index.get_indexer(pd.Index(items.loc[has_text, view]))]
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return pd.DataFrame(np.divide(total, length, out=total, where=length > 0), index=items.index)


class OutOfFold:
    """Predicts every item of one training pool by a student that never saw the item's group, for any labels of it.

    The groups are divided into folds (as many as there are groups, if these are fewer). Without labels in the other
    folds the classes are equally likely; with labels of one class only, that class is certain.

    Args:
        resources: What evidence is computed with.
        items: The pool.
        classes: The classes.
    """

    def __init__(self, resources: Resources, items: pd.DataFrame, classes: Sequence[str]) -> None:
        self._resources, self._classes = resources, list(classes)
        self._index, self._items = items.index, items.sort_index()

    def __call__(self, labels: pd.Series) -> pd.DataFrame:
        """Predict.

        Args:
            labels: The silver class of some or all of the items, by item_id.

        Returns:
            (item_id, view) x class, 0-1, rows sum to 1.

        Raises:
            UserError: If all items are of one group.
        """
        if self._items.empty:
            index = pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"])
            return pd.DataFrame(index=index, columns=self._classes, dtype=float)
        ordered = none_if_null(labels.reindex(self._items.index))
        return cached(
            self._resources.cache / "evidence",
            "out_of_fold",
            [*self._determined_by, content_of(ordered.to_frame("label"))],
            lambda: pd.concat([self._predicted(held_out, ordered) for held_out in self._folds]),
        )

    def mean_over_views(self, labels: pd.Series) -> pd.DataFrame:
        """Predict, and average over each item's views.

        Args:
            labels: The silver class of each item, by item_id; null where it has none.

        Returns:
            (item_id) x class in the order of the pool, 0-1, rows sum to 1. The classes are equally likely for an item
            without a view to read, and where no item has a label.

        Raises:
            UserError: If all items are of one group.
        """
        probs = pd.DataFrame(1 / len(self._classes), index=self._index, columns=self._classes)
        if labels.isna().all():
            return probs
        mean = self(labels).groupby(level="item_id").mean()
        probs.loc[mean.index] = mean
        return probs

    @cached_property
    def _determined_by(self) -> list[str]:
        resources = self._resources
        pool = [repr(self._classes), _source(), content_of(self._items)]
        return [resources.student_key, str(resources.folds), *pool]

    @cached_property
    def _folds(self) -> list[np.ndarray]:
        """For each fold, whether it holds out each item. The student reads the texts once, for all folds and labels."""
        if callable(prepare := getattr(self._resources.student, "prepare", None)):
            prepare(self._items)
        return _folds(self._items["group_id"], self._resources.folds)

    def _predicted(self, held_out: np.ndarray, labels: pd.Series) -> pd.DataFrame:
        is_train = ~held_out & labels.notna().to_numpy()
        train = self._items[is_train].assign(label=labels[is_train], weight=1.0)
        return _predicted(self._resources.student, train, self._items[held_out], self._classes)


def training_dynamics(
    resources: Resources, items: pd.DataFrame, labels: pd.Series, classes: Sequence[str]
) -> pd.DataFrame:
    """Record a student's logits of its training items after each epoch on the silver labels.

    The student is `resources.student` if it has `dynamics(train, seed)`, where `train` is items with `label` and
    `weight`. Otherwise it is a logistic regression on the embeddings: one pass of stochastic gradient descent an epoch,
    weighted by class, one class against the rest (with two classes the logits are -z/2 and z/2).

    Args:
        resources: What evidence is computed with.
        items: The items.
        labels: The silver class of each item, by item_id; null where it has none.
        classes: The classes.

    Returns:
        (item_id, epoch from 0) x class, for the items that have a label. The logit of a class that no item is labelled
        with is the lowest of the row.
    """

    def build() -> pd.DataFrame:
        train = items.assign(label=labels, weight=1.0)
        train = train[train["label"].notna()].sort_index()
        if has_dynamics:
            logits = resources.student.dynamics(train, SEED).reindex(columns=list(classes))
            filled: pd.DataFrame = logits.T.fillna(logits.min(axis=1)).T
            return filled
        return _linear_dynamics(
            embeddings(resources, train[list(items.columns)]), train["label"], classes, resources.epochs
        )

    has_dynamics = callable(getattr(resources.student, "dynamics", None))
    learner = (
        [resources.student_key]
        if has_dynamics
        else [resources.encoder_key, resources.encoder.content_key(), str(resources.epochs)]
    )
    if labels.isna().all():
        index = pd.MultiIndex.from_arrays([[], []], names=["item_id", "epoch"])
        return pd.DataFrame(index=index, columns=list(classes), dtype=float)
    determined_by = [*learner, repr(list(classes)), _source(), _digest_of(items, labels)]
    return cached(resources.cache / "evidence", "training_dynamics", determined_by, build)


def _source() -> str:
    return import_path.source_digest("silvertune.evidence.computed")


def _digest_of(items: pd.DataFrame, labels: pd.Series) -> str:
    return content_of(items.assign(label=none_if_null(labels)))


def _folds(groups: pd.Series, folds: int) -> list[np.ndarray]:
    """For each fold, whether it holds out each item; a group is never divided."""
    from sklearn.model_selection import GroupKFold

    number = min(folds, groups.nunique())
    if number < 2:
        if groups.empty:
            return []
        raise UserError(
            f"evidence.folds={folds}: out-of-fold probabilities need two folds of whole groups, and the training pool "
            f"has {groups.nunique()} group; use a filter that does not ask for out_of_fold_probs"
        )
    splitter = GroupKFold(n_splits=number, shuffle=True, random_state=SEED)
    masks = [np.zeros(len(groups), dtype=bool) for _ in range(number)]
    for mask, (_, held_out) in zip(masks, splitter.split(groups, groups=groups.astype(str)), strict=True):
        mask[held_out] = True
    return masks


def _predicted(student: Any, train: pd.DataFrame, items: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """(item_id, view) x class, for the views that have a text."""
    classes_in_train = train["label"].unique()
    if len(classes_in_train) < 2:
        pairs = [(item, view) for view in views_of(items) for item in items.index[items[view].notna()]]
        index = pd.MultiIndex.from_tuples(pairs, names=["item_id", "view"])
        row = (
            [float(name == classes_in_train[0]) for name in classes]
            if len(classes_in_train)
            else [1 / len(classes)] * len(classes)
        )
        return pd.DataFrame([row] * len(pairs), index=index, columns=list(classes))
    probs = student.fit(train, train.iloc[:0], SEED).predict_proba(items).reindex(columns=list(classes), fill_value=0.0)
    normalized: pd.DataFrame = probs.div(probs.sum(axis=1), axis=0)
    return normalized


def _linear_dynamics(vectors: pd.DataFrame, labels: pd.Series, classes: Sequence[str], epochs: int) -> pd.DataFrame:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", alpha=1e-5, learning_rate="constant", eta0=0.5, random_state=SEED)
    sizes = labels.value_counts()
    weight = labels.map(len(labels) / (len(sizes) * sizes)).to_numpy(dtype=float)
    values, order = vectors.to_numpy(dtype=float), np.random.default_rng(SEED)
    parts = []
    for epoch in range(epochs):
        # partial_fit shuffles by the same random_state every time.
        rows = order.permutation(len(labels))
        model.partial_fit(values[rows], labels.to_numpy(dtype=object)[rows], list(classes), weight[rows])
        z = model.decision_function(values)
        logits = pd.DataFrame(np.stack([-z / 2, z / 2], axis=1) if z.ndim == 1 else z, columns=model.classes_)
        logits.index = pd.MultiIndex.from_product([labels.index, [epoch]], names=["item_id", "epoch"])
        parts.append(logits[list(classes)])
    return pd.concat(parts).sort_index()
