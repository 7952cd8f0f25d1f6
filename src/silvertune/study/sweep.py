"""A sweep from its command line to its table: check all, skip what is finished, launch, finalise.

Whatever happens in between (a failed job, Ctrl-C, a killed worker), the end is the same: every run has its
final state, failures are listed, and what is finished is compared.
"""

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from silvertune.errors import UserError, WaitingForAnswersError, cause_and_place, check_choice, check_whole_number
from silvertune.llms import answer_store
from silvertune.study import awaited, check, comparing, expand, launchers, overrides, plan, progress, registering
from silvertune.study.console import open_console
from silvertune.study.job import Job, handed_over
from silvertune.study.result import Failure, SweepError, SweepResult, SweepWaitsError, Waiting, in_few_lines
from silvertune.study.state import FinishedJob, Sweep
from silvertune.tracking import disk, lock, processes, runs, store, unlogged

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Launch = Callable[..., Sequence[JobReturn]]


def run(arguments: Sequence[str], *, config: DictConfig, loader: ConfigLoader, launch: Launch) -> SweepResult:
    """Do a sweep.

    Args:
        arguments: The command line's overrides.
        config: The configuration that they compose, without sweeps.
        loader: Hydra's config loader.
        launch: Hydra's launcher: lists of overrides in, what became of each job out.

    Returns:
        Where the sweep is logged, and its finished runs.

    Raises:
        UserError: The configuration or the data are wrong, or the store can't be used.
        SweepError: A run failed.
        SweepWaitsError: No run failed, and some wait for people.
    """
    _check_settings(config)
    overrides.check(arguments)
    output = open_console()
    jobs = expand.expand(arguments, config, loader)
    registering.check(jobs)
    tracking = _with_address(jobs[0].config["tracking"])
    name = _experiment(tracking, config)
    launchers.check(config.hydra.launcher, [job.config for job in jobs])
    if config.mode == "plan":
        answer_store.ask_failures_again(time.time())  # as a start of the sweep would
        _plan(output, jobs, tracking, name, bool(config.resume))
        return SweepResult(store.printable(store.uri(tracking)), name)
    if config.mode == "check":
        result = SweepResult(store.printable(store.uri(tracking)), name)
        if not check.show(output, jobs):
            raise SweepError(replace(result, failures=(Failure("check", "something would fail here"),)))
        return result

    disk.check(tracking)
    client, experiment = store.prepare(tracking, name)
    # Two sweeps that look at once at what is finished, and at who runs, would both do the same.
    with store.in_one_line(store.uri(tracking)), lock.held(tracking, "sweeps"):
        if jobs[0].config["tracking"]["evidence"] is not None:
            registering.evidence_of(client, experiment, jobs[0])  # what it says of its own is said before labelling
        processes.reap(client, experiment, store.say)
        store.bring_home(tracking)
        earlier = store.latest(client, experiment)
        done = {job.key for job in jobs if job.key in earlier and earlier[job.key].info.status == store.FINISHED}
        todo = [job for job in jobs if not (config.resume and job.key in done)]
        parent = _open_parent(client, experiment, jobs, config)
        _adopt(client, parent, [earlier[job.key] for job in jobs if job.key in done])
        study = OmegaConf.merge(config.study, {"references": comparing.references(config, jobs)})
        client.log_text(parent, OmegaConf.to_yaml(study, resolve=True), "study.yaml")
    sweep = Sweep(client, tracking, name, experiment, parent, jobs, todo, earlier)
    counts = f"{len(jobs)} run(s), {len(jobs) - len(todo)} already finished, {len(todo)} to do"
    output.print(f"{name}: {counts}", markup=False)
    with processes.beating(client, parent):
        finished, failures, waiting = _done(sweep, config, output, launch)
    run_ids = {job.name: run.info.run_id for job, run in finished}
    result = SweepResult(store.printable(store.uri(tracking)), name, parent, run_ids, tuple(failures), tuple(waiting))
    if failures:
        raise SweepError(result)
    if waiting:
        raise SweepWaitsError(result)
    return result


