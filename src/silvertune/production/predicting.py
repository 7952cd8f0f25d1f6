"""Predicts the rows of files, batch by batch, in one process or several."""

import gc
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune import import_path
from silvertune.datasets import batches
from silvertune.datasets.batches import Batch
from silvertune.datasets.mapping import ColumnMapping
from silvertune.errors import UserError
from silvertune.production import deferring, output
from silvertune.production.deferring import Cascade
from silvertune.production.model import LoadedModel, from_folder
from silvertune.production.parts import IS_THERE, Counts, Parts
from silvertune.votes import prob_columns

STATUSES = ("ok", "abstained", "no_text", "bad_row", "deferred", "no_answer")
"""`abstained`: too unsure for `Abstain`; `no_text`: no view has any; `bad_row`: can't be read, `reason` says why;
`deferred`: the model is not sure enough, and no labeler is asked; `no_answer`: it gave no label, `reason` says why."""
Abstain = tuple[float, float] | float | None
"""When no label is given. A pair, of two classes: the probabilities of the positive class above and below which none is
given. A number: no class has a probability of so much. 0-1; None: one is always given."""
WAITING = 2
"""So many batches more than there are processes are in memory at once."""


@dataclass(frozen=True)
class Work:
    """What is done with every batch.

    Attributes:
        folder: The model's folder.
        name: What the model is called.
        digest: The model's digest.
        mapping: How views are made of columns.
        abstain: When no label is given.
        out: The output file.
        cascade: From which confidence on the model answers, and who answers else; None: it answers all.
    """

    folder: Path
    name: str
    digest: str
    mapping: ColumnMapping
    abstain: Abstain
    out: Path
    cascade: Cascade | None = None

    def part_name(self, batch: Batch, number: int, first: int) -> str:
        """The name of a batch's part: the same for the same rows, model and settings, and for no others.

        Args:
            batch: The batch.
            number: Of the batch, over all files.
            first: The number of its first row, over all files.
        """
        settings = [
            import_path.source_digest("silvertune"), self.digest, asdict(self.mapping), self.abstain,
            asdict(output.form_of(self.out)), sorted(batch.fields), batch.digest, first,
            self.cascade and (self.cascade.threshold, self.cascade.labeler_digest),
        ]  # fmt: skip
        return f"{number:08d}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]}"


def look_at_new_objects_alone() -> None:
    """Have Python's garbage collection leave out the libraries and the model: they stay, and looking costs a fifth."""
    gc.collect()
    gc.freeze()


def columns_of(model: LoadedModel, cascade: Cascade | None) -> output.Columns:
    """The columns of a file of predictions of a model, of a cascade where there is one."""
    answered_by = () if cascade is None else ("answered_by",)
    return output.Columns(("id", "status", "label", *answered_by), model.prob_columns)


def predicted(model: LoadedModel, mapping: ColumnMapping, batch: Batch, first: int, abstain: Abstain) -> pd.DataFrame:
    """Predict the rows of a batch.

    Args:
        model: The model.
        mapping: How its views are made of columns.
        batch: The rows.
        first: The number of the first row, for rows without ids.
        abstain: When no label is given.

    Returns:
        A row a row: `id`, `status` (of `STATUSES`), `label`, `prob_columns` of the model (0-1 or NaN), `reason`.
    """
    return _predicted(model, mapping, batch, first, abstain)[0]


def _predicted(
    model: LoadedModel, mapping: ColumnMapping, batch: Batch, first: int, abstain: Abstain
) -> tuple[pd.DataFrame, Mapping[str, Sequence[str | None]]]:
    """What `predicted` returns, and the rows' texts by view."""
    columns, bad_rows = batch.columns()
    texts = mapping.texts(columns, batch.fields, first)
    bad_rows = {**texts.bad_rows, **bad_rows}
    index = pd.Index([str(number) for number in range(len(texts.ids))], name="item_id")
    table = model.predict(pd.DataFrame(texts.views, index, dtype=object))
    has_text = table["label"].notna().to_numpy()
    status = np.where(has_text, "ok", "no_text").astype(object)
    unsure = np.zeros(len(table), dtype=bool)
    if isinstance(abstain, tuple):
        positive = str(model.task.positive)
        negative = next(name for name in model.task.classes if name != positive)
        low, high = abstain
        value = table[f"prob:{positive}"].to_numpy()
        unsure = has_text & (value > low) & (value < high)
        table["label"] = np.where(value >= high, positive, negative)
    elif abstain is not None:
        unsure = has_text & (table[prob_columns(model.task.classes)].max(axis=1).to_numpy() < abstain)
    if abstain is not None:
        status[unsure] = "abstained"
        table.loc[~has_text | unsure, "label"] = None
    reason = np.full(len(table), "", dtype=object)
    for number, words in bad_rows.items():
        status[number], reason[number] = "bad_row", words
    label = table["label"].where(table["label"].notna(), "")
    return table.assign(id=texts.ids, status=status, label=label, reason=reason), texts.views


