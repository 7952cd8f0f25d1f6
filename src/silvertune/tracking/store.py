"""The MLflow store that a sweep logs to: made once, by one process, before any job starts."""

import json
import logging
import os
import socket
import sqlite3
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from filelock import FileLock

from silvertune.errors import UserError, either

if TYPE_CHECKING:
    import psutil
    from mlflow import MlflowClient
    from mlflow.entities import Run

FINISHED, FAILED, KILLED, RUNNING = "FINISHED", "FAILED", "KILLED", "RUNNING"


def uri(tracking: Mapping[str, Any]) -> str:
    """The tracking URI: the configured one, or the SQLite store in `tracking.dir`, absolute."""
    return tracking["uri"] or f"sqlite:///{quote(str(Path(tracking['dir']).absolute() / 'mlflow.db'))}"


def client(tracking: Mapping[str, Any]) -> "MlflowClient":
    """A client of an existing store."""
    # An inherited run id would make this process log into somebody else's run (mlflow#15713).
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    return MlflowClient(uri(tracking))


def prepare(tracking: Mapping[str, Any], experiment: str) -> tuple["MlflowClient", str]:
    """Create what is missing: database, schema, experiment. Returns a client and the experiment's id.

    Raises UserError if the store can't be reached or written.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    folder = Path(tracking["dir"]).absolute()
    address = uri(tracking)
    if address.startswith("file:") or "://" not in address:
        raise UserError(f"tracking.uri={address}: MLflow keeps no runs in plain files any more; want sqlite:///..., "
                        "postgresql://... or http(s)://...")  # fmt: skip
    _check_answers(address)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two sweeps started together must not both create the schema (hydraflow#245).
        with FileLock(folder / "mlflow.lock"):
            if address.startswith("sqlite:///"):
                with closing(sqlite3.connect(unquote(address.removeprefix("sqlite:///")), timeout=60)) as database:
                    database.execute("PRAGMA journal_mode=WAL")  # readers (the UI) don't block writers
            made = client(tracking)
            found = made.get_experiment_by_name(experiment)
            if found is None:
                local = (folder / "artifacts").as_uri() if tracking["uri"] is None else None
                return made, made.create_experiment(experiment, artifact_location=local)
    except (MlflowException, OSError, sqlite3.Error, SQLAlchemyError, ImportError) as error:
        raise UserError(f"tracking.uri={address}: can't be used ({str(error).splitlines()[0]})") from None
    if found.lifecycle_stage != "active":
        raise UserError(f"tracking.experiment={experiment}: that experiment is deleted; restore it or name another")
    return made, found.experiment_id


def existing(tracking: Mapping[str, Any], experiment: str) -> tuple["MlflowClient", str]:
    """A client and the id of an experiment that is there; creates nothing. Raises UserError if it is not."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    address = uri(tracking)
    path = Path(unquote(address.removeprefix("sqlite:///")))
    if address.startswith("sqlite:///") and not path.is_file():
        raise UserError(f"{path}: there is no such store; name another with --dir or --uri")
    _check_answers(address)
    try:
        made = client(tracking)
        found = made.get_experiment_by_name(experiment)
        if found is None:
            names = [one.name for one in made.search_experiments() if one.name != "Default"]
            raise UserError(f"{experiment}: no such experiment in {address}; there are {either(names) or 'none'}")
    except (MlflowException, OSError, sqlite3.Error, SQLAlchemyError, ImportError) as error:
        raise UserError(f"{address}: can't be used ({str(error).splitlines()[0]})") from None
    return made, found.experiment_id


def text(client: "MlflowClient", run: "Run", name: str) -> str:
    """A text that was logged with the run; empty if it was not."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as made:
        try:
            return Path(client.download_artifacts(run.info.run_id, name, made)).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            return ""


def _check_answers(address: str) -> None:
    """MLflow's own client tries a server that does not answer for minutes, without a word."""
    if not address.startswith(("http://", "https://")):
        return
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=10).close()
    except urllib.error.HTTPError:
        return  # it answers; what it says of /health is its own business
    except (OSError, ValueError) as error:
        raise UserError(f"tracking.uri={address}: no answer ({error}); is the server running?") from None