def _plan(output: Console, jobs: list[Job], tracking: Mapping[str, Any], name: str, is_resumed: bool) -> None:
    place = store.if_any(tracking, name) if is_resumed else None
    if place is None:
        plan.show(output, jobs, {}, {})
        return
    with store.in_one_line(store.uri(tracking)):
        plan.show(output, jobs, store.latest(*place), awaited.by_run(*place, jobs))


def _done(
    sweep: Sweep, config: DictConfig, output: Console, launch: Launch
) -> tuple[list[FinishedJob], list[Failure], list[Waiting]]:
    """Launch, compare, and give every run its final state; what is finished, what failed, what waits for people."""
    status, failures = store.KILLED, list[Failure]()
    finished: list[FinishedJob] = []
    waiting: list[Waiting] = []
    try:
        try:
            failed, waiting = _launched(sweep, launch)
            failures += failed
            status = store.FINISHED
        finally:  # an interrupt comes through here too: what is finished is still compared
            _check_store(sweep)
            with _store_failures_explained(sweep):
                _settle(sweep)
                finished = sweep.finished()
                if status == store.FINISHED:
                    told_of = {failure.name for failure in failures} | {one.name for one in waiting}
                    failures += sweep.lost(finished, told_of)
            failures += _compared(sweep, finished, config, output)
            failures += _put_to_use(sweep, finished, output)
    except BaseException:
        status = store.KILLED
        raise
    finally:
        if store.answers(store.uri(sweep.tracking)):
            with _store_failures_explained(sweep):
                _print_waiting(sweep, waiting, output)
                _print_failures(sweep, failures)
                if waiting and not failures and status == store.FINISHED:
                    runs.mark_waiting(sweep.client, sweep.parent, f"{len(waiting)} run(s) wait for people")
                else:
                    final = store.FAILED if failures and status == store.FINISHED else status
                    sweep.client.set_terminated(sweep.parent, final)
    return finished, failures, waiting


# ----------------------------------------------------------------------------------------------------- before


def _check_settings(config: DictConfig) -> None:
    check_choice("mode", config["mode"], ("run", "plan", "check"))
    check_choice("on_error", config["on_error"], ("continue", "stop"))
    if config.hydra.job.chdir:
        raise UserError("hydra.job.chdir=true: would make relative paths mean something else in every run; want false")
    if config.hydra.mode != RunMode.MULTIRUN:
        raise UserError(f"hydra.mode={RunMode(config.hydra.mode).name}: every command is a sweep; want MULTIRUN")
    check_whole_number("evaluation.replicates", config.evaluation.replicates, 1)


def _with_address(tracking: Mapping[str, Any]) -> dict[str, Any]:
    """`tracking` with the address that the environment names as `uri`, so that every worker logs to the same store."""
    if tracking["uri"] is None and not store.is_in_dir(tracking):
        address = store.uri(tracking)
        store.say(
            f"tracking.uri={store.printable(address)}: from MLFLOW_TRACKING_URI in the environment; unset that for the "
            f"store in {tracking['dir']}"
        )
        return {**tracking, "uri": address}
    return dict(tracking)


def _experiment(tracking: Mapping[str, Any], config: DictConfig) -> str:
    """The name of the experiment: the configured one, the environment's, that of the study's file, or `silvertune`."""
    if configured := tracking["experiment"] or config.study.name:
        return str(configured)
    if from_environment := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        store.say(f"tracking.experiment={from_environment}: from MLFLOW_EXPERIMENT_NAME in the environment")
        return from_environment
    if os.environ.get("MLFLOW_EXPERIMENT_ID"):
        store.say("MLFLOW_EXPERIMENT_ID in the environment is not used; name the experiment: tracking.experiment=...")
    return _study_file(config) or "silvertune"


def _study_file(config: DictConfig) -> str | None:
    name: str | None = config.hydra.runtime.choices.get("experiments")
    return name


def _swept(config: DictConfig) -> str:
    """What an ad hoc sweep varies: `filter=none,agreement seed=range(5)`."""
    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    return " ".join(str(override.input_line) for override in parsed if override.is_sweep_override())[:200]


