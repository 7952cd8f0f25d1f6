"""What many items cost: memory grows by a stated number of bytes an item, and by no more than the items do."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made
from tests.test_runner import KFOLD, NONE, parts

from silvertune import aggregations, runner, votes
from silvertune.backends.local import Local
from silvertune.datasets.files import load
from silvertune.evaluation import label_quality, metrics, students
from silvertune.evaluation.result_tables import ResultTables
from silvertune.items import Data
from silvertune.labelers.recorded import Recorded
from silvertune.labelers.source import LabelSource
from silvertune.schema import Task

FEW, MANY = 4_000, 8_000
TEXT = 100
"""Characters of each text, all ASCII: as many bytes."""
TASK = Task(name="pets", classes=["other", "cat"], positive="cat")

# Bytes an item, as docs/large-data.md has them: with one text of TEXT characters, and two votes.
READING = {"parquet": 600, "csv": 1200, "jsonl": 1600}
VOTES = 1200
RUN = {"run": 1000, "filter": 400, "label quality": 600, "evaluation": 120}
FOLDS = 4


def table(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    cat = rng.random(n) < 0.4
    return pd.DataFrame(
        {
            "id": [f"item{number:07d}" for number in range(n)],
            "source": [f"source{number // 50:06d}" for number in range(n)],
            "text": [f"{number} {'cat' if is_cat else 'dog'} ".ljust(TEXT, "x") for number, is_cat in enumerate(cat)],
            "gold": np.where(cat, "cat", "other").astype(object),
        }
    )


def write(frame: pd.DataFrame, file: Path) -> str:
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    elif file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_json(file, orient="records", lines=True)
    return str(file)


def read(path: str) -> Data:
    return load(
        TASK, path=path, files={}, id="id", group="source", views={"text": "{text}"}, cells=None, page_text=None,
        caption=None, footnotes=None, captions=True, gold={"column": "gold"}, annotations={},
    )  # fmt: skip


def peak(work: Callable[[], Any]) -> int:
    """Bytes that Python and NumPy hold at most during some work, beyond what they hold before it."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bytes_an_item(work: Callable[[int], Callable[[], Any]]) -> float:
    """The growth of the peak by item, between FEW and MANY items; what all sizes need does not count."""
    few, many = work(FEW), work(MANY)
    few()  # what is kept after the first time is no matter of the items
    return (peak(many) - peak(few)) / (MANY - FEW)


@pytest.mark.parametrize("ending", READING)
def test_reading_needs_no_more_memory_an_item_than_stated(tmp_path: Path, ending: str) -> None:
    def work(n: int) -> Callable[[], Any]:
        return partial(read, write(table(n), tmp_path / f"{n}.{ending}"))

    assert bytes_an_item(work) < READING[ending]


def two_votes(items: pd.DataFrame) -> pd.DataFrame:
    label = items["gold"].to_numpy()
    rows = {"item_id": np.repeat(items["id"].to_numpy(), 2), "label": np.repeat(label, 2)}
    return pd.DataFrame(rows).assign(annotator=["first", "second"] * len(items), confidence=0.75)


def recorded(path: str, item_ids: pd.Index) -> Recorded:
    nothing = votes.table([], TASK.classes)
    return Recorded(TASK, nothing, item_ids, annotators=["*"], path=path, defer_to=None, first_only=False)


def test_recorded_votes_need_no_more_memory_an_item_than_stated(tmp_path: Path) -> None:
    def work(n: int) -> Callable[[], Any]:
        items = table(n)
        return partial(recorded, write(two_votes(items), tmp_path / f"{n}.parquet"), pd.Index(items["id"]))

    assert bytes_an_item(work) < VOTES


class Guess:
    """A student that learns nothing and predicts by the length of the item's number."""

    classes, views = TASK.classes, ("text",)
    largest = 0

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> "Guess":
        return self

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        Guess.largest = max(Guess.largest, len(items))
        cat = items["text"].str.len().to_numpy(dtype=float) % 10 / 10
        index = pd.MultiIndex.from_product([items.index, ["text"]], names=["item_id", "view"])
        return pd.DataFrame({"cat": cat, "other": 1 - cat}, index=index)


