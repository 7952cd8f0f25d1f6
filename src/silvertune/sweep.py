"""A sweep from its command line to its table: check all, skip what is finished, launch, finalise.

Whatever happens in between (a failed job, Ctrl-C, a killed worker), the end is the same: every run has its
final state, failures are listed, and what is finished is compared.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig
from rich.console import Console

from silvertune import composition, expansion, progress
from silvertune.errors import UserError
from silvertune.evaluation import comparison, figures, metrics, tables
from silvertune.expansion import Job
from silvertune.tracking import runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Launch = Callable[..., Sequence[JobReturn]]
NOTES = (
    "Rows are means over the seeds; intervals are 95%, from resamples of groups (protocols), paired for differences.",
    "* simulated: labels by annotators that were made from gold by a documented noise process.",
    "noise: share of training labels that differ from gold, before and after the filter.",
)


@dataclass(frozen=True)
class Failure:
    name: str
    error: str


def run(arguments: Sequence[str], *, config: DictConfig, loader: ConfigLoader, launch: Launch) -> None:
    """Do the sweep that the command line describes. Raises SystemExit(1) if a job failed."""
    _check_settings(config)
    # Piped into a file, there is no terminal to be narrow.
    console = Console() if Console().is_terminal else Console(width=180)
    jobs = expansion.expand(arguments, config, loader)
    tracking = jobs[0].config["tracking"]
    experiment_name = tracking["experiment"] or config.study.name or _study_file(config) or "silvertune"
    _check_launcher(config, tracking)
    if config.mode == "plan":
        _print_plan(console, jobs, _finished_if_any(tracking, experiment_name) if config.resume else {})
        return

    client, experiment = store.prepare(tracking, experiment_name)
    store.reap(client, experiment)
    earlier = _latest(client, experiment)
    todo = [job for job in jobs if not (config.resume and _is_finished(earlier, job))]
    parent = _open_parent(client, experiment, jobs, config, resume=config.resume)
    console.print(
        f"[bold]{experiment_name}[/bold]: {len(jobs)} run(s), {len(jobs) - len(todo)} already finished, "
        f"{len(todo)} to do"
    )
    status, failures = store.FAILED, []
    try:
        failures = _launch(client, experiment, parent, todo, earlier, launch, console)
        status = store.FAILED if failures else store.FINISHED
    except KeyboardInterrupt:
        status = store.KILLED
        raise
    except Exception as error:  # a killed worker takes the launcher's pool down with it
        failures = [Failure("launcher", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")]
    finally:
        _settle(client, experiment, parent)
        failures += _unfinished(client, experiment, todo, failures) if status != store.KILLED else []
        try:
            _compare(client, experiment, experiment_name, parent, jobs, config, console)
        except UserError as error:
            failures.append(Failure("comparison", str(error)))
            status = store.FAILED
        finally:
            _print_failures(console, client, parent, failures)
            client.set_terminated(parent, status if status == store.KILLED or not failures else store.FAILED)
    if failures:
        raise SystemExit(1)


# ----------------------------------------------------------------------------------------------------- before


def _check_settings(config: DictConfig) -> None:
    for key, want in (("mode", ("run", "plan")), ("on_error", ("continue", "stop"))):
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


def _key(job: Job) -> tuple[str, str, str]:
    return job.names["arm"], job.config["variant"] or "", job.identity


def _latest(client: "MlflowClient", experiment: str) -> dict[tuple[str, str, str], "Run"]:
    """The run that counts for each (arm, variant, identity): the newest FINISHED one, else the newest."""
    latest: dict[tuple[str, str, str], Run] = {}
    for found in store.runs(client, experiment, "tags.identity != ''"):
        tags = found.data.tags
        key = tags["arm"], tags.get("variant", ""), tags["identity"]
        if key not in latest or found.info.status == store.FINISHED or latest[key].info.status != store.FINISHED:
            latest[key] = found
    return latest


def _is_finished(earlier: Mapping[tuple[str, str, str], "Run"], job: Job) -> bool:
    return _key(job) in earlier and earlier[_key(job)].info.status == store.FINISHED


def _finished_if_any(tracking: Mapping[str, Any], experiment_name: str) -> dict[tuple[str, str, str], "Run"]:
    """What a plan needs to know, without creating anything."""
    if tracking["uri"] is None and not (Path(tracking["dir"]) / "mlflow.db").is_file():
        return {}
    client = store.client(tracking)
    found = client.get_experiment_by_name(experiment_name)
    return _latest(client, found.experiment_id) if found is not None else {}


def _print_plan(console: Console, jobs: list[Job], earlier: Mapping[tuple[str, str, str], "Run"]) -> None:
    from rich.table import Table

    table = Table(title="plan (nothing was done)", title_justify="left")
    for column in ("run", "labeler", "filter", "fallback", "model", "backend", "would"):
        table.add_column(column, overflow="fold", no_wrap=column == "run")
    calls: dict[str, float] = {}
    for job in jobs:
        finished = _is_finished(earlier, job)
        would = "skip: FINISHED" if finished else "run again" if _key(job) in earlier else "run"
        table.add_row(
            job.name,
            *(job.names[part] for part in ("labeler", "filter", "fallback", "model", "backend")),
            would,
        )
        if not finished:
            parts = composition.build(job.config)
            for name, value in parts.labeler.labeler.estimate(parts.data.items).items():
                calls[name] = max(calls.get(name, 0.0), value)
    console.print(table)
    skipped = sum(_is_finished(earlier, job) for job in jobs)
    console.print(
        f"{len(jobs)} runs: {skipped} finished, {len(jobs) - skipped} to do; "
        f"labelling all items once takes at most {calls.get('calls', 0):.0f} calls and ${calls.get('dollars', 0):.2f}"
    )


# ----------------------------------------------------------------------------------------------------- during


def _open_parent(client: "MlflowClient", experiment: str, jobs: list[Job], config: DictConfig, *, resume: bool) -> str:
    """The sweep's own run: a new one, or that of the same sweep (same jobs) if it is resumed."""
    digest = hashlib.sha256(json.dumps(sorted(map(_key, jobs))).encode()).hexdigest()
    if resume:
        for found in reversed(store.runs(client, experiment, f"tags.sweep = '{digest}'")):
            if found.info.status == store.RUNNING:
                tags = found.data.tags
                raise UserError(f"this sweep is already running: process {tags.get('pid')} on {tags.get('host')}")
            parent: str = found.info.run_id
            client.update_run(parent, status=store.RUNNING)
            for key, value in {**store.process_tags(), "stop": ""}.items():
                client.set_tag(parent, key, value)
            return parent
    parent = client.create_run(
        experiment,
        run_name=_study_file(config) or "sweep",
        tags={"sweep": digest, "runs": str(len(jobs)), **store.process_tags(), **runs.provenance()},
    ).info.run_id
    client.log_text(parent, "\n".join([*config.hydra.overrides.task, ""]), "overrides.txt")
    client.log_dict(parent, expansion.resolved_study(config), "study.yaml")
    return parent


