"""Where a tuned model is: in the registry, with a run, or in a folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from silvertune.errors import UserError, either
from silvertune.models import saved
from silvertune.tracking import database, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PLACES = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID or a folder"


@dataclass(frozen=True)
class FoundModel:
    """A model on this disk.

    Attributes:
        name: What it is for certain: an alias is replaced by the version that it names now.
        folder: The folder of the MLflow model.
    """

    name: str
    folder: Path


def find(address: str, tracking: Mapping[str, Any], download_to: Path) -> FoundModel:
    """Find a tuned model that silvertune has logged, and bring it onto this disk.

    Args:
        address: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/RUN_ID`, `runs:/RUN_ID/model/fold0`, or a folder.
        tracking: Its `uri` and `dir` say where the store is, as the configuration's `tracking` does.
        download_to: A folder to download to where the artifacts are not on this disk.

    Returns:
        The model.

    Raises:
        UserError: There is no such model, or the store can't be reached.
    """
    scheme = address.partition(":/")[0] if ":/" in address else ""
    if scheme not in ("models", "runs"):
        return FoundModel(address, check(Path(address), address))
    client = _client(address, tracking)
    if scheme == "runs":
        run_id, artifact = _run_and_source(client, address)
        return FoundModel(address, _of_run(client, run_id, artifact, address, download_to))
    version = _version(client, address)
    name = f"models:/{version.name}/{version.version}"
    return FoundModel(name, _of_version(client, version, address, download_to))


def file_of_run(address: str, tracking: Mapping[str, Any], name: str, download_to: Path) -> Path | None:
    """Find a file that a run has logged.

    Args:
        address: `runs:/RUN_ID`, with or without a path behind it, or a registered model that the run has made.
        tracking: Its `uri` and `dir` say where the store is, as the configuration's `tracking` does.
        name: The file's path below the run.
        download_to: A folder to download to where the artifacts are not on this disk.

    Returns:
        The file; None where there is no such run or file.

    Raises:
        UserError: The registry has no such model, or the store can't be reached.
    """
    client = _client(address, tracking)
    return _file_of(client, _run_and_source(client, address)[0], name, download_to)


def _file_of(client: "MlflowClient", run_id: str, name: str, download_to: Path) -> Path | None:
    from mlflow.exceptions import MlflowException

    try:
        return store.artifact(client, client.get_run(run_id), name, download_to)
    except (MlflowException, OSError):
        return None


def tuned_on(address: str, tracking: Mapping[str, Any], download_to: Path) -> frozenset[str] | None:
    """The items from which a model's training set was chosen, as far as its run tells them.

    Args:
        address: `runs:/RUN_ID/...`, or a registered model.
        tracking: Its `uri` and `dir` say where the store is, as the configuration's `tracking` does.
        download_to: A folder to download to where the artifacts are not on this disk.

    Returns:
        Their ids: of the model of one fold, those of its training pool. None where there is no such run, or the run
        does not tell them.

    Raises:
        UserError: The registry has no such model, or the store can't be reached.
    """
    import pandas as pd

    client = _client(address, tracking)
    run_id, source = _run_and_source(client, address)
    file = _file_of(client, run_id, "decisions.parquet", download_to)
    if file is None:
        return None
    decisions = pd.read_parquet(file, columns=["item_id", "fold"])
    fold = re.search(r"fold(\d+)/?$", source)
    if fold is not None:
        decisions = decisions[decisions["fold"] == int(fold[1])]
    return frozenset(decisions["item_id"])


def _run_and_source(client: "MlflowClient", address: str) -> tuple[str, str]:
    """The id of the run that an address names, and where its model is."""
    if address.startswith("runs:/"):
        run_id, _, artifact = address.removeprefix("runs:/").strip("/").partition("/")
        return run_id, artifact
    version = _version(client, address)
    return str(version.run_id), str(version.source)


def _client(address: str, tracking: Mapping[str, Any]) -> "MlflowClient":
    """A client of the store. UserError where there is none."""
    place = store.uri(tracking)
    store.refuse_plain_files(place)
    file = database.path_of(place)
    if file is not None and not file.is_file():
        raise UserError(f"{address}: {file}: there is no such store; name another with --dir or --uri")
    store.check_answers(place)
    with store.in_one_line(place):
        return store.client(tracking)


def check(folder: Path, address: str) -> Path:
    """Refuse a folder that is no MLflow model of silvertune's.

    Args:
        folder: The folder.
        address: What the user calls it, for messages.

    Returns:
        The folder.

    Raises:
        UserError: It is none.
    """
    if not folder.is_dir():
        raise UserError(f"{address}: no such folder; want {PLACES}")
    if not (folder / saved.SETTINGS).is_file():
        folds = sorted(f"{address}/{inner.parent.name}" for inner in folder.glob("*/MLmodel"))
        advice = f"want one of the models in it: {either(folds)}" if folds else f"want {PLACES}"
        raise UserError(f"{address}: is no model that silvertune has logged (no {saved.SETTINGS} in it); {advice}")
    return folder


def _of_run(client: "MlflowClient", run_id: str, artifact: str, address: str, download_to: Path) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        where = store.printable(client.tracking_uri)
        raise UserError(f"{address}: no such run in {where} ({store.reason(error)})") from None
    try:
        folder = store.artifact(client, run, artifact or "model", download_to)
    except (MlflowException, OSError) as error:
        raise UserError(
            f"{address}: the run has no such artifact ({store.reason(error)}); a run keeps its models with "
            "tracking.save_models=true"
        ) from None
    return check(folder, address if artifact else f"{address.rstrip('/')}/model")


def _version(client: "MlflowClient", address: str) -> "ModelVersion":
    """The version of a registered model that an address names."""
    from mlflow.exceptions import MlflowException

    words = address.removeprefix("models:/").strip("/")
    name, at, alias = words.partition("@")
    if not at:
        name, _, number = words.rpartition("/")
        if not name or not number.isdigit():
            raise UserError(f"{address}: names no version; want models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        return client.get_model_version_by_alias(name, alias) if at else client.get_model_version(name, number)
    except MlflowException as error:
        place = store.printable(str(client._registry_uri))
        raise UserError(
            f"{address}: not found in {place} ({store.reason(error)}){_what_there_is(client, name)}"
        ) from None


def _what_there_is(client: "MlflowClient", name: str) -> str:
    """The versions and aliases of a registered model, or the names of others; "" where the registry says nothing."""
    from mlflow.exceptions import MlflowException

    try:
        models = {model.name: model for model in client.search_registered_models(max_results=100)}
        if name not in models:
            return f"; there are {either(sorted(models)) or 'no registered models'}"
        model = client.get_registered_model(name)
        aliases = [f"models:/{name}@{alias}" for alias in sorted(model.aliases)]
        return (
            f"; there are {either([*aliases, f'versions up to {max(int(v.version) for v in model.latest_versions)}'])}"
        )
    except (MlflowException, ValueError):
        return ""


def _of_version(client: "MlflowClient", version: "ModelVersion", address: str, download_to: Path) -> Path:
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        if version.run_id:
            run = client.get_run(version.run_id)
            below = str(version.source).removeprefix(f"{run.info.artifact_uri}/")
            if below != version.source:
                return check(store.artifact(client, run, below, download_to), address)
        source = str(version.source)
        if not urlsplit(source).scheme:
            return check(Path(source), address)
        folder = mlflow.artifacts.download_artifacts(
            artifact_uri=source, dst_path=str(download_to), tracking_uri=client.tracking_uri
        )
    except (MlflowException, OSError) as error:
        raise UserError(f"{address}: its files can't be read ({store.reason(error)})") from None
    return check(Path(folder), address)