def run_of(n: int, folder: Path, folds: int = 2) -> runner.Parts:
    items = table(n)
    data = read(write(items, folder / f"items{n}.parquet"))
    labeler = recorded(write(two_votes(items), folder / f"votes{n}.parquet"), data.items.index)
    source = LabelSource("labeler", tuple(TASK.classes), labeler, partial(aggregations.majority, task=TASK))
    few = replace(KFOLD, folds=folds, replicates=20)
    run = parts(TASK, data=data)
    return replace(run, labeler=source, filters=[NONE], model=Guess(), backend=Local(), evaluation=few)


STAGES = {
    "filter": (runner, "_decide"),
    "label quality": (label_quality, "report"),
    "evaluation": (metrics, "evaluate"),
}


def peaks_of_a_run(run: runner.Parts, monkeypatch: pytest.MonkeyPatch) -> pd.Series:
    """Bytes that a run holds at most beyond what its parts hold, and each stage beyond what is there when it starts."""
    peaks = dict.fromkeys(RUN, 0)

    def watched(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **named: Any) -> Any:
            before, highest = tracemalloc.get_traced_memory()
            peaks["run"] = max(peaks["run"], highest)
            tracemalloc.reset_peak()
            try:
                return function(*arguments, **named)
            finally:
                highest = tracemalloc.get_traced_memory()[1]
                peaks.update({stage: max(peaks[stage], highest - before), "run": max(peaks["run"], highest)})

        return work

    with monkeypatch.context() as patched:
        for stage, (module, name) in STAGES.items():
            patched.setattr(module, name, watched(stage, getattr(module, name)))
        whole = peak(lambda: runner.run(run))
    return pd.Series(peaks | {"run": max(whole, peaks["run"])})


def test_a_run_needs_no_more_memory_an_item_than_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = FEW // 4
    few, many = run_of(n, tmp_path, folds=FOLDS), run_of(3 * n, tmp_path, folds=FOLDS)
    runner.run(few)  # what is kept after the first time is no matter of the items
    by_item = (peaks_of_a_run(many, monkeypatch) - peaks_of_a_run(few, monkeypatch)) / (2 * n)
    assert not (by_item > pd.Series(RUN)).any(), by_item.to_dict()


def test_writing_tables_needs_no_memory_of_the_size_of_the_table(tmp_path: Path) -> None:
    frame = pd.concat([table(MANY)] * 50)
    size = frame.memory_usage(index=False).sum()
    tables = ResultTables(tmp_path)
    assert peak(lambda: tables.add("votes", frame)) < size / 2
    assert peak(lambda: tables.write("votes", tmp_path / "table.parquet")) < size / 2
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), frame.reset_index(drop=True))


def test_a_model_is_never_asked_about_all_of_many_items_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_few = run_of(500, tmp_path)
    at_once = runner.run(of_few)
    monkeypatch.setattr(students, "ITEMS_AT_ONCE", 7)
    Guess.largest = 0
    in_batches = runner.run(of_few)
    assert Guess.largest == 7
    pd.testing.assert_frame_equal(in_batches.predictions, at_once.predictions)
    pd.testing.assert_series_equal(pd.Series(in_batches.report.metrics), pd.Series(at_once.report.metrics))


def test_data_of_every_kind_of_file_are_the_same(tmp_path: Path) -> None:
    one, *others = (read(write(table(300), tmp_path / f"items.{ending}")) for ending in ("parquet", "csv", "jsonl"))
    for other in others:
        pd.testing.assert_frame_equal(one.items, other.items)
        pd.testing.assert_series_equal(one.gold, other.gold)
    assert made.items(2).dtypes.tolist() == [one.items.dtypes.iloc[0]] * 3
