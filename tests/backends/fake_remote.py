"""A fake provider of tuning jobs, in a folder that processes share, with an append-only log of what it was asked.

Nothing is tuned remotely: a job's result is what the model's own `fit` gives.
"""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from silvertune.backends.remote import JobStatus, RefusedError
from silvertune.errors import UserError
from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet

PRICE_USD = 2.0


class FakeJobs:
    """Jobs that end after so many looks.

    folder: shared by all processes. looks: how often a job is looked at before it ends. ends: how it ends, or a state
    that is none. fault: what goes wrong while a job is submitted.
    """

    def __init__(self, folder: Path | str, *, looks: int = 2, ends: str = "succeeded", fault: str = "") -> None:
        self.folder, self.looks, self.ends, self.fault = Path(folder), looks, ends, fault
        self.folder.mkdir(parents=True, exist_ok=True)

    def log(self, **what: Any) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(what) + "\n")

    def logged(self) -> list[dict[str, Any]]:
        file = self.folder / "log.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def jobs_by_label(self) -> Counter[str]:
        return Counter(entry["label"] for entry in self.logged() if entry["did"] == "made")

    def billed_usd(self) -> float:
        return sum(entry["usd"] for entry in self.logged() if entry["did"] == "billed")

    def check(self, model: Any) -> None:
        if not hasattr(model, "fit"):
            raise UserError(f"backend: the fake provider can't tune model {type(model).__name__}")

    def probe(self, model: Any) -> list[CheckResult]:
        return [CheckResult("the fake provider answers", True)]

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate:
        return Estimate(calls=float(len(sets)), dollars=PRICE_USD * len(sets))

    def stage(self, model: Any, training_set: TrainingSet, label: str) -> None:
        self.log(did="staged", label=label)

    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        if self.fault == "refused":
            raise RefusedError("quota is 0")
        if self.fault == "lost before":
            raise ConnectionError("the answer is lost")
        self.log(did="made", label=label)
        if self.fault == "lost after":
            raise ConnectionError("the answer is lost")
        if self.fault == "503 after":
            raise RuntimeError("503 Service Unavailable")
        return f"jobs/{label}"

    def find(self, label: str) -> str | None:
        return f"jobs/{label}" if label in self.jobs_by_label() else None

    def status(self, job: str) -> JobStatus:
        if self.fault == "unavailable once" and not any(entry["did"] == "unavailable" for entry in self.logged()):
            self.log(did="unavailable")
            raise ConnectionError("UNAVAILABLE")
        self.log(did="looked", job=job)
        if sum(entry == {"did": "looked", "job": job} for entry in self.logged()) <= self.looks:
            return JobStatus("running")
        if self.ends not in ("succeeded", "failed", "cancelled"):
            return JobStatus("undecided", message=self.ends)
        with suppress(FileExistsError):  # a job is billed once, whoever looks at the same moment
            (self.folder / f"billed-{job.rpartition('/')[2]}").touch(exist_ok=False)
            self.log(did="billed", job=job, usd=PRICE_USD / 2)
        return JobStatus(self.ends, PRICE_USD / 2, "as told")  # type: ignore[arg-type]

    def collect(self, job: str, model: Any, training_set: TrainingSet) -> Predictor:
        predictor: Predictor = model.fit(training_set.train, training_set.validation, training_set.seed)
        return predictor

    def cancel(self, job: str) -> None:
        self.log(did="cancelled", job=job)
