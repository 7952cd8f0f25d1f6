"""A run in MLflow: open while it works, then FINISHED, FAILED or KILLED, or SCHEDULED while it waits for people."""

import hashlib
import importlib.metadata
import json
import logging
import re
import shutil
import subprocess
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from silvertune.errors import UserError, WaitingForAnswersError, cause_and_place
from silvertune.evaluation import findings, labels_digest
from silvertune.evaluation.result_tables import ResultTables
from silvertune.interfaces import PredictorTraits
from silvertune.items import Data
from silvertune.runner import Result
from silvertune.tracking import disk, processes, result_files, store, unlogged
from silvertune.tracking.mlflow_names import mlflow_names

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LONGEST_PARAM = 6000
_PASSWORD = re.compile(r"(?<=://)(?P<user>[^\s:/@]*):[^\s/]+(?=@)")
"""The user and the password of a URL, which ends at the last @ before the path: `p@ss` is a password too."""
PACKAGES = ("silvertune", "hydra-core", "mlflow", "numpy", "pandas", "scikit-learn", "torch", "transformers", "peft")


def sweep_of(tracking: Mapping[str, Any]) -> "tuple[MlflowClient, Run]":
    """The sweep that a job belongs to.

    Args:
        tracking: The configuration's `tracking`; `parent_run_id` is the id of the sweep's own run.

    Returns:
        A client of the store, and the sweep's own run.

    Raises:
        UserError: A run of this sweep could not be logged, or is not wanted any more; nothing has been computed.
    """
    address = store.uri(tracking)
    disk.check(tracking)
    store.check_answers(address)
    with store.in_one_line(address):
        client = store.client(tracking)
        sweep = client.get_run(tracking["parent_run_id"])
    if sweep.info.lifecycle_stage != "active":
        raise UserError(f"not started: the sweep's own run {sweep.info.run_id} was deleted in MLflow")
    if sweep.data.tags.get("stop"):
        raise UserError("not started: on_error=stop, and another job failed")
    return client, sweep


@contextmanager
def open_run(
    client: "MlflowClient",
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    parent: str | None,
    tracking: Mapping[str, Any],
) -> Iterator[str]:
    """A new run, by id.

    Leaving it marks it FINISHED; an exception marks it FAILED and logs its traceback; an interrupt marks it KILLED.
    WaitingForAnswersError marks it as waiting (`mark_waiting`).

    Args:
        client: A client of the store.
        experiment: Id of the experiment.
        name: The run's name.
        tags: The run's tags.
        parent: Id of the sweep's own run.
        tracking: The configuration's `tracking`.

    Raises:
        UserError: The store or the disk failed in the block; says which, and where a computed result is kept.
    """
    address = store.uri(tracking)
    with store.in_one_line(address):
        nested = {store.PARENT: parent} if parent else {}
        all_tags = {**tags, **nested, **processes.tags(), **provenance()}
        run_id = client.create_run(experiment, run_name=name, tags=all_tags).info.run_id
    try:
        yield run_id
        with store.in_one_line(address):
            # A run that was given up by its sweep (and perhaps done again) meanwhile stays given up.
            if client.get_run(run_id).info.status == store.RUNNING:
                client.set_terminated(run_id, store.FINISHED)
    except BaseException as error:
        explained = _explained(error, tracking, tags.get("identity", ""))
        if not store.answers(address):
            pass
        elif isinstance(explained, WaitingForAnswersError):
            with store.in_one_line(address):
                asked = {"part": explained.part, "place": explained.place, "item_ids": explained.item_ids}
                client.log_text(run_id, json.dumps(asked), store.ASKED)
                mark_waiting(client, run_id, str(explained))
        else:
            _mark_failed(client, run_id, error, explained)
        if explained is not error:
            raise explained from None
        raise


def mark_waiting(client: "MlflowClient", run_id: str, waits_for: str) -> None:
    """Mark a run as one that waits for people.

    Args:
        client: A client of the store.
        run_id: The run's id.
        waits_for: What it waits for, and what to do.
    """
    client.set_tag(run_id, store.STATE, store.WAITS)
    client.set_tag(run_id, store.WAITS_FOR, waits_for[:5000])
    client.set_terminated(run_id, store.WAITING)


