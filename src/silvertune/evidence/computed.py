"""Evidence that has to be computed: embeddings, out-of-fold probabilities, training dynamics.

Each depends on the items and labels of one training pool alone and on no seed of a run: the arms and seeds of a
study that have the same pool share it, on disk (`silvertune.evidence.cache`; embeddings in the encoder's own store).
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
"""Of the folds and of the student: the same in every run, so that the runs of a study share the evidence."""


@dataclass(frozen=True)
class Means:
    """With what evidence is computed: the config's `evidence` and `encoder`, made.

    encoder, student: the objects; the student has `fit(train, validation, seed)` as a local model has, and may have
        `dynamics(train, seed)`, which gives `training_dynamics` (below) as far as it was trained.
    encoder_key, student_key: digests of what decides what they give (`silvertune.identity.of_part`).
    folds: of `out_of_fold_probs`. epochs: of `training_dynamics`, where the student has none of its own.
    calibration: how many gold labels of the pool are granted; 0 is none.
    cache: folder where computed evidence is kept.
    """

    encoder: Encoder
    encoder_key: str
    student: Any
    student_key: str
    folds: int
    epochs: int
    calibration: int
    cache: Path


def embeddings(means: Means, items: pd.DataFrame) -> pd.DataFrame:
    """Indexed like `items`, float32 columns 0..d-1: the mean over the item's views, of unit length.

    An item without a view to read is all zeros. Each text is embedded once: the encoder keeps it.
    """
    views = views_of(items)
    texts = list(dict.fromkeys(text for view in views for text in items[view].dropna()))
    if not texts:
        return pd.DataFrame(np.zeros((len(items), 1), dtype=np.float32), index=items.index)
    vectors = means.encoder.embed(texts, means.cache)
    place = pd.Index(texts)
    total = np.zeros((len(items), vectors.shape[1]), dtype=np.float32)
    for view in views:
        there = items[view].notna().to_numpy()
        total[there] += vectors[place.get_indexer(pd.Index(items.loc[there, view]))]
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return pd.DataFrame(np.divide(total, length, out=total, where=length > 0), index=items.index)


def out_of_fold(means: Means, items: pd.DataFrame, labels: pd.Series, classes: Sequence[str]) -> pd.DataFrame:
    """Indexed by (item_id, view), one column a class, rows sum to 1: by students that never saw the item's group.

    labels: silver, indexed by item_id, of some of the items; the others are predicted too. The groups are dealt to
    `means.folds` folds (as many as there are groups, if fewer). Where there is nothing to learn from, the classes are
    equally likely; where the others have one class only, that one is certain.
    Raises UserError if all items are of one group.
    """

    def build() -> pd.DataFrame:
        ordered = items.sort_index()
        given = labels.reindex(ordered.index)
        parts = []
        for held_out in _folds(ordered["group_id"], means.folds):
            train = ordered[~held_out & given.notna()]
            train = train.assign(label=given[train.index], weight=1.0)
            parts.append(_predicted(means.student, train, ordered[held_out], classes))
        return pd.concat(parts)

    if items.empty:
        index = pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"])
        return pd.DataFrame(index=index, columns=list(classes), dtype=float)
    deciding = [means.student_key, str(means.folds), repr(list(classes)), _source(), _about(items, labels)]
    return cached(means.cache / "evidence", "out_of_fold", deciding, build)


def out_of_fold_probs(means: Means, items: pd.DataFrame, labels: pd.Series, classes: Sequence[str]) -> pd.DataFrame:
    """Indexed like `items`, one column a class, rows sum to 1: the mean of `out_of_fold` over the item's views.

    Where there is nothing to read or to learn from, the classes are equally likely.
    """
    even = pd.DataFrame(1 / len(classes), index=items.index, columns=list(classes))
    if labels.isna().all():
        return even
    mean = out_of_fold(means, items, labels, classes).groupby(level="item_id").mean()
    even.loc[mean.index] = mean
    return even


def training_dynamics(means: Means, items: pd.DataFrame, labels: pd.Series, classes: Sequence[str]) -> pd.DataFrame:
    """Indexed by (item_id, epoch from 0), one column a class: a student's logits after each epoch on the silver labels.

    Of the items that have a label. By the student's own `dynamics(train, seed)`, if it has that: `train` is items
    with `label` and `weight`, and a class that it never saw may be missing (its logit is then the row's lowest). Else
    by logistic regression on the embeddings, one pass of stochastic gradient descent an epoch, class-weighted, one
    against the rest (with two classes the logits are -z/2 and z/2).
    """

    def build() -> pd.DataFrame:
        train = items.assign(label=labels, weight=1.0)
        train = train[train["label"].notna()].sort_index()
        if own:
            logits = means.student.dynamics(train, SEED).reindex(columns=list(classes))
            filled: pd.DataFrame = logits.T.fillna(logits.min(axis=1)).T
            return filled
        return _linear_dynamics(embeddings(means, train[list(items.columns)]), train["label"], classes, means.epochs)

    own = callable(getattr(means.student, "dynamics", None))
    learner = [means.student_key] if own else [means.encoder_key, means.encoder.content_key(), str(means.epochs)]
    if labels.isna().all():
        index = pd.MultiIndex.from_arrays([[], []], names=["item_id", "epoch"])
        return pd.DataFrame(index=index, columns=list(classes), dtype=float)
    deciding = [*learner, repr(list(classes)), _source(), _about(items, labels)]
    return cached(means.cache / "evidence", "training_dynamics", deciding, build)


def _source() -> str:
    return import_path.source_digest("silvertune.evidence.computed")


def _about(items: pd.DataFrame, labels: pd.Series) -> str:
    return content_of(items.assign(label=none_if_null(labels)))


def _folds(groups: pd.Series, folds: int) -> list[np.ndarray]:
    """Which items each fold holds out; whole groups."""
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
    found = [np.zeros(len(groups), dtype=bool) for _ in range(number)]
    for mask, (_, held_out) in zip(found, splitter.split(groups, groups=groups.astype(str)), strict=True):
        mask[held_out] = True
    return found


def _predicted(student: Any, train: pd.DataFrame, items: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """(item_id, view) x class, of the views that can be read."""
    there = train["label"].unique()
    if len(there) < 2:
        pairs = [(item, view) for view in views_of(items) for item in items.index[items[view].notna()]]
        index = pd.MultiIndex.from_tuples(pairs, names=["item_id", "view"])
        row = [float(name == there[0]) for name in classes] if len(there) else [1 / len(classes)] * len(classes)
        return pd.DataFrame([row] * len(pairs), index=index, columns=list(classes))
    probs = student.fit(train, train.iloc[:0], SEED).predict_proba(items).reindex(columns=list(classes), fill_value=0.0)
    normed: pd.DataFrame = probs.div(probs.sum(axis=1), axis=0)
    return normed


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
        found = pd.DataFrame(np.stack([-z / 2, z / 2], axis=1) if z.ndim == 1 else z, columns=model.classes_)
        found.index = pd.MultiIndex.from_product([labels.index, [epoch]], names=["item_id", "epoch"])
        parts.append(found[list(classes)])
    return pd.concat(parts).sort_index()
