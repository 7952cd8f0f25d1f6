"""Runs that wait for people: what each of them waits for, and how much of it is there by now."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from silvertune import composition
from silvertune.study.job import Job
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Awaited:
    """What a run waits for.

    Attributes:
        place: The file, or the folder of the project, that the answers are awaited in.
        asked: How many items people were asked about.
        missing: How many of them have no answer now.
        words: What the run itself said when it began to wait.
    """

    place: str
    asked: int
    missing: int
    words: str


def by_run(client: "MlflowClient", experiment: str, jobs: list[Job]) -> dict[str, Awaited]:
    """Look up which jobs of a sweep wait for people.

    They are found by their names: answers that came since are data, so that the job of the same name is another now.

    Args:
        client: A client of the store.
        experiment: Id of the experiment.
        jobs: The jobs.

    Returns:
        What each of them waits for, by the run's name.

    Raises:
        UserError: A file of answers has something that it should not have.
    """
    latest = {str(run.info.run_name): run for run in store.runs(client, experiment, "tags.identity != ''")}
    waiting: dict[str, Awaited] = {}
    for job in jobs:
        run = latest.get(job.name)
        if run is None or run.data.tags.get(store.STATE) != store.WAITS or run.info.status != store.WAITING:
            continue
        if run.data.tags.get("data") == job.parts.data.digest:
            waiting[job.name] = _awaited(client, run, job)
    return waiting


def _awaited(client: "MlflowClient", run: "Run", job: Job) -> Awaited:
    words = run.data.tags.get(store.WAITS_FOR, "")
    asked = json.loads(store.text(client, run, store.ASKED) or "{}")
    sources = {source.name: source for _, _, source in composition.labeling_sources(job.config, job.parts)}
    if asked.get("part") not in sources:  # of a run by an earlier version, which did not keep the items
        return Awaited("", 0, 0, words)
    items = job.parts.data.items
    about = items.loc[items.index.isin(asked["item_ids"])]
    estimates = sources[asked["part"]].labeler.estimate(about)
    return Awaited(asked["place"], len(about), round(sum(one.calls for one in estimates.values())), words)
