"""A sweep from its command line to its table: check all, skip what is finished, launch, finalise.

Whatever happens in between (a failed job, Ctrl-C, a killed worker), the end is the same: every run has its
final state, failures are listed, and what is finished is compared.
"""

import hashlib
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from silvertune import composition
from silvertune.errors import UserError, cause_and_place
from silvertune.evaluation import comparison, metrics
from silvertune.reports import figures, study_report
from silvertune.study import check, expand, plan, progress
from silvertune.study.job import Job, hand_over
from silvertune.tracking import runs, store
from silvertune.tracking.finished import read

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Launch = Callable[..., Sequence[JobReturn]]


@dataclass(frozen=True)
class Sweep:
    """What is going on: the jobs, those of them that are to be done, and where they are logged.

    name, experiment: of the MLflow experiment, and its id. parent: id of the sweep's own run.
    earlier: the run that counted for each job before this sweep began.
    """

    client: "MlflowClient"
    name: str
    experiment: str
    parent: str
    jobs: list[Job]
    todo: list[Job]
    earlier: "Mapping[store.Key, Run]"

    def finished(self) -> "list[tuple[Job, Run]]":
        """The jobs that are finished, with their runs; one that was to be done again counts only if it was."""
        latest = store.latest(self.client, self.experiment)
        old = {self.earlier[job.key].info.run_id for job in self.todo if job.key in self.earlier}
        found = [(job, latest[job.key]) for job in self.jobs if job.key in latest]
        return [(job, run) for job, run in found if run.info.status == store.FINISHED and run.info.run_id not in old]


@dataclass(frozen=True)
class Failure:
    name: str
    error: str


def run(arguments: Sequence[str], *, config: DictConfig, loader: ConfigLoader, launch: Launch) -> None:
    """Do the sweep that the command line describes. Raises SystemExit(1) if a job failed."""
    _check_settings(config)
    # Piped into a file, there is no terminal to be narrow.
    console = Console() if Console().is_terminal else Console(width=240)
    jobs = expand.expand(arguments, config, loader)
    tracking = jobs[0].config["tracking"]
    name = tracking["experiment"] or config.study.name or _study_file(config) or "silvertune"
    _check_launcher(config, tracking)
    if config.mode == "plan":
        plan.show(console, jobs, store.latest_if_any(tracking, name) if config.resume else {})
        return
    if config.mode == "check":
        if not check.show(console, jobs):
            raise SystemExit(1)
        return

    client, experiment = store.prepare(tracking, name)
    store.reap(client, experiment)
    earlier = store.latest(client, experiment)
    done = {job.key for job in jobs if job.key in earlier and earlier[job.key].info.status == store.FINISHED}
    todo = [job for job in jobs if not (config.resume and job.key in done)]
    parent = _open_parent(client, experiment, jobs, config)
    study = OmegaConf.merge(config.study, {"references": _references(config, jobs)})
    client.log_text(parent, OmegaConf.to_yaml(study, resolve=True), "study.yaml")
    sweep = Sweep(client, name, experiment, parent, jobs, todo, earlier)
    console.print(f"{name}: {len(jobs)} run(s), {len(jobs) - len(todo)} already finished, {len(todo)} to do")

    status, failures = store.KILLED, []
    try:
        try:
            failures += _launched(sweep, launch)
            status = store.FINISHED
        finally:  # an interrupt comes through here too: what is finished is still compared
            _settle(sweep)
            failures += _compared(sweep, config, console)
    except BaseException:
        status = store.KILLED
        raise
    finally:
        _print_failures(sweep, failures)
        client.set_terminated(parent, store.FAILED if failures and status == store.FINISHED else status)
    if failures:
        raise SystemExit(1)


# ----------------------------------------------------------------------------------------------------- before


def _check_settings(config: DictConfig) -> None:
    for key, want in (("mode", ("run", "plan", "check")), ("on_error", ("continue", "stop"))):
        if config[key] not in want:
            raise UserError(f"{key}={config[key]}: want {' or '.join(want)}")
    if config.evaluation.replicates < 1:
        raise UserError(f"evaluation.replicates={config.evaluation.replicates}: want a number from 1")


def _check_launcher(config: DictConfig, tracking: Mapping[str, Any]) -> None:
    """Workers on other machines can't reach a file on this one."""
    target = str(config.hydra.launcher["_target_"])
    local = ("basic_launcher", "joblib_launcher")
    address = store.uri(tracking)
    if not any(name in target for name in local) and address.startswith("sqlite:"):
        raise UserError(
            f"hydra/launcher={target.split('.')[-1]} starts jobs on other machines, and tracking.uri={address} is a "
            "file on this one: want http(s)://... or postgresql://..."
        )


def _study_file(config: DictConfig) -> str | None:
    name: str | None = config.hydra.runtime.choices.get("experiments")
    return name


def _swept(config: DictConfig) -> str:
    """What an ad hoc sweep varies: `filter=none,agreement seed=range(5)`."""
    given = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    return " ".join(str(override.input_line) for override in given if override.is_sweep_override())[:200]


