"""A run in MLflow: open while it works, then FINISHED, FAILED or KILLED, and never anything else."""

import hashlib
import importlib.metadata
import json
import subprocess
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from silvertune.errors import cause_and_place
from silvertune.evaluation import findings
from silvertune.items import Data
from silvertune.reports import figures, label_files
from silvertune.runner import Result
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_PARAM = 6000
PACKAGES = ("silvertune", "hydra-core", "mlflow", "numpy", "pandas", "scikit-learn", "torch", "transformers", "peft")


@contextmanager
def open_run(
    client: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str], parent: str | None
) -> Iterator[str]:
    """A new run, by id. Leaving it marks it FINISHED; an exception FAILED, with its traceback; an interrupt KILLED."""
    nested = {"mlflow.parentRunId": parent} if parent else {}
    run = client.create_run(
        experiment, run_name=name, tags={**tags, **nested, **store.process_tags(), **provenance()}
    ).info.run_id
    try:
        yield run
    except BaseException as error:
        try:
            client.set_tag(run, "error", cause_and_place(error)[:500])
            client.log_text(run, traceback.format_exc(), "traceback.txt")
        finally:
            client.set_terminated(run, store.FAILED if isinstance(error, Exception) else store.KILLED)
        raise
    # A run that was given up by its sweep (and perhaps done again) meanwhile stays given up.
    if client.get_run(run).info.status == store.RUNNING:
        client.set_terminated(run, store.FINISHED)


def log_config(client: "MlflowClient", run: str, config: Mapping[str, Any], overrides: list[str]) -> None:
    """The resolved configuration as flat params, and whole, with the overrides, as artifacts."""
    from mlflow.entities import Param

    client.log_text(run, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), "config.yaml")
    client.log_text(run, yaml.safe_dump(overrides), "overrides.yaml")
    shown = {key: value for key, value in config.items() if key not in ("tracking", "study", "experiments")}
    named: dict[str, str] = {}
    for key, value in _flat(shown):
        # MLflow refuses a name twice, and keys that differ in marks alone have one name there.
        name, number = key[:240], 2
        while name in named:
            name, number = f"{key[:240]}_{number}", number + 1
        named[name] = _short(value)
    params = [Param(key, value) for key, value in named.items()]
    for start in range(0, len(params), 100):
        client.log_batch(run, params=params[start : start + 100])


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


def log_result(
    client: "MlflowClient", run: str, result: Result, *, title: str, save_models: Callable[[Path], None] | None
) -> None:
    """Everything that a run found: artifacts first, metrics last, so that a run with metrics has its artifacts.

    save_models: writes the tuned models into a folder.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "figures").mkdir()
        _parquet(result.votes, folder / "votes.parquet")
        _parquet(result.decisions.reset_index(), folder / "decisions.parquet")
        _parquet(result.predictions.reset_index(), folder / "predictions.parquet")
        result.report.groups.to_csv(folder / "groups.csv")
        found = findings.find(result.labels)
        label_files.write(result.labels, found, folder, title)
        figures.groups(result.report.groups, title).savefig(folder / "figures" / "groups.png")
        if (matrix := figures.agreement(result.labels.agreement)) is not None:
            matrix.savefig(folder / "figures" / "agreement.png")
        epochs = [
            {"fold": fold, "epoch": number, **epoch}
            for fold, student in enumerate(result.students)
            for number, epoch in enumerate(student.history)
        ]
        if epochs:
            pd.DataFrame(epochs).to_csv(folder / "tuning.csv", index=False)
        if save_models is not None:
            save_models(folder / "model")
        client.log_artifacts(run, made)
    client.set_tag(run, "findings", ", ".join(dict.fromkeys(finding.name for finding in found)))
    client.set_tag(run, "mlflow.note.content", findings.markdown(found))  # the UI shows it with the run
    if result.alarms:
        client.set_tag(run, "alarms", "; ".join(result.alarms)[:5000])
    counted = {"alarms": float(len(result.alarms))} if result.students else {}
    log_metrics(client, run, {**result.report.metrics, **result.labels.metrics, **counted})


def log_metrics(client: "MlflowClient", run: str, metrics: Mapping[str, float]) -> None:
    """Metrics in one batch, those that are undefined (NaN) left out."""
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(
        run, metrics=[Metric(_allowed(name), value, now, 0) for name, value in metrics.items() if value == value]
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


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield _allowed(f"{prefix}{key}"), value


def _allowed(name: str) -> str:
    """MLflow allows letters, digits and _-. :/ in names."""
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (
        text if len(text) <= LONGEST_PARAM else f"sha256:{hashlib.sha256(text.encode()).hexdigest()} (see config.yaml)"
    )