def _open_parent(client: "MlflowClient", experiment: str, jobs: list[Job], config: DictConfig) -> str:
    """The sweep's own run: a new one, or that of the same sweep (same jobs) if it is resumed."""
    started = repr(time.time())
    digest = hashlib.sha256(json.dumps(sorted((job.name, job.identity) for job in jobs)).encode()).hexdigest()
    typed = runs.printable_overrides(config.hydra.overrides.task)
    command = hashlib.sha256(json.dumps([typed, *sorted(job.name for job in jobs)]).encode()).hexdigest()
    same = store.runs(client, experiment, f"tags.sweep = '{digest}'") if config.resume else []
    if config.resume and not same:  # the answers that it waits for are data, so that its jobs are others now
        waits = f"tags.command = '{command}' and tags.`{store.STATE}` = '{store.WAITS}'"
        same = store.runs(client, experiment, waits)
    if same:
        tags, resumed = same[-1].data.tags, str(same[-1].info.run_id)
        if same[-1].info.status == store.RUNNING:
            raise UserError(
                f"this study is already running: process {tags.get('pid')} on {tags.get('host')} does it, and the same "
                f"command finds its results when it is done (run {resumed} of experiment {experiment}; if that process "
                "is gone, end the run in MLflow)"
            )
        fresh = {"sweep": digest, "started": started, "stop": "", "error": "", store.STATE: "", store.WAITS_FOR: ""}
        for key, value in {**processes.tags(), **fresh}.items():
            client.set_tag(resumed, key, value)
        client.update_run(resumed, status=store.RUNNING)
        return resumed
    parent: str = client.create_run(
        experiment,
        run_name=_study_file(config) or _swept(config) or jobs[0].name,
        tags={
            "sweep": digest,
            "command": command,
            "runs": str(len(jobs)),
            "started": started,
            **processes.tags(),
            **runs.provenance(),
        },
    ).info.run_id
    client.log_text(parent, "\n".join([*typed, ""]), "overrides.txt")
    return parent


def _adopt(client: "MlflowClient", parent: str, finished: "Sequence[Run]") -> None:
    """Put under this sweep the finished runs whose own sweep was deleted in MLflow."""
    is_gone: dict[str, bool] = {}
    for run in finished:
        sweep_id = run.data.tags.get(store.PARENT, "")
        if sweep_id not in is_gone:
            is_gone[sweep_id] = not _is_active(client, sweep_id)
        if is_gone[sweep_id]:
            client.set_tag(run.info.run_id, store.PARENT, parent)