def process_tags() -> dict[str, str]:
    """What tells later whether the process that owns a run is still there."""
    import psutil

    return {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "pid_started": str(psutil.Process().create_time()),
    }


def reap(client: "MlflowClient", experiment: str) -> int:
    """Mark as KILLED the runs left RUNNING on this host whose process, or whose sweep's, is gone. Returns how many.

    Workers outlive a sweep that is killed: what they would still finish is about to be done again, so they
    are ended first.
    """
    here = [
        run
        for run in runs(client, experiment, "attributes.status = 'RUNNING'")
        if run.data.tags.get("host") == socket.gethostname()
    ]
    alive = {run.info.run_id for run in here if _process(run.data.tags) is not None}
    orphans = [run for run in here if run.data.tags.get("mlflow.parentRunId", run.info.run_id) not in alive]
    dead = [run for run in here if run.info.run_id not in alive or run in orphans]
    for run in dead:
        kill(client, run)
    return len(dead)


def kill(client: "MlflowClient", run: "Run") -> None:
    """Mark a run as KILLED, and end the process of this host, other than this one, that still works on it."""
    process = _process(run.data.tags) if run.data.tags.get("host") == socket.gethostname() else None
    if process is not None and process.pid != os.getpid():
        process.kill()
        process.wait(10)
    client.set_tag(run.info.run_id, "error", "its process ended without a word (killed?)")
    client.set_terminated(run.info.run_id, KILLED)


Key = tuple[str, str]
"""Arm and identity: by what a run is found again."""


def latest(client: "MlflowClient", experiment: str) -> "dict[Key, Run]":
    """The run that counts for each arm and identity: the newest FINISHED one, else the newest."""
    found: dict[Key, Run] = {}
    for run in runs(client, experiment, "tags.identity != ''"):
        key = run.data.tags["arm"], run.data.tags["identity"]
        if key not in found or run.info.status == FINISHED or found[key].info.status != FINISHED:
            found[key] = run
    return found


def latest_if_any(tracking: Mapping[str, Any], experiment: str) -> "dict[Key, Run]":
    """`latest` for a plan, which creates nothing: empty where there is no store or no such experiment."""
    if tracking["uri"] is None and not (Path(tracking["dir"]) / "mlflow.db").is_file():
        return {}
    there = client(tracking)
    found = there.get_experiment_by_name(experiment)
    return latest(there, found.experiment_id) if found is not None else {}


def runs(client: "MlflowClient", experiment: str, query: str) -> "list[Run]":
    """All runs of the experiment that match, oldest first."""
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment], query, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        if not (token := page.token):
            return found


VIEW = "silvertune"
COLUMNS = (
    "test/recall",
    "test/precision",
    "test/f1",
    "test_by_group/f1",
    "test/auprc",
    "labels/kept_fraction",
    "labels/noise_before",
    "labels/noise_after",
)


def offer_view(client: "MlflowClient", experiment: str, references: Sequence[str]) -> str:
    """Save a view of the experiment with the columns that matter; returns its address.

    It is what the UI's own "share" button stores: a run has far more metrics than a table of runs can show.
    The address is relative to wherever the UI is served.
    """
    columns = [*COLUMNS, *(f"delta/{name}/f1" for name in references)]
    view = {
        "selectedColumns": [f"metrics.`{name}`" for name in columns],
        "runsPinned": [],
        "runsHidden": [],
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "searchFilter": "",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "useGroupedValuesInCharts": False,
    }
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))
    return f"/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}"


def _process(tags: Mapping[str, str]) -> "psutil.Process | None":
    """The process that the tags name, if it is still there and not another one with its number."""
    import psutil

    try:
        process = psutil.Process(int(tags["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        started = process.create_time()
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return None
    return process if abs(started - float(tags.get("pid_started", started))) < 1 else None