def run(
    model: LoadedModel,
    work: Work,
    inputs: Sequence[tuple[str, str]],
    *,
    processes: int,
    on_batch: Callable[[Counts, int, float], None],
) -> Counts:
    """Predict the rows of files, and write them to the output; go on where an earlier command stopped.

    Args:
        model: The model.
        work: What is done with every batch.
        inputs: Name and kind of each file, in their order.
        processes: How many predict, from 1.
        on_batch: Called with what is predicted, whether it is new (else 0 rows of it are), and the share of the files
            that has been read, 0-1 or NaN.

    Returns:
        What all rows are.

    Raises:
        UserError: An input can't be read, the output is there already, or a process was killed.
        OSError: The output can't be written.
    """
    parts = Parts(work.out, work.out.with_name(f"{work.out.name}.parts"))
    with parts.locked():
        if work.out.exists():
            return _of_earlier_command(work, parts, inputs)
        total, names = Counts(), []
        for name, counts, is_new, consumed in _done(model, work, parts, inputs, processes):
            total.add(counts)
            names.append(name)
            on_batch(counts, counts.rows if is_new else 0, consumed)
        parts.join(names, columns_of(model, work.cascade), total)
    return total


def _of_earlier_command(work: Work, parts: Parts, inputs: Sequence[tuple[str, str]]) -> Counts:
    """What an output holds that this command wrote before it was stopped. UserError where another one wrote it."""
    finished = parts.finished()
    if finished is None or [name for _, name, _, _ in _batches(work, inputs)] != finished[0]:
        raise UserError(f"--out={work.out}: {IS_THERE}")
    parts.remove()
    return finished[1]


Done = tuple[str, Counts, bool, float]


def _done(
    model: LoadedModel, work: Work, parts: Parts, inputs: Sequence[tuple[str, str]], processes: int
) -> Iterator[Done]:
    """Each part, in order: its name, what it holds, whether it is new, and how much of the files has been read."""
    if processes == 1:
        for batch, name, first, consumed in _batches(work, inputs):
            kept = parts.counts(name)
            yield name, kept or _write(model, work, parts, batch, name, first), kept is None, consumed
        return
    # Each has its share of the cores: libraries of numbers would take all of them in every process.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(work,)) as pool:
        waiting: deque[tuple[str, Counts | Future[Counts], float]] = deque()
        try:
            for batch, name, first, consumed in _batches(work, inputs):
                kept = parts.counts(name)
                waiting.append((name, kept or pool.submit(_in_process, parts, batch, name, first), consumed))
                if len(waiting) >= processes + WAITING:
                    yield _answer(waiting.popleft())
            while waiting:
                yield _answer(waiting.popleft())
        except BrokenProcessPool:
            raise UserError(
                f"--processes={processes}: one was killed, perhaps for want of memory; what is predicted is "
                f"kept in {parts.folder}, and the same command goes on, perhaps with fewer"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _answer(entry: tuple[str, "Counts | Future[Counts]", float]) -> Done:
    name, counts, consumed = entry
    if isinstance(counts, Counts):
        return name, counts, False, consumed
    return name, counts.result(), True, consumed


def _batches(work: Work, inputs: Sequence[tuple[str, str]]) -> Iterator[tuple[Batch, str, int, float]]:
    """The batches of all files: with the name of its part, the number of its first row, and the share read by then."""
    sizes = [Path(file).stat().st_size if file != "-" and Path(file).exists() else 0 for file, _ in inputs]
    number, first, before = 0, 1, 0
    for (file, kind), size in zip(inputs, sizes, strict=True):
        for batch in batches.read(file, kind, work.mapping):
            share = (before + batch.consumed * size) / max(sum(sizes), 1)
            yield batch, work.part_name(batch, number, first), first, share
            number, first = number + 1, first + len(batch.numbers)
        before += size


def _write(model: LoadedModel, work: Work, parts: Parts, batch: Batch, name: str, first: int) -> Counts:
    table, views = _predicted(model, work.mapping, batch, first, work.abstain)
    answered_by = {}
    if work.cascade is not None:
        table = deferring.settled(table.reset_index(drop=True), views, model, work.cascade)
        answered_by = {str(name): int(count) for name, count in table["answered_by"].value_counts().items()}
    of_class = table["label"].value_counts().to_dict()
    counts = Counts(
        rows=len(table),
        statuses={str(status): int(count) for status, count in table["status"].value_counts().items()},
        labels={name: int(of_class[name]) for name in model.task.classes if name in of_class},
        first_bad=next(iter(table.loc[table["status"] == "bad_row", "reason"]), ""),
        answered_by=answered_by,
    )
    parts.write(name, output.part(table, output.form_of(work.out), columns_of(model, work.cascade)), counts)
    return counts


_worker: dict[str, Any] = {}
"""The model and the work of this process, where it is one of several."""


def _begin(work: Work) -> None:
    """Load the model in a process of its own, which ends when the one that started it does, even by kill -9."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _worker.update(model=from_folder(work.folder, work.name), work=work)
    look_at_new_objects_alone()


def _in_process(parts: Parts, batch: Batch, name: str, first: int) -> Counts:
    return _write(_worker["model"], _worker["work"], parts, batch, name, first)
