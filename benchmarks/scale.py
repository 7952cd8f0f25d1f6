"""What a run costs on 10,000 to a million short texts: seconds, CPU seconds and peak memory, by stage.

    python benchmarks/scale.py [--sizes 10000,100000,1000000] [--arms none,confidence,iterated,three_rounds]
                               [--work FOLDER]

A seeded generator writes the texts (Parquet: four classes, groups of 50) and the votes of two annotators (Parquet,
with a confidence; one vote in ten is wrong, more often a doubtful one). Every arm is one run of the command line in a
process of its own: TF-IDF and logistic regression, half of the groups are trained on and half are tested. A last
process predicts all texts with the tuned model, batch by batch. The exponent of growth between two sizes is that of the
CPU seconds, of an arm's whole process and of its filter: 1 is linear. `iterated` with its default settings goes as many
rounds as the labels need, and more texts may show what fewer do not; `three_rounds` is the same filter, doing the same
with any number of texts. Wall seconds depend on what else the machine does. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("0", "1", "2", "3")
"""Those of `task=news`."""
GROUP = 50
"""Texts a group."""
WORDS = 20_000
"""Size of the vocabulary."""
WRONG = 0.1
"""Share of an annotator's votes that are wrong."""
PREDICTED_AT_ONCE = 50_000
THREE_ROUNDS = (
    "filter.iterated.agreed_only=false", "filter.iterated.separation=0", "filter.iterated.rounds=3",
    "filter.iterated.settled=0",
)  # fmt: skip
"""The arm `three_rounds`: the filter `iterated` splits every class and goes three rounds, whatever the labels are."""