def _open_parent(client: "MlflowClient", experiment: str, jobs: list[Job], config: DictConfig) -> str:
    """The sweep's own run: a new one, or that of the same sweep (same jobs) if it is resumed."""
    digest = hashlib.sha256(json.dumps(sorted((job.name, job.identity) for job in jobs)).encode()).hexdigest()
    same = store.runs(client, experiment, f"tags.sweep = '{digest}'") if config.resume else []
    if same:
        tags, resumed = same[-1].data.tags, str(same[-1].info.run_id)
        if same[-1].info.status == store.RUNNING:
            raise UserError(f"this sweep is already running: process {tags.get('pid')} on {tags.get('host')}")
        client.update_run(resumed, status=store.RUNNING)
        for key, value in {**store.process_tags(), "stop": "", "error": ""}.items():
            client.set_tag(resumed, key, value)
        return resumed
    parent: str = client.create_run(
        experiment,
        run_name=_study_file(config) or _swept(config) or jobs[0].name,
        tags={"sweep": digest, "runs": str(len(jobs)), **store.process_tags(), **runs.provenance()},
    ).info.run_id
    client.log_text(parent, "\n".join([*config.hydra.overrides.task, ""]), "overrides.txt")
    return parent


# ----------------------------------------------------------------------------------------------------- during


def _launched(sweep: Sweep, launch: Launch) -> list[Failure]:
    """Launch what is to be done; what went wrong with it."""
    if not sweep.todo:
        return []
    overrides = []
    for job in sweep.todo:
        settings = {"tracking.parent_run_id": sweep.parent}
        if job.key in sweep.earlier:
            settings["retry_of"] = sweep.earlier[job.key].info.run_id
        overrides.append(expand.with_settings(job, settings))
        hand_over(job)
    failures = []
    try:
        with progress.shown(sweep.client, sweep.experiment, sweep.parent, len(sweep.todo)):
            returned = launch(overrides, initial_job_idx=0)
    except Exception as error:  # a killed worker takes the launcher's pool down with it
        sweep.client.log_text(sweep.parent, traceback.format_exc(), "traceback.txt")
        failures.append(Failure("launcher", cause_and_place(error)[:300]))
    else:
        for job, answer in zip(sweep.todo, returned, strict=True):
            if answer.status != JobStatus.COMPLETED:
                failures.append(Failure(job.name, cause_and_place(answer._return_value)))
    _settle(sweep)
    told = {failure.name for failure in failures} | {job.name for job, _ in sweep.finished()}
    return failures + [Failure(job.name, "did not finish") for job in sweep.todo if job.name not in told]


def _settle(sweep: Sweep) -> None:
    """No run of the sweep stays RUNNING: its launcher has returned, so whoever worked on it is gone."""
    query = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{sweep.parent}'"
    for found in store.runs(sweep.client, sweep.experiment, query):
        store.kill(sweep.client, found)


# ------------------------------------------------------------------------------------------------------ after


def _compared(sweep: Sweep, config: DictConfig, console: Console) -> list[Failure]:
    """Compare what is finished; why it could not be, if so."""
    try:
        _compare(sweep, config, console)
    except Exception as error:
        sweep.client.log_text(sweep.parent, traceback.format_exc(), "traceback.txt")
        return [Failure("comparison", cause_and_place(error))]
    return []


def _compare(sweep: Sweep, config: DictConfig, console: Console) -> None:
    """Write the differences back to the runs and the tables to the parent; print them, and where they are."""
    finished = sweep.finished()
    if not finished:
        return
    client, references = sweep.client, _references(config, sweep.jobs)
    result = comparison.compare(
        [read(client, found) for _, found in finished],
        references,
        metrics.scored_classes(composition.task_of(sweep.jobs[0].config["task"])),
        replicates=config.evaluation.replicates,
    )
    for run_id, deltas in result.deltas.items():
        if deltas:
            runs.log_metrics(client, run_id, deltas)
    drawn = figures.styles([job.names["arm"] for job in sweep.jobs])
    with tempfile.TemporaryDirectory() as made:
        study_report.write(Path(made), result, references, sweep.name, drawn)
        client.log_artifacts(sweep.parent, made)
    study_report.show(console, result, references, sweep.name)
    address = store.uri(sweep.jobs[0].config["tracking"])
    view = store.offer_view(client, sweep.experiment, references)
    server = address if address.startswith("http") else "http://127.0.0.1:5000"
    lines = [f"logged to {address}, experiment {sweep.name}, run {sweep.parent}"]
    lines += [] if address.startswith("http") else [f"to see it: mlflow ui --backend-store-uri {address}"]
    lines += [f"the runs, with the columns that matter: {server}{view}"]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _references(config: DictConfig, jobs: list[Job]) -> list[str]:
    """The study's; without a study, the arms that keep every label are what the others are held against."""
    if config.study.references:
        return list(config.study.references)
    arms = {job.names["arm"]: job.names for job in jobs}
    plain = [arm for arm, names in arms.items() if names["filter"] == names["fallback"] == "none" != names["model"]]
    return plain if len(arms) > 1 else []


def _print_failures(sweep: Sweep, failures: list[Failure]) -> None:
    if not failures:
        return
    lines = [f"{failure.name}: {failure.error}" for failure in failures]
    sweep.client.log_text(sweep.parent, "\n".join([*lines, ""]), "failures.txt")
    print(f"silvertune: {len(failures)} failed (tracebacks are with the runs, as traceback.txt)", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)
