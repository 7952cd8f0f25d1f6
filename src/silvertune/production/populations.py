"""All items of some files with what a model says of them; their texts are not kept."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from silvertune.datasets import batches
from silvertune.datasets.mapping import ColumnMapping
from silvertune.errors import UserError
from silvertune.production import command_line, predicting
from silvertune.production.model import LoadedModel, confidence
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