def write_data(folder: Path, n: int) -> None:
    """`items.parquet` and `votes.parquet` in a new folder, a part at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghiklmnoprstu"), 3 + k % 6)) for k in range(WORDS)])
    classes = np.array(CLASSES)
    writers: dict[str, Any] = {}
    for start in range(0, n, 100_000):
        size = min(100_000, n - start)
        gold = rng.choice(len(classes), size, p=[0.4, 0.3, 0.2, 0.1])
        # Zipf's law; a third of the words is of the text's class.
        rank = (WORDS ** rng.random((size, 14)) - 1).astype(int)
        of_class = rng.random((size, 14)) < 0.35
        rank = np.where(of_class, 200 + (rank % 300) * len(classes) + gold[:, None], rank)
        lengths = rng.integers(6, 15, size)
        texts = [" ".join(row[:length]) for row, length in zip(words[rank], lengths, strict=True)]
        ids = [f"t{number:07d}" for number in range(start, start + size)]
        groups = [f"g{number // GROUP:06d}" for number in range(start, start + size)]
        items = pa.table({"id": ids, "source": groups, "text": texts, "gold": classes[gold]})
        sure = rng.beta(6, 2, (size, 2)).round(3)
        wrong = rng.random((size, 2)) < WRONG * 4 * (1 - sure)
        other = (gold[:, None] + rng.integers(1, len(classes), (size, 2))) % len(classes)
        label = np.where(wrong, other, gold[:, None])
        votes = pa.table(
            {
                "item_id": np.repeat(ids, 2),
                "annotator": np.tile(["first", "second"], size),
                "label": classes[label].ravel(),
                "confidence": sure.ravel(),
            }
        )
        for name, table in (("items", items), ("votes", votes)):
            if name not in writers:
                writers[name] = pq.ParquetWriter(folder / f"{name}.parquet", table.schema)
            writers[name].write_table(table)
    for writer in writers.values():
        writer.close()


class Stages:
    """Wall seconds, CPU seconds and peak resident memory by stage of this process; time in two stages counts once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}
        self._open: list[str] = ["rest"]
        self._since = (time.perf_counter(), time.process_time())
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._look()
            time.sleep(0.01)

    def _look(self) -> None:
        stage = self._open[-1]
        self.peak_mb[stage] = max(self.peak_mb.get(stage, 0.0), resident_mb())

    def _turn(self) -> None:
        """Count the time since the last turn for the stage that is open."""
        now, stage = (time.perf_counter(), time.process_time()), self._open[-1]
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now[0] - self._since[0]
        self.cpu[stage] = self.cpu.get(stage, 0.0) + now[1] - self._since[1]
        self._since = now
        self._look()

    def of(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time and memory counted for a stage."""

        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._turn()
            self._open.append(stage)
            try:
                return function(*arguments, **named)
            finally:
                self._turn()
                self._open.pop()

        return timed

    def is_open(self, stage: str) -> bool:
        return stage in self._open

    def result(self) -> dict[str, dict[str, float]]:
        self._turn()
        return {"seconds": self.seconds, "cpu_seconds": self.cpu, "peak_mb": self.peak_mb}


def resident_mb() -> float:
    """Memory that this process holds now; where that can't be read, the most that it has held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return most_mb()
    return pages * resource.getpagesize() / 2**20


def most_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def run_arm(folder: Path, arm: str) -> dict[str, Any]:
    """One run of the command line in this process, with its stages."""
    import mlflow  # noqa: F401  (imports are not what is measured)
    import sklearn.linear_model  # noqa: F401

    from silvertune import __main__, composition, runner
    from silvertune.evaluation import comparison, label_quality, metrics
    from silvertune.labelers.recorded import Recorded
    from silvertune.labelers.source import LabelSource
    from silvertune.models.tfidf_logreg import TfidfLogreg, TfidfPredictor
    from silvertune.reports import labels_browser
    from silvertune.tracking import runs

    stages = Stages()
    for place, name, stage in (
        (composition, "load_data", "dataset"),
        (Recorded, "__init__", "votes"),
        (LabelSource, "votes", "votes"),
        (LabelSource, "labels", "aggregation"),
        (runner, "decide", "filter"),
        (TfidfPredictor, "predict_proba", "predict"),
        (metrics, "evaluate", "evaluate"),
        (metrics, "by_rule", "evaluate"),
        (label_quality, "report", "evaluate"),
        (comparison, "compare", "compare"),
        (labels_browser, "page", "page of labels"),
        (runs, "log_config", "log"),
        (runs, "log_data", "log"),
        (runs, "keep_result", "log"),
        (runs, "log_kept", "log"),
    ):
        setattr(place, name, stages.of(stage, getattr(place, name)))
    fit = TfidfLogreg.fit

    def fit_in_stage(*arguments: Any) -> Any:
        """The student of a filter's evidence is of the stage `filter`."""
        return fit(*arguments) if stages.is_open("filter") else stages.of("tune", fit)(*arguments)

    TfidfLogreg.fit = fit_in_stage  # type: ignore[method-assign,assignment]
    os.chdir(folder)
    filters = ["filter=iterated", *THREE_ROUNDS] if arm == "three_rounds" else [f"filter={arm}"]
    sys.argv = [
        "silvertune", *filters, "dataset=text_jsonl", f"dataset.path={folder / 'items.parquet'}",
        "dataset.group=source", "task=news", "labeler=recorded", "labeler.annotators=[first,second]",
        f"labeler.path={folder / 'votes.parquet'}", "aggregation=majority", "model=tfidf_logreg",
        "evaluation=holdout", "evaluation.test_fraction=0.5", "evaluation.decision=mean",
        f"tracking.dir={folder / 'mlruns'}", f"tracking.experiment={arm}",
    ]  # fmt: skip
    __main__.main()
    return stages.result()


def predict_all(folder: Path) -> dict[str, Any]:
    """Predict all texts with the tuned model, batch by batch, into one Parquet file."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from silvertune.models import saved

    path = next((folder / "mlruns").rglob(str(saved.IN_MLFLOW_MODEL)))
    predictor = saved.load(path)
    stages, writer, peaks = Stages(), None, []
    predict = stages.of("predict", predictor.predict_proba)
    for batch in pq.ParquetFile(folder / "items.parquet").iter_batches(PREDICTED_AT_ONCE, columns=["id", "text"]):
        table = batch.to_pandas().astype(object)
        items = pd.DataFrame({"text": table["text"].to_numpy()}, index=pd.Index(table["id"], name="item_id"))
        predicted = pa.Table.from_pandas(predict(items).reset_index())
        writer = writer or pq.ParquetWriter(folder / "all_predictions.parquet", predicted.schema)
        writer.write_table(predicted)
        peaks.append(resident_mb())
    assert writer is not None
    writer.close()
    half = len(peaks) // 2
    return {**stages.result(), "first_half_mb": max(peaks[: half + 1]), "second_half_mb": max(peaks[half:])}


def in_a_process(*arguments: str) -> dict[str, Any]:
    """The JSON object of a run of this script; its peak and CPU seconds are those of the whole process."""
    started = time.perf_counter()
    command = [sys.executable, __file__, *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: failed")
    return {**json.loads(process.stdout.splitlines()[-1]), "wall": time.perf_counter() - started}


def measured(sizes: list[int], arms: list[str], work: Path) -> dict[int, dict[str, Any]]:
    """Size -> arm -> what it took."""
    results: dict[int, dict[str, Any]] = {}
    for n in sizes:
        folder = work / str(n)
        write_data(folder, n)
        results[n] = {}
        for arm in [*arms, "predict_all"]:
            result = in_a_process("--measure", arm, "--work", str(folder))
            results[n][arm] = result
            print(f"{n:>9,} {arm:<12} {result['wall']:7.1f} s  {result['cpu']:7.1f} CPU s  {result['most_mb']:6.0f} MB")
            for stage, seconds in result["seconds"].items():
                cpu, peak = result["cpu_seconds"][stage], result["peak_mb"][stage]
                print(f"{'':10}  {stage:<14} {seconds:7.1f} s  {cpu:7.1f} CPU s  {peak:6.0f} MB", flush=True)
    return results


def summary(results: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The last line of the output."""
    sizes = sorted(results)

    def table(key: str) -> dict[str, dict[str, float]]:
        return {str(n): {arm: round(of[key], 2) for arm, of in results[n].items()} for n in sizes}

    def exponents(cpu_seconds: Callable[[dict[str, Any]], float | None]) -> dict[str, dict[str, float]]:
        by_sizes: dict[str, dict[str, float]] = {}
        for low, high in pairwise(sizes):
            by_arm = {arm: (cpu_seconds(results[low][arm]), cpu_seconds(of)) for arm, of in results[high].items()}
            by_sizes[f"{low}-{high}"] = {
                arm: round(log(more / less) / log(high / low), 3)
                for arm, (less, more) in by_arm.items()
                if less and more
            }
        return by_sizes

    last = results[sizes[-1]]
    return {
        "sizes": sizes,
        "seconds": table("wall"),
        "cpu_seconds": table("cpu"),
        "peak_mb": table("most_mb"),
        "stages": {
            arm: {key: {name: round(value, 2) for name, value in of[key].items()} for key in ("cpu_seconds", "peak_mb")}
            for arm, of in last.items()
        },
        "exponents": exponents(lambda result: result["cpu"]),
        "exponents_of_the_filter": exponents(lambda result: result["cpu_seconds"].get("filter")),
        "predict_half_mb": [round(last["predict_all"][key]) for key in ("first_half_mb", "second_half_mb")],
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "load": [round(value, 1) for value in os.getloadavg()],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--arms", default="none,confidence,iterated,three_rounds")
    parser.add_argument("--work", help="folder to work in; default: a temporary one")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        before = time.process_time()
        folder = Path(arguments.work)
        result = predict_all(folder) if arguments.measure == "predict_all" else run_arm(folder, arguments.measure)
        print(json.dumps({**result, "cpu": time.process_time() - before, "most_mb": most_mb()}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        sizes = sorted(int(size) for size in arguments.sizes.split(","))
        results = measured(sizes, arguments.arms.split(","), Path(arguments.work or temporary))
    print(json.dumps(summary(results)))


if __name__ == "__main__":
    main()
