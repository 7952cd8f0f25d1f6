"""What a sweep consists of while it is going on."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from silvertune.study.job import Job
from silvertune.study.result import Failure
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FinishedJob: TypeAlias = "tuple[Job, Run]"
"""A job that is finished, and the run that has its result."""


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

    def finished(self) -> list[FinishedJob]:
        """The jobs that are finished, with their runs; one that was to be done again counts only if it was."""
        latest = store.latest(self.client, self.experiment)
        replaced = {self.earlier[job.key].info.run_id for job in self.todo if job.key in self.earlier}
        with_runs = [(job, latest[job.key]) for job in self.jobs if job.key in latest]
        return [
            (job, run)
            for job, run in with_runs
            if run.info.status == store.FINISHED and run.info.run_id not in replaced
        ]

    def lost(self, finished: Sequence[FinishedJob], told_of: Set[str]) -> list[Failure]:
        """The jobs that were to be done, are not finished, and of which nobody has said why.

        Args:
            finished: What is finished.
            told_of: Names of the jobs that are known to have failed, or to wait.
        """
        with_outcome = told_of | {job.name for job, _ in finished}
        return [Failure(job.name, self._why_lost(job)) for job in self.todo if job.name not in with_outcome]

    def _why_lost(self, job: Job) -> str:
        query = f"attributes.status = 'FINISHED' and tags.`{store.PARENT}` = '{self.parent}'"
        if any(run.info.run_name == job.name for run in store.runs(self.client, self.experiment, query)):
            return "is finished, but the code or the data differ where it ran, or were edited since the sweep began"
        return "did not finish"