def _mark_failed(client: "MlflowClient", run_id: str, error: BaseException, explained: BaseException) -> None:
    """Log why a run failed; a store that refuses even that must not hide why."""
    steps: tuple[Callable[[], Any], ...] = (
        lambda: client.set_tag(run_id, "error", cause_and_place(explained)[:500]),
        lambda: client.log_text(run_id, "".join(traceback.format_exception(error)), "traceback.txt"),
        lambda: client.set_terminated(run_id, store.FAILED if isinstance(error, Exception) else store.KILLED),
    )
    for step in steps:
        try:
            step()
        except Exception as refused:
            logging.getLogger(__name__).debug("run %s: %s", run_id, refused)


def _explained(error: BaseException, tracking: Mapping[str, Any], identity: str) -> BaseException:
    """A UserError for a full disk or a store that fails, with where the result is kept; else `error` itself."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if not isinstance(error, Exception):
        return error
    full = disk.full_place(error, tracking)
    address = store.uri(tracking)
    if full is None and not isinstance(error, (MlflowException, SQLAlchemyError)):
        return error
    words = full or f"tracking.uri={store.printable(address)}: could not be logged to ({store.reason(error)})"
    kept = unlogged.count(tracking, {identity}) if identity else {}
    where = f"; the result is kept in {next(iter(kept))}, and the same command logs it" if kept else ""
    return UserError(words + where)


def log_config(client: "MlflowClient", run: str, config: Mapping[str, Any], overrides: list[str]) -> None:
    """Log the resolved configuration as flat params, and whole, with the overrides, as artifacts.

    Passwords in URLs are left out.

    Args:
        client: A client of the store.
        run: The run's id.
        config: The resolved configuration.
        overrides: What the job was given on the command line.
    """
    from mlflow.entities import Param

    config = _without_passwords(config)
    client.log_text(run, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), "config.yaml")
    client.log_text(run, yaml.safe_dump(printable_overrides(overrides)), "overrides.yaml")
    shown = {key: value for key, value in config.items() if key not in ("tracking", "study", "experiments")}
    flat = list(_flat(shown))
    names = mlflow_names(key for key, _ in flat)
    params = [Param(name, _short(value)) for name, (_, value) in zip(names, flat, strict=True)]
    for start in range(0, len(params), 100):
        client.log_batch(run, params=params[start : start + 100])


def printable_overrides(overrides: Iterable[str]) -> list[str]:
    """Command-line overrides without the passwords of URLs."""
    return [_PASSWORD.sub(r"\g<user>:***", text) for text in overrides]


def _without_passwords(node: Any) -> Any:
    if isinstance(node, str):
        return _PASSWORD.sub(r"\g<user>:***", node)
    if isinstance(node, Mapping):
        return {key: _without_passwords(value) for key, value in node.items()}
    return [_without_passwords(value) for value in node] if isinstance(node, list | tuple) else node


def log_data(client: "MlflowClient", run: str, data: Data, name: str, source: str) -> None:
    """The dataset as MLflow's own dataset input."""
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    with warnings.catch_warnings():
        # It says that a local path may be two kinds of local path.
        warnings.simplefilter("ignore", UserWarning)
        dataset = from_pandas(data.items, source=source, name=name, digest=data.digest[:36])
    inputs = [DatasetInput(dataset._to_mlflow_entity(), tags=[InputTag("mlflow.data.context", "training")])]
    try:
        client.log_inputs(run, datasets=inputs)
    except MlflowException:
        # MLflow looks whether the dataset is in its table before it inserts it: of two jobs that start together, one
        # fails. By now the other has inserted it.
        client.log_inputs(run, datasets=inputs)


def keep_result(
    result: Result,
    data: Data,
    tracking: Mapping[str, Any],
    run_id: str,
    *,
    classes: Sequence[str],
    identity: str,
    title: str,
    started: float,
    save_models: Callable[[Path], None] | None,
) -> Path:
    """Write all that a run found to disk, before any of it is logged.

    Args:
        result: What the run computed.
        data: What it was computed from.
        tracking: The configuration's `tracking`.
        run_id: The run's id.
        classes: The task's classes.
        identity: What decides the result, as a digest.
        title: The title of its figures and pages.
        started: `time.perf_counter()` at the run's start.
        save_models: Writes the tuned models into a folder; None: they are not kept.

    Returns:
        The folder, for `log_kept`.
    """

    def write(folder: Path) -> unlogged.Summary:
        run_findings = result_files.write(result, data, classes, folder, title, tracking)
        if save_models is not None:
            save_models(folder / "model")
        tags = {
            "findings": ", ".join(dict.fromkeys(finding.name for finding in run_findings)),
            "mlflow.note.content": findings.markdown(run_findings),  # the UI shows it with the run
        }
        tags |= {**_tuned_on(result), "labels_digest": labels_digest.digest(_trained_on(result))}
        if result.alarms:
            tags["alarms"] = "; ".join(result.alarms)[:5000]
        counted = {"alarms": float(len(result.alarms))} if result.students else {}
        wall = {"wall_s": time.perf_counter() - started}
        return unlogged.Summary(tags, {**result.report.metrics, **result.labels.metrics, **counted, **wall})

    return unlogged.keep(tracking, identity, run_id, write)