def _launch(
    client: "MlflowClient",
    experiment: str,
    parent: str,
    todo: list[Job],
    earlier: Mapping[tuple[str, str, str], "Run"],
    launch: Launch,
    console: Console,
) -> list[Failure]:
    if not todo:
        return []
    overrides = []
    for job in todo:
        settings = {"tracking.parent_run_id": parent}
        if _key(job) in earlier:
            settings["retry_of"] = earlier[_key(job)].info.run_id
        overrides.append(expansion.with_settings(job, settings))
    with progress.shown(client, experiment, parent, len(todo)):
        returned = launch(overrides, initial_job_idx=0)
    failures = []
    for job, answer in zip(todo, returned, strict=True):
        if answer.status != JobStatus.COMPLETED:
            error = answer._return_value
            prefix = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            failures.append(Failure(job.name, prefix + (str(error).strip().splitlines() or [""])[0]))
    return failures


# ------------------------------------------------------------------------------------------------------ after


def _settle(client: "MlflowClient", experiment: str, parent: str) -> None:
    """No run of the sweep stays RUNNING: its launcher has returned, so whoever worked on it is gone."""
    query = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{parent}'"
    for found in store.runs(client, experiment, query):
        client.set_tag(found.info.run_id, "error", "its process ended without a word (killed?)")
        client.set_terminated(found.info.run_id, store.KILLED)


