"""What a sweep consists of while it is going on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from silvertune.study.job import Job
from silvertune.study.result import Failure, SweepResult, Waiting
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Sweep:
    """The jobs, those of them that are to be done, and where they are logged.

    Attributes:
        client: A client of the store.
        tracking: The configuration's `tracking`, with the store's address as `uri`.
        name: Name of the MLflow experiment.
        experiment: Its id.
        parent: Id of the sweep's own run.
        jobs: All jobs.
        todo: Those that are to be done.
        earlier: The run that counted for each job before this sweep began.
    """

    client: "MlflowClient"
    tracking: Mapping[str, Any]
    name: str
    experiment: str
    parent: str
    jobs: list[Job]
    todo: list[Job]
    earlier: "Mapping[store.Key, Run]"

    def finished(self) -> "list[tuple[Job, Run]]":
        """The jobs that are finished, with their runs; one that was to be done again counts only if it was."""
        latest = store.latest(self.client, self.experiment)
        replaced = {self.earlier[job.key].info.run_id for job in self.todo if job.key in self.earlier}
        with_runs = [(job, latest[job.key]) for job in self.jobs if job.key in latest]
        return [
            (job, run)
            for job, run in with_runs
            if run.info.status == store.FINISHED and run.info.run_id not in replaced
        ]

    def result(self, failures: Sequence[Failure], waiting: Sequence[Waiting] = ()) -> SweepResult:
        """What is given back to Python."""
        run_ids = {job.name: run.info.run_id for job, run in self.finished()}
        address = store.printable(store.uri(self.tracking))
        return SweepResult(address, self.name, self.parent, run_ids, tuple(failures), tuple(waiting))
