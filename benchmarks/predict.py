"""From labels to predictions of a million short texts: tune on all labels, register, predict all. Seconds and memory.

    python benchmarks/predict.py [--sizes 100000,1000000] [--repeats 2] [--processes 1] [--work FOLDER]

The texts and votes are those of `benchmarks/scale.py`. A production run (`evaluation=none`, TF-IDF and logistic
regression) tunes one model on the largest size and registers it. Then `silvertune-predict` and a bare loop predict the
texts of each size from a CSV, in turns, each in a process of its own: the loop is `pandas.read_csv` in chunks,
`pipeline.predict_proba` of the same fitted pipeline, and `to_csv` of id, label and probabilities. What is timed begins
when libraries are imported and the model is loaded. Of the repeats the quickest counts, by CPU seconds. Memory is the
most that the process ever held. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from scale import most_mb, write_data

AT_ONCE = 10_000
"""Rows of a chunk, in both."""
NAME = "topics"


def tune(folder: Path, work: Path) -> None:
    """The production run, as a user types it."""
    overrides = [
        "dataset=text_jsonl", f"dataset.path={folder / 'items.parquet'}", "dataset.group=source", "dataset.gold=null",
        "task=news", "labeler=recorded", "labeler.annotators=[first,second]",
        f"labeler.path={folder / 'votes.parquet'}", "aggregation=majority", "filter=none", "model=tfidf_logreg",
        "evaluation=none", "evaluation.decision=mean", f"tracking.dir={work / 'mlruns'}",
        "tracking.experiment=topics", f"tracking.register={NAME}",
    ]  # fmt: skip
    sys.argv = ["silvertune", *overrides]
    from silvertune import __main__

    __main__.main()


def as_csv(folder: Path) -> Path:
    """The texts as a CSV."""
    import pyarrow.csv
    import pyarrow.parquet

    file = folder / "items.csv"
    if not file.exists():
        pyarrow.csv.write_csv(pyarrow.parquet.read_table(folder / "items.parquet", columns=["id", "text"]), file)
    return file


def loaded(work: Path, folder: Path) -> Any:
    from silvertune.production import model

    return model.load(f"models:/{NAME}@champion", {"uri": None, "dir": str(work / "mlruns")}, folder)


def by_silvertune(work: Path, folder: Path, processes: int) -> Callable[[], int]:
    from silvertune.production import predicting

    model = loaded(work, folder)
    out = folder / "silvertune.csv"
    out.unlink(missing_ok=True)
    predicting.look_at_new_objects_alone()  # as the command does
    plan = predicting.Work(model.folder, model.name, model.digest, model.columns, None, out)

    def predict() -> int:
        files = [(str(folder / "items.csv"), "csv")]
        return predicting.run(model, plan, files, processes=processes, on_batch=lambda *shown: None).rows

    return predict


def by_loop(work: Path, folder: Path) -> Callable[[], int]:
    import numpy as np
    import pandas as pd

    pipeline = loaded(work, folder).predictor.pipelines["text"]
    classes = np.asarray(pipeline.classes_)
    out = folder / "loop.csv"

    def predict() -> int:
        rows = 0
        with out.open("w", newline="") as file:
            for chunk in pd.read_csv(folder / "items.csv", chunksize=AT_ONCE):
                probs = pipeline.predict_proba(chunk["text"])
                table = pd.DataFrame(probs.round(6), columns=[f"prob:{name}" for name in classes])
                table.insert(0, "label", classes[probs.argmax(axis=1)])
                table.insert(0, "id", chunk["id"].to_numpy())
                table.to_csv(file, header=rows == 0, index=False)
                rows += len(table)
        return rows

    return predict


def timed(predict: Callable[[], int]) -> dict[str, float]:
    started, cpu = time.perf_counter(), os.times()
    rows = predict()
    wall, after = time.perf_counter() - started, os.times()
    used = sum(after[:4]) - sum(cpu[:4])  # with that of processes that have ended
    return {"rows": rows, "wall": wall, "cpu": used, "most_mb": most_mb()}


def in_a_process(*arguments: str) -> dict[str, Any]:
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: failed")
    print(process.stdout.rpartition("{")[0], end="")
    return {**json.loads(process.stdout.splitlines()[-1]), "whole": time.perf_counter() - started}


def same_labels(folder: Path) -> bool:
    """Whether both have given every text the same label."""
    import pandas as pd

    tables = [pd.read_csv(folder / f"{name}.csv", usecols=["id", "label"]) for name in ("silvertune", "loop")]
    return bool(tables[0].equals(tables[1]))


def measured(sizes: list[int], repeats: int, processes: int, work: Path) -> dict[str, Any]:
    for n in sizes:
        if not (work / str(n)).exists():
            write_data(work / str(n), n)
        as_csv(work / str(n))
    tuning = in_a_process("--measure", "tune", "--work", str(work), "--sizes", str(sizes[-1]))
    result: dict[str, Any] = {"tuned_on": sizes[-1], "tuning": tuning, "predicting": {}}
    for n in sizes:
        best: dict[str, dict[str, Any]] = {}
        for _ in range(repeats):
            for how in ("silvertune", "loop"):
                found = in_a_process(
                    "--measure", how, "--work", str(work), "--sizes", str(n), "--processes", str(processes)
                )
                if how not in best or found["cpu"] < best[how]["cpu"]:
                    best[how] = found
        rates = {how: {key: found["rows"] / found[key] for key in ("wall", "cpu")} for how, found in best.items()}
        result["predicting"][str(n)] = {
            **{how: {key: round(value, 2) for key, value in found.items()} for how, found in best.items()},
            "rows_per_cpu_s": {how: round(rate["cpu"]) for how, rate in rates.items()},
            "of_the_loop_by_cpu": round(rates["silvertune"]["cpu"] / rates["loop"]["cpu"], 3),
            "of_the_loop_by_wall": round(rates["silvertune"]["wall"] / rates["loop"]["wall"], 3),
            "same_labels": same_labels(work / str(n)),
        }
        print(n, result["predicting"][str(n)], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100000,1000000")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--work", help="folder to work in; default: a temporary one")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = sorted(int(size) for size in arguments.sizes.split(","))
    if arguments.measure:
        work = Path(arguments.work)
        folder = work / str(sizes[0])
        if arguments.measure == "tune":
            cpu = time.process_time()
            tune(folder, work)
            print(json.dumps({"cpu": time.process_time() - cpu, "most_mb": most_mb()}))
        else:
            is_ours = arguments.measure == "silvertune"
            predict = by_silvertune(work, folder, arguments.processes) if is_ours else by_loop(work, folder)
            print(json.dumps(timed(predict)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        result = measured(sizes, arguments.repeats, arguments.processes, Path(arguments.work or temporary))
    machine = {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }
    print(json.dumps({**result, "processes": arguments.processes, "machine": machine}))


if __name__ == "__main__":
    main()