def _is_active(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


# ----------------------------------------------------------------------------------------------------- during


def _launched(sweep: Sweep, launch: Launch) -> tuple[list[Failure], list[Waiting]]:
    """Launch what is to be done; what went wrong with it, and what waits for people."""
    if not sweep.todo:
        return [], []
    to_launch = []
    for job in sweep.todo:
        settings = {"tracking.parent_run_id": sweep.parent}
        if sweep.tracking["uri"] is not None:
            settings["tracking.uri"] = sweep.tracking["uri"]
        if job.key in sweep.earlier and sweep.earlier[job.key].info.status != store.WAITING:
            settings["retry_of"] = sweep.earlier[job.key].info.run_id
        to_launch.append(expand.with_settings(job, settings))
    failures: list[Failure] = []
    waiting: list[Waiting] = []
    try:
        with handed_over(sweep.todo), progress.shown(sweep.client, sweep.experiment, sweep.parent, len(sweep.todo)):
            returned = launch(to_launch, initial_job_idx=0)
    except UserError:  # the launcher refuses to begin
        raise
    except Exception as error:  # a killed worker takes the launcher's pool down with it
        _check_store(sweep)
        sweep.client.log_text(sweep.parent, traceback.format_exc(), "traceback.txt")
        failures.append(Failure("launcher", cause_and_place(error)[:300]))
    else:
        for job, answer in zip(sweep.todo, returned, strict=True):
            if answer.status == JobStatus.COMPLETED:
                continue
            if isinstance(answer._return_value, WaitingForAnswersError):
                waiting.append(Waiting(job.name, cause_and_place(answer._return_value)))
            else:
                failures.append(Failure(job.name, cause_and_place(answer._return_value)))
    return failures, waiting


def _check_store(sweep: Sweep) -> None:
    """Raise UserError where the store is gone: nothing of what follows could be logged."""
    address = store.uri(sweep.tracking)
    try:
        store.check_answers(address)
    except UserError as error:
        raise UserError(f"{error}; {_what_is_kept(sweep)}") from None


@contextmanager
def _store_failures_explained(sweep: Sweep) -> Iterator[None]:
    """Turn what the store raises into a UserError that names what is full or gone, and where results are kept."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        address = store.printable(store.uri(sweep.tracking))
        words = disk.full_place(error, sweep.tracking) or f"tracking.uri={address}: {store.reason(error)}"
        raise UserError(f"{words}; {_what_is_kept(sweep)}") from None


def _what_is_kept(sweep: Sweep) -> str:
    by_place = unlogged.count(sweep.tracking, {job.identity for job in sweep.todo})
    kept = " and ".join(f"{number} result(s) in {place}" for place, number in by_place.items())
    return f"{f'kept: {kept}; ' if kept else ''}the same command logs what is kept and goes on from there"


def _settle(sweep: Sweep) -> None:
    """No run of the sweep stays RUNNING: its launcher has returned, so whoever worked on it is gone."""
    started = store.runs(sweep.client, sweep.experiment, f"tags.`{store.PARENT}` = '{sweep.parent}'")
    latest = {run.info.run_name: run.info.run_id for run in started}
    for run in started:
        if run.info.status == store.RUNNING:
            processes.kill(sweep.client, run)
        # A run that waited and was started again has nothing that the later one lacks; MLflow can restore it.
        elif run.info.status == store.WAITING and run.info.run_id != latest[run.info.run_name]:
            sweep.client.delete_run(run.info.run_id)


# ------------------------------------------------------------------------------------------------------ after


def _compared(sweep: Sweep, finished: "Sequence[FinishedJob]", config: DictConfig, output: Console) -> list[Failure]:
    """Compare what is finished; why it could not be, if so."""
    try:
        comparing.compare(sweep, finished, config, output)
    except Exception as error:
        with _store_failures_explained(sweep):
            sweep.client.log_text(sweep.parent, traceback.format_exc(), "traceback.txt")
        full = disk.full_place(error, sweep.tracking)
        return [Failure("comparison", full or cause_and_place(error))]
    return []


def _put_to_use(sweep: Sweep, finished: "Sequence[FinishedJob]", output: Console) -> list[Failure]:
    """Tell of models that were tuned on all labels, and register the one that is to be; why it could not be, if so."""
    try:
        registering.finish(sweep, finished, output)
    except Exception as error:
        with _store_failures_explained(sweep):
            sweep.client.log_text(sweep.parent, traceback.format_exc(), "traceback.txt")
        return [Failure("registry", cause_and_place(error))]
    return []


def _print_waiting(sweep: Sweep, waiting: list[Waiting], output: Console) -> None:
    if not waiting:
        return
    table = Table(title="Not in the comparison yet", title_justify="left", header_style="bold")
    for column in ("run", "state"):
        table.add_column(column, overflow="fold")
    for one in waiting:
        table.add_row(escape(one.name), "waits for people")
    output.print(table)
    lines = [f"{one.name}: {one.waits_for}" for one in waiting]
    sweep.client.log_text(sweep.parent, "\n".join([*lines, ""]), "waiting.txt")
    print(
        f"silvertune: {len(waiting)} of {len(sweep.jobs)} run(s) wait for people; the same command goes on when the "
        "answers are there",
        file=sys.stderr,
    )
    for line in lines:
        print(f"  {line}", file=sys.stderr)


def _print_failures(sweep: Sweep, failures: list[Failure]) -> None:
    if not failures:
        return
    lines = [f"{failure.name}: {failure.error}" for failure in failures]
    sweep.client.log_text(sweep.parent, "\n".join([*lines, ""]), "failures.txt")
    print(f"silvertune: {len(failures)} failed (tracebacks are with the runs, as traceback.txt)", file=sys.stderr)
    for line in in_few_lines(failures):
        print(f"  {line}", file=sys.stderr)
