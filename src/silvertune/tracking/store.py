"""The MLflow store that a sweep logs to: made once, by one process, before any job starts."""

import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock

from silvertune.errors import UserError, either
from silvertune.tracking import database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FINISHED, FAILED, KILLED, RUNNING = "FINISHED", "FAILED", "KILLED", "RUNNING"
WAITING = "SCHEDULED"
"""MLflow's status of a run that waits for people: nobody works on it, and nothing failed."""
STATE, WAITS = "silvertune.state", "waiting"
"""The tag that tells such a run from one that MLflow itself scheduled, and its value."""
WAITS_FOR = "waits_for"
"""The tag that says what such a run waits for, and what to do."""
ASKED = "asked.json"
"""The artifact of such a run that says which items people were asked about, and where."""
DATABASE_SERVERS = ("postgresql", "mysql", "mssql")
"""Beginnings of the URIs of stores in databases that are on servers, and that hold no artifacts."""
LONGEST_REASON = 400
"""Characters of a library's message that are shown."""
PARENT = "mlflow.parentRunId"
"""The tag by which MLflow knows that a run belongs to another."""


def uri(tracking: Mapping[str, Any]) -> str:
    """The tracking URI: `tracking.uri`, else the environment's, else the SQLite store in `tracking.dir`.

    Args:
        tracking: The configuration's `tracking`.

    Returns:
        The URI; a local store's is absolute.
    """
    configured = tracking["uri"] or os.environ.get("MLFLOW_TRACKING_URI")
    return configured or database.address_of(Path(tracking["dir"]).absolute() / "mlflow.db")


def is_in_dir(tracking: Mapping[str, Any]) -> bool:
    """Whether the store is the SQLite store in `tracking.dir`."""
    return not (tracking["uri"] or os.environ.get("MLFLOW_TRACKING_URI"))


def printable(address: str) -> str:
    """A tracking URI without its password."""
    parts = urlsplit(address)
    if parts.password is None:
        return address
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))


def client(tracking: Mapping[str, Any]) -> "MlflowClient":
    """A client of an existing store."""
    # An inherited run id would make this process log into somebody else's run (mlflow#15713).
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # About a minute: time for a server to be restarted. What can't be logged then is kept (`unlogged`).
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    database.silence_libraries()
    from mlflow import MlflowClient

    return MlflowClient(uri(tracking))


def prepare(tracking: Mapping[str, Any], experiment: str) -> tuple["MlflowClient", str]:
    """Create what is missing: database, schema, experiment.

    Args:
        tracking: The configuration's `tracking`.
        experiment: Name of the experiment.

    Returns:
        A client, and the experiment's id.

    Raises:
        UserError: The store can't be reached or written, or the experiment is deleted.
    """
    from mlflow.exceptions import RestException

    folder = Path(tracking["dir"]).absolute()
    address = uri(tracking)
    refuse_plain_files(address)
    check_answers(address)
    file = database.path_of(address)
    # MLflow would put the artifacts of a database on a server into the working directory.
    has_artifacts_here = is_in_dir(tracking) or address.startswith(DATABASE_SERVERS)
    local = (folder / "artifacts").as_uri() if has_artifacts_here else None
    with in_one_line(address):
        folder.mkdir(parents=True, exist_ok=True)
        if file is not None and not file.absolute().parent.is_dir():
            raise FileNotFoundError(f"{file.absolute().parent} is no folder")
        # Two sweeps started together must not both create the schema (hydraflow#245).
        with FileLock(file.absolute().with_suffix(".lock") if file else folder / "mlflow.lock"):
            if file is not None:
                database.make(file.absolute(), local, say)
            store = client(tracking)
            entity = store.get_experiment_by_name(experiment)
            if entity is None:
                try:
                    return store, store.create_experiment(experiment, artifact_location=local)
                except RestException:  # a sweep on another machine was faster
                    if (entity := store.get_experiment_by_name(experiment)) is None:
                        raise
    if entity.lifecycle_stage != "active":
        raise UserError(f"tracking.experiment={experiment}: that experiment is deleted; restore it or name another")
    return store, entity.experiment_id


def opened(tracking: Mapping[str, Any]) -> "MlflowClient":
    """Open a store that is there; creates nothing.

    Args:
        tracking: The configuration's `tracking`.

    Returns:
        A client.

    Raises:
        UserError: There is no such store, or it can't be reached.
    """
    address = uri(tracking)
    refuse_plain_files(address)
    file = database.path_of(address)
    if file is not None and not file.is_file():
        raise UserError(f"{file}: there is no such store; name another with --dir or --uri")
    check_answers(address)
    with in_one_line(address):
        return client(tracking)


def bring_home(tracking: Mapping[str, Any]) -> None:
    """Have the artifacts of a local store whose folder was moved entity where it is now (`database.bring_home`).

    Args:
        tracking: The configuration's `tracking`.

    Raises:
        UserError: A sweep is at work in this store under its old address.
    """
    if is_in_dir(tracking):
        folder = Path(tracking["dir"]).absolute()
        with in_one_line(uri(tracking)), FileLock(folder / "mlflow.lock"):
            database.bring_home(folder / "mlflow.db", folder / "artifacts", say)