def _trained_on(result: Result) -> pd.DataFrame:
    return result.tables.read("decisions", ["fold", "train_label", "weight"])


def _tuned_on(result: Result) -> dict[str, str]:
    """What the students' figures depend on besides the configuration, such as the precision that the machine has."""
    by_student = [PredictorTraits.of(student.predictor).ran_on for student in result.students]
    names = sorted({name for ran_on in by_student for name in ran_on})
    values = {name: dict.fromkeys(ran_on[name] for ran_on in by_student if name in ran_on) for name in names}
    bases = dict.fromkeys(PredictorTraits.of(student.predictor).base_model for student in result.students)
    base_model = {"base_model": ", ".join(filter(None, bases))} if any(bases) else {}
    return {**base_model, **{f"tuned_on.{name}": ", ".join(values[name]) for name in names}}


def result_kept_earlier(client: "MlflowClient", tracking: Mapping[str, Any], identity: str) -> Path | None:
    """The folder of the same result, if an earlier run computed it and could not log it."""
    from mlflow.exceptions import MlflowException

    def is_at_work(run_id: str) -> bool:
        try:
            return bool(client.get_run(run_id).info.status == store.RUNNING)
        except MlflowException:  # the store has no such run: the result was computed for another
            return False

    kept = unlogged.find(tracking, identity, is_at_work)
    if kept is not None:
        result_files.remove_page_of_other_settings(kept / "artifacts", tracking)
    return kept


@contextmanager
def tables_of(
    client: "MlflowClient", tracking: Mapping[str, Any], run_id: str, identity: str
) -> Iterator[ResultTables]:
    """Tables on disk for a run while the block runs; a run that fails logs its votes.

    They may have been paid for, and show why it failed.

    Args:
        client: A client of the store.
        tracking: The configuration's `tracking`.
        run_id: The run's id.
        identity: What decides the result, as a digest.

    Yields:
        The tables, empty.
    """
    with unlogged.tables(tracking, identity, run_id) as tables:
        try:
            yield tables
        except Exception:
            with suppress(Exception), tempfile.TemporaryDirectory() as folder:  # why the run failed counts more
                file = Path(folder) / "votes.parquet"
                tables.write("votes", file)
                client.log_artifact(run_id, str(file))
            raise


def log_kept(client: "MlflowClient", run_id: str, kept: Path) -> None:
    """Log a result that is on disk, and then remove it there.

    Artifacts come first and metrics last, so that a run with metrics has its artifacts.

    Args:
        client: A client of the store.
        run_id: The run that it is logged to.
        kept: The result's folder.
    """
    summary = unlogged.summary(kept)
    client.log_artifacts(run_id, str(kept / "artifacts"))
    computed_by = kept.name.rpartition("-")[2]
    tags = summary.tags if computed_by == run_id else {**summary.tags, "computed_by": computed_by}
    for name, value in tags.items():
        client.set_tag(run_id, name, value)
    log_metrics(client, run_id, summary.metrics)
    shutil.rmtree(kept)


def log_metrics(client: "MlflowClient", run: str, metrics: Mapping[str, float]) -> None:
    """Metrics in one batch, those that are undefined (NaN) left out."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    names = mlflow_names(metrics)
    client.log_batch(
        run,
        metrics=[
            Metric(name, value, now, 0) for name, value in zip(names, metrics.values(), strict=True) if value == value
        ],
    )


@cache
def provenance() -> dict[str, str]:
    """Tags that say what code ran: git commit and whether it was changed since, versions of the packages."""
    tags = {}
    for package in PACKAGES:
        try:
            tags[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if (commit := _git("rev-parse", "HEAD")) is not None:
        tags["git_commit"] = commit
        tags["git_dirty"] = str(bool(_git("status", "--porcelain"))).lower()
    return tags


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (
        text if len(text) <= LONGEST_PARAM else f"sha256:{hashlib.sha256(text.encode()).hexdigest()} (see config.yaml)"
    )