def _unfinished(client: "MlflowClient", experiment: str, todo: list[Job], failures: list[Failure]) -> list[Failure]:
    """Jobs that have neither finished nor been reported: their worker died, or the launcher gave up before them."""
    told = {failure.name for failure in failures}
    earlier = _latest(client, experiment)
    return [
        Failure(job.name, "did not finish" if _key(job) in earlier else "was not started")
        for job in todo
        if job.name not in told and not _is_finished(earlier, job)
    ]


def _compare(
    client: "MlflowClient",
    experiment: str,
    name: str,
    parent: str,
    jobs: list[Job],
    config: DictConfig,
    console: Console,
) -> None:
    """Compare what is finished, write the differences back to the runs and the tables to the parent, print them."""
    earlier = _latest(client, experiment)
    finished = [earlier[_key(job)] for job in jobs if _is_finished(earlier, job)]
    if not finished:
        return
    measured = [_finished_run(client, found) for found in finished]
    references = list(config.study.references) or _unfiltered(jobs)
    task = composition.build(jobs[0].config).task
    result = comparison.compare(
        measured, references, metrics.scored_classes(task), replicates=config.evaluation.replicates
    )
    for run_id, deltas in result.deltas.items():
        if deltas:
            runs.log_metrics(client, run_id, deltas)
    figure = figures.arms(result.table, references, list(dict.fromkeys(job.names["arm"] for job in jobs)))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        result.table.to_csv(folder / "comparison.csv", index=False)
        page = tables.page(result.table, references, name, figure, NOTES)
        (folder / "comparison.html").write_text(page, encoding="utf-8")
        figure.savefig(folder / "arms.png")
        client.log_artifacts(parent, made)
    for table in tables.terminal(result.table, references, name):
        console.print(table)
    if result.table["simulated"].any():
        console.print(NOTES[1])
    address = store.uri(jobs[0].config["tracking"])
    view = store.offer_view(client, experiment, references)
    server = address if address.startswith("http") else "http://127.0.0.1:5000"
    console.print(f"logged to {address}, experiment {name}, run {parent}", soft_wrap=True, highlight=False)
    if not address.startswith("http"):
        console.print(f"to see it: mlflow ui --backend-store-uri {address}", soft_wrap=True, highlight=False)
    console.print(f"the runs, with the columns that matter: {server}{view}", soft_wrap=True, highlight=False)


def _finished_run(client: "MlflowClient", found: "Run") -> comparison.FinishedRun:
    tags = found.data.tags
    return comparison.FinishedRun(
        run_id=found.info.run_id,
        arm=tags["arm"],
        model=tags["model"],
        variant=tags.get("variant", ""),
        seed=int(tags["seed"]),
        simulated=tags["simulated"] == "true",
        data=tags["data"],
        predictions=runs.predictions_of(client, found.info.run_id),
        metrics=found.data.metrics,
    )


def _unfiltered(jobs: list[Job]) -> list[str]:
    """Without a study, the arms that keep every label are what the others are held against."""
    arms = {job.names["arm"]: job.names["filter"] for job in jobs}
    return [arm for arm, chain in arms.items() if chain == "none"] if len(arms) > 1 else []


def _print_failures(console: Console, client: "MlflowClient", parent: str, failures: list[Failure]) -> None:
    if not failures:
        return
    lines = [f"{failure.name}: {failure.error}" for failure in failures]
    client.log_text(parent, "\n".join([*lines, ""]), "failures.txt")
    print(
        f"silvertune: {len(failures)} failed (tracebacks are with the runs, as traceback.txt)",
        file=sys.stderr,
    )
    for line in lines:
        print(f"  {line}", file=sys.stderr)
