"""The end of a production run: what its model was tuned on is told, and the model is registered with its evidence."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from silvertune.errors import UserError, either
from silvertune.models import licences
from silvertune.reports import labels_browser
from silvertune.study.job import Job
from silvertune.study.state import FinishedJob, Sweep
from silvertune.tracking import registry, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Evidence:
    """The runs that say how good an arm is.

    Attributes:
        run_id: Of the study, or of the one run.
        runs: How many runs of the arm it has; one a seed.
        f1: The mean of their `test/f1`, 0-1.
        data: Digests of the data that they were measured on.
    """

    run_id: str
    runs: int
    f1: float
    data: frozenset[str]


def check(jobs: list[Job]) -> None:
    """Refuse to register what is no model of one production run, before anything is labelled.

    Args:
        jobs: All jobs of the sweep.

    Raises:
        UserError: The sweep has several runs, tests its models, or does not save them.
    """
    tracking = jobs[0].config["tracking"]
    name = tracking["register"]
    if name is None:
        if tracking["evidence"] is not None:
            raise UserError(f"tracking.evidence={tracking['evidence']}: goes with tracking.register=NAME")
        return
    registry.check_names(str(name), tracking["alias"])
    if any(job.config["evaluation"]["split"] != "none" for job in jobs):
        raise UserError(
            f"tracking.register={name}: a model that is used is tuned on all labels; want evaluation=none, "
            "which holds nothing out"
        )
    if len(jobs) > 1:
        raise UserError(
            f"tracking.register={name}: one model is registered, and this sweep has {len(jobs)} runs, such as "
            f"{jobs[0].name} and {jobs[1].name}; want one arm (study.only=[ARM]) and one seed (seed=0)"
        )
    if not tracking["save_models"]:
        raise UserError(f"tracking.register={name}, tracking.save_models=false: there would be no model to register")


def evidence_of(client: "MlflowClient", experiment: str, job: Job) -> Evidence | None:
    """What says how good the job's arm is.

    Args:
        client: A client of the store.
        experiment: Id of the experiment.
        job: The production run.

    Returns:
        That of `tracking.evidence`, or of the newest study in the experiment that has the arm; None if none has.

    Raises:
        UserError: The run that `tracking.evidence` names is not there, or says nothing of this arm.
    """
    from mlflow.exceptions import MlflowException

    run_id = job.config["tracking"]["evidence"]
    if run_id is None:
        runs = [run for run in store.runs(client, experiment, "attributes.status = 'FINISHED'") if _is_of(run, job)]
        parent = runs[-1].data.tags.get(store.PARENT, runs[-1].info.run_id) if runs else None
        return None if parent is None else _evidence(parent, [run for run in runs if _parent(run) == parent])
    try:
        named = client.get_run(str(run_id))
        query = f"attributes.status = 'FINISHED' and tags.`{store.PARENT}` = '{run_id}'"
        children = store.runs(client, named.info.experiment_id, query)
    except MlflowException as error:
        raise UserError(f"tracking.evidence={run_id}: no such run ({store.reason(error)})") from None
    runs = [run for run in [named, *children] if _is_of(run, job)]
    if not runs:
        arms = sorted({run.data.tags["arm"] for run in [named, *children] if "test/f1" in run.data.metrics})
        raise UserError(
            f"tracking.evidence={run_id}: has no tested run of arm {job.names['arm']!r} with "
            f"model={job.names['model']} and task={job.names['task']}; it has {either(arms) or 'no tested run'} "
            "(arm=NAME says which arm this is)"
        )
    return _evidence(str(run_id), runs)


def _is_of(run: "Run", job: Job) -> bool:
    tags = run.data.tags
    return "test/f1" in run.data.metrics and all(tags.get(name) == job.names[name] for name in ("arm", "model", "task"))


def _parent(run: "Run") -> str:
    return str(run.data.tags.get(store.PARENT, run.info.run_id))


def _evidence(run_id: str, runs: "list[Run]") -> Evidence:
    f1 = float(np.mean([run.data.metrics["test/f1"] for run in runs]))
    return Evidence(run_id, len(runs), f1, frozenset(run.data.tags.get("data", "") for run in runs))


def finish(sweep: Sweep, finished: Sequence[FinishedJob], output: Console) -> None:
    """Tell what each model was tuned on and how it is used, and register the one that is to be registered.

    Args:
        sweep: The sweep.
        finished: What of it is finished.
        output: Where it prints.

    Raises:
        UserError: The registry refuses.
    """
    untested = [(job, run) for job, run in finished if job.config["evaluation"]["split"] == "none"]
    if not untested:
        return
    table = Table(title=f"{sweep.name}: tuned on all labels, tested on none", title_justify="left")
    for column in ("run", "items", "kept", "tuned on", "agreement", "alarms"):
        table.add_column(column, justify="left" if column in ("run", "alarms") else "right", overflow="fold")
    for job, run in untested:
        table.add_row(job.name, *_row(run))
    output.print(table, markup=False)
    lines = []
    for job, run in untested:
        address = f"runs:/{run.info.run_id}/{registry.MODEL}"
        if job.config["tracking"]["register"] is not None:
            address, said = _registered(sweep, job, run)
            lines += said
        if store.artifact_on_disk(sweep.client, run, registry.MODEL) or job.config["tracking"]["save_models"]:
            lines += labels_of(sweep, job.name, run)
            lines.append(
                f"to use it: silvertune-predict {shlex.quote(address)}{_store(sweep)} INPUT --out PREDICTIONS.csv"
            )
    output.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def labels_of(sweep: Sweep, name: str, run: "Run") -> list[str]:
    """A line that says where a run's labels can be looked at; none where its page is not on this disk.

    Args:
        sweep: The sweep.
        name: What the run is called in the line.
        run: The run.
    """
    page = store.artifact_on_disk(sweep.client, run, labels_browser.FILE)
    return [] if page is None else [f"to look at the labels of {name}: open {shlex.quote(str(page))} in a browser"]


def _row(run: "Run") -> list[str]:
    metrics = run.data.metrics

    def number(name: str) -> str:
        return f"{metrics[name]:,.0f}" if name in metrics else ""

    alpha = metrics.get("labels/alpha")
    return [
        number("labels/n_pool"),
        f"{metrics['labels/kept_fraction']:.0%}" if "labels/kept_fraction" in metrics else "",
        number("labels/n_train"),
        "one annotator" if alpha is None else f"{alpha:.2f}",
        run.data.tags.get("alarms", ""),
    ]


def _store(sweep: Sweep) -> str:
    """The option that names the store, where it is not the one that the command would look into."""
    if sweep.tracking["uri"]:
        return f" --uri {shlex.quote(store.printable(store.uri(sweep.tracking)))}"
    return "" if str(sweep.tracking["dir"]) == "mlruns" else f" --dir {shlex.quote(str(sweep.tracking['dir']))}"


def _registered(sweep: Sweep, job: Job, run: "Run") -> tuple[str, list[str]]:
    """The address of the registered model, and what to say of it."""
    tracking = job.config["tracking"]
    evidence = evidence_of(sweep.client, sweep.experiment, job)
    tags = _tags(job, run, evidence)
    done = registry.register(sweep.client, run, str(tracking["register"]), tracking["alias"], tags, _description(tags))
    address = f"models:/{done.name}/{done.version}"
    was = f" (version {done.before} before)" if done.before else ""
    alias = f", now {done.name}@{tracking['alias']}{was}" if tracking["alias"] else ""
    lines = [f"{'registered' if done.is_new else 'already registered'} as {address}{alias}"]
    if evidence is None:
        lines.append(
            f"its evidence: none. No tested run of arm {job.names['arm']} with model={job.names['model']} is in "
            f"experiment {sweep.name}: how good this model is, is unknown (tracking.evidence=RUN_ID names a study)"
        )
    else:
        other = "" if evidence.data == {run.data.tags.get("data")} else ", on other data than these"
        lines.append(
            f"its evidence: run {evidence.run_id}: F1 {evidence.f1:.3f}, the mean of {evidence.runs} tested run(s) of "
            f"this arm{other}"
        )
    return f"models:/{done.name}@{tracking['alias']}" if tracking["alias"] else address, lines


def _tags(job: Job, run: "Run", evidence: Evidence | None) -> dict[str, str]:
    """What a registered version says of itself."""
    tags = run.data.tags
    base = tags.get("base_model", "")
    of_evidence: dict[str, str] = {"evidence": "none"}
    if evidence is not None:
        same = evidence.data == {tags.get("data")}
        of_evidence = {
            "evidence": evidence.run_id,
            "evidence.test_f1": f"{evidence.f1:.4f}",
            "evidence.runs": str(evidence.runs),
            "evidence.same_data": str(same).lower(),
        }
    return {
        "task": str(job.config["task"]["name"]),
        "arm": job.names["arm"],
        "model": job.names["model"],
        "simulated": job.names["simulated"],
        "classes": ", ".join(job.parts.task.classes),
        "labels": tags.get("labels_digest", ""),
        "data": tags.get("data", ""),
        "base_model": base or "none",
        "licence": licences.of(base),
        **of_evidence,
    }


def _description(tags: Mapping[str, Any]) -> str:
    shown = "\n".join(f"| {name} | {value} |" for name, value in tags.items() if value)
    return f"Tuned by silvertune on all labels of its arm; tested on none of them.\n\n| | |\n| --- | --- |\n{shown}"
