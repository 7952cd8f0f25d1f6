"""Running the command line in tests: a small study of made-up tables, and helpers to start it and look at its runs."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from tests import forked

VISITS = ["Screening", "Baseline", "Week 4", "Week 8", "Follow-up"]
CHECKS = ["Informed consent", "Vital signs", "ECG", "Blood count", "Questionnaire", "Adverse events"]
DRUGS = ["alfacept", "betaxol", "gammavir", "deltamab"]

STUDY = """# @package _global_
defaults:
  - override /evaluation: kfold
study:
  arms:
    base: [labeler=recorded, 'labeler.annotators=[machine]', filter=none, model=none]
    all: [labeler=recorded, 'labeler.annotators=[machine]', filter=none]
    confident: [labeler=recorded, 'labeler.annotators=[machine]', filter=confidence]
    expert: [labeler=expert, filter=none]
  references: [expert, all]
  seeds: 2
evaluation: {folds: 3, replicates: 200}
dataset:
  path: tables.jsonl
  annotations:
    machine: {column: machine, confidence: sure, values: {0: other, 1: soe}}
"""


def write_tables(folder: Path, groups: int = 9, per_group: int = 8) -> Path:
    """`tables.jsonl`: made-up schedules and dose tables with gold, and a machine's labels, 85% of them right."""
    rng = random.Random(0)
    rows = []
    for group in range(groups):
        for number in range(per_group):
            soe = number < 3
            if soe:
                visits = rng.sample(VISITS, 4)
                body = [[check, *rng.choices(["X", ""], k=4)] for check in rng.sample(CHECKS, 4)]
                cells = [["Procedure", *visits], *body]
            else:
                cells = [
                    ["Dose level", "mg per day"],
                    *[[rng.choice(DRUGS), str(rng.randint(1, 90))] for _ in range(3)],
                ]
            wrong = rng.random() < 0.15
            rows.append(
                {
                    "id": f"g{group}t{number}",
                    "nct": f"g{group}",
                    "rows": cells,
                    "page_text": f"Page {number}",
                    "title_or_context": "Schedule" if soe else "Doses",
                    "text_below": None,
                    "label": int(soe),
                    "machine": int(soe != wrong),
                    "sure": round(rng.uniform(0.5, 0.8) if wrong else rng.uniform(0.6, 1.0), 3),
                }
            )
    path = folder / "tables.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_study(folder: Path, text: str = STUDY) -> None:
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "experiments" / "tiny.yaml").write_text(text, encoding="utf-8")


def start(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """`silvertune ...` in `folder`, as a new interpreter and its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "silvertune", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    """A shell's background jobs, and all that they start, ignore SIGINT unless they are told otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def status_of(main: Callable[[list[str]], None], *arguments: object) -> int | str | None:
    """The exit status of a program's `main`, in this process; a text where it says one line."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    return 0


def silvertune(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`silvertune ...` in `folder`, until it ends."""
    return forked.run("silvertune.__main__", folder, arguments, {**os.environ, **environment})


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")


def runs(folder: Path, experiment: str) -> list[Run]:
    """The runs of the experiment that have a parent, in the order in which they were started."""
    found = client(folder)
    there = found.get_experiment_by_name(experiment)
    if there is None:
        return []
    every = found.search_runs([there.experiment_id], max_results=1000, order_by=["attributes.start_time ASC"])
    return [run for run in every if "mlflow.parentRunId" in run.data.tags]


def count(folder: Path, status: str | None = None) -> int:
    """How many runs with a parent there are, read past MLflow: its client would join in creating the database."""
    database = folder / "mlruns" / "mlflow.db"
    query = "SELECT COUNT(*) FROM runs JOIN tags USING (run_uuid) WHERE key = 'mlflow.parentRunId'"
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            where, values = (" AND status = ?", (status,)) if status else ("", ())
            return int(connection.execute(query + where, values).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not there yet, or busy


def parents(folder: Path, experiment: str) -> list[Run]:
    found = client(folder)
    there = found.get_experiment_by_name(experiment)
    assert there is not None
    return [run for run in found.search_runs([there.experiment_id]) if "mlflow.parentRunId" not in run.data.tags]


def names(found: Sequence[Run]) -> list[str]:
    return [str(run.info.run_name) for run in found]