def existing(tracking: Mapping[str, Any], experiment: str) -> tuple["MlflowClient", str]:
    """Open an experiment that is there; creates nothing.

    Args:
        tracking: The configuration's `tracking`.
        experiment: Name of the experiment.

    Returns:
        A client, and the experiment's id.

    Raises:
        UserError: There is no such store or experiment, or the store can't be reached.
    """
    store, address = opened(tracking), uri(tracking)
    with in_one_line(address):
        entity = store.get_experiment_by_name(experiment)
        if entity is None:
            names = [one.name for one in store.search_experiments() if one.name != "Default"]
            raise UserError(
                f"{experiment}: no such experiment in {printable(address)}; there are {either(names) or 'none'}"
            )
    return store, entity.experiment_id


def artifact(client: "MlflowClient", run: "Run", name: str, folder: Path) -> Path:
    """The place of one of a run's artifacts on this disk.

    Args:
        client: A client of the store.
        run: The run.
        name: The artifact's path below the run.
        folder: Where it is downloaded to, if it isn't on this disk.

    Raises:
        MlflowException: There is no such artifact.
    """
    on_disk = artifact_on_disk(client, run, name)
    return on_disk or Path(client.download_artifacts(run.info.run_id, name, str(folder)))


def artifact_on_disk(client: "MlflowClient", run: "Run", name: str) -> Path | None:
    """The place of an artifact in a local store, wherever its folder has been moved since; None if it isn't there."""
    file = database.path_of(client.tracking_uri)
    if file is None:
        return None
    place: Path = file.absolute().parent / "artifacts" / run.info.run_id / "artifacts" / name
    return place if place.exists() else None


def text(client: "MlflowClient", run: "Run", name: str) -> str:
    """A text that was logged with the run; empty if it was not."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            return artifact(client, run, name, Path(folder)).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            return ""


def refuse_plain_files(address: str) -> None:
    """Raise UserError for a store in plain files, where MLflow itself refuses one."""
    is_path = address.startswith("file:") or ("://" not in address and address.partition(":")[0] not in NAMED_STORES)
    if is_path and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        raise UserError(
            f"tracking.uri={address}: MLflow no longer develops stores in plain files and refuses them; want "
            "sqlite:///..., postgresql://..., http(s)://..., databricks, or MLFLOW_ALLOW_FILE_STORE=true in the "
            "environment"
        )


NAMED_STORES = ("databricks", "databricks-uc", "uc")
"""Tracking URIs of MLflow that have no `://`."""


def check_answers(address: str) -> None:
    """Raise UserError if the server at `address` doesn't answer, at once; other stores are not asked.

    MLflow's client tries a server that does not answer for a minute or more, without a word. Its own request function
    is used here, so that certificates, tokens and passwords are those that it will use.
    """
    if not address.startswith(("http://", "https://")):
        return
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        credentials = get_default_host_creds(address)  # type: ignore[no-untyped-call]
        http_request(  # type: ignore[no-untyped-call]
            credentials, "/health", "GET", timeout=10, max_retries=0, raise_on_status=False
        )
    except (MlflowException, OSError, ValueError) as error:
        raise UserError(
            f"tracking.uri={printable(address)}: no answer, is the server running? ({reason(error)})"
        ) from None


def answers(address: str) -> bool:
    """Whether the server at `address` answers; True for a store that is no server."""
    try:
        check_answers(address)
    except UserError:
        return False
    return True


def reason(error: BaseException) -> str:
    """The last cause of an error that a library wrapped in others, on one line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]}..."


@contextmanager
def in_one_line(address: str) -> Iterator[None]:
    """Turn what a store's client raises in the block into a UserError that names the store."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, OSError, sqlite3.Error, SQLAlchemyError, ImportError) as error:
        words = next(iter(str(error).splitlines()), type(error).__name__)
        words = words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]}..."
        raise UserError(f"tracking.uri={printable(address)}: can't be used ({words})") from None


def say(line: str) -> None:
    """Print a line about the store for the user, beside what the sweep prints."""
    print(f"silvertune: {line}", file=sys.stderr)


Key = tuple[str, str, str]
"""Arm, variant and identity: by what a run is found again."""


def latest(client: "MlflowClient", experiment: str) -> "dict[Key, Run]":
    """The run that counts for each arm, variant and identity: the newest FINISHED one, else the newest."""
    by_key: dict[Key, Run] = {}
    for run in runs(client, experiment, "tags.identity != ''"):
        key = run.data.tags["arm"], run.data.tags.get("variant", ""), run.data.tags["identity"]
        if key not in by_key or run.info.status == FINISHED or by_key[key].info.status != FINISHED:
            by_key[key] = run
    return by_key


def if_any(tracking: Mapping[str, Any], experiment: str) -> "tuple[MlflowClient, str] | None":
    """Open an experiment for a plan, which creates nothing.

    Args:
        tracking: The configuration's `tracking`.
        experiment: Name of the experiment.

    Returns:
        A client, and the experiment's id; None where there is no store or no such experiment.

    Raises:
        UserError: The store can't be reached.
    """
    address = uri(tracking)
    refuse_plain_files(address)
    file = database.path_of(address)
    if file is not None and not file.is_file():
        return None
    check_answers(address)
    with in_one_line(address):
        store = client(tracking)
        entity = store.get_experiment_by_name(experiment)
        return None if entity is None else (store, entity.experiment_id)


def runs(client: "MlflowClient", experiment: str, query: str) -> "list[Run]":
    """All runs of the experiment that match an MLflow search, oldest first."""
    matching: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment], query, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
        )
        matching += page
        if not (token := page.token):
            return matching
