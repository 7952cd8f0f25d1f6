"""All items of some files with what a model says of them; their texts are not kept."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.datasets import batches
from silvertune.datasets.mapping import ColumnMapping
from silvertune.errors import UserError
from silvertune.production import command_line, predicting
from silvertune.production.model import LoadedModel
from silvertune.schema import Task
from silvertune.votes import prob_columns


@dataclass(frozen=True)
class Population:
    """Predicted items.

    Attributes:
        table: Indexed by item_id, in the order of the files: `label` (None where there is none), `status` (of
            `predicting.STATUSES`), `confidence` (0-1, NaN without a label), `prob:<class>`.
        seconds: What predicting took, with reading.
    """

    table: pd.DataFrame
    seconds: float


def confidence(table: pd.DataFrame, task: Task, threshold: float) -> pd.Series:
    """How sure a model is of each label.

    Of two classes it is the distance of the positive class's probability p from the decision's threshold t, so that it
    is 0.5 where p is t and 1 where p is 0 or 1: (1 + (p - t) / (1 - t)) / 2 from t on, else (1 + (t - p) / t) / 2. With
    t = 0.5 that is the label's probability, as it is for more classes.

    Args:
        table: `label`, and `prob:<class>` (0-1).
        task: The classes.
        threshold: Of the decision, 0-1.

    Returns:
        0-1 in the order of the rows, NaN without a label.
    """
    labelled = table["label"].isin(list(task.classes))
    if task.positive is not None and len(task.classes) == 2:
        p = table[f"prob:{task.positive}"].astype(float)
        is_positive = table["label"] == task.positive
        above = (1 + (p - threshold) / max(1 - threshold, 1e-12)) / 2
        below = (1 + (threshold - p) / max(threshold, 1e-12)) / 2
        surety = above.where(is_positive, below).clip(0, 1)
    else:
        probs = table[prob_columns(task.classes)].to_numpy(dtype=float)
        codes = pd.Categorical(table["label"], categories=list(task.classes)).codes
        surety = pd.Series(probs[np.arange(len(table)), codes], index=table.index)
    return surety.where(labelled)


def predict(model: LoadedModel, mapping: ColumnMapping, inputs: Sequence[tuple[str, str]]) -> Population:
    """Predict all rows of files.

    Args:
        model: The model.
        mapping: How its views are made of columns.
        inputs: Name and kind of each file.

    Returns:
        The items. So many numbers a row are in memory as there are classes, and no text.

    Raises:
        UserError: A file can't be read, or an id is missing or there twice.
    """
    started = time.perf_counter()
    parts, first = [], 1
    for file, kind in inputs:
        for batch in batches.read(file, kind, mapping):
            part = predicting.predicted(model, mapping, batch, first, None)
            parts.append(part[["id", "status", "label", *prob_columns(model.task.classes)]])
            first += len(batch.numbers)
    if not parts:
        raise UserError(f"{inputs[0][0]}: has no rows")
    table = pd.concat(parts, ignore_index=True)
    readable = table[table["status"] != "bad_row"]
    command_line.unique(readable["id"].tolist(), ", ".join(file for file, _ in inputs))
    table = readable.set_index("id").rename_axis("item_id")
    table["label"] = table["label"].astype(object).where(table["status"] == "ok", None)
    table["confidence"] = confidence(table, model.task, float(model.how.threshold))
    return Population(table, time.perf_counter() - started)


def texts(mapping: ColumnMapping, inputs: Sequence[tuple[str, str]], item_ids: Collection[str]) -> pd.DataFrame:
    """The texts of some items, read from the files once more.

    Args:
        mapping: How views are made of columns.
        inputs: Name and kind of each file.
        item_ids: The items.

    Returns:
        Indexed by item_id: `group_id` (the item's own id) and the views.
    """
    wanted, rows, first = set(item_ids), [], 1
    for file, kind in inputs:
        for batch in batches.read(file, kind, mapping):
            read = mapping.texts(batch.columns()[0], batch.fields, first)
            first += len(batch.numbers)
            for number, name in enumerate(read.ids):
                if name in wanted and number not in read.bad_rows:
                    rows.append({"item_id": name, "group_id": name, **{v: t[number] for v, t in read.views.items()}})
    return pd.DataFrame(rows, dtype=object).set_index("item_id")
