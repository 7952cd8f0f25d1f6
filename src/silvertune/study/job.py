"""One job of a sweep, between Hydra's configuration and MLflow's run."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from silvertune import composition, identity, runner
from silvertune.datasets.mapping import ColumnMapping
from silvertune.errors import UserError, WaitingForAnswersError
from silvertune.llms import answer_store
from silvertune.tracking import runs, serving

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Job:
    """One run to be.

    Attributes:
        overrides: The command-line overrides that make it.
        config: Its resolved configuration.
        names: What its parts are called (`names_of_parts`).
        identity: The digest of what decides its result.
        parts: The parts that its configuration describes, built and checked.
    """

    overrides: list[str]
    config: dict[str, Any]
    names: dict[str, str]
    identity: str
    parts: runner.Parts = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name of its run."""
        return run_name(self.config, self.names)

    @property
    def key(self) -> tuple[str, str, str]:
        """Arm, variant and identity: by these an earlier run of the same job is found.

        What a sweep varies may change no result of some arm, which then stands in the table once a variant.
        """
        return self.names["arm"], self.config["variant"] or "", self.identity


_jobs_by_config: dict[str, Job] = {}
"""Jobs whose parts this process has built and not run yet."""


@contextmanager
def handed_over(jobs: Iterable[Job]) -> Iterator[None]:
    """Keep jobs for `run` while the block runs.

    A launcher hands on overrides alone. By this nothing is built twice in this process, and a run has the identity of
    the data that its parts have read, whatever becomes of the files meanwhile.
    """
    keys = [_key(job.config) for job in jobs]
    _jobs_by_config.update(zip(keys, jobs, strict=True))
    try:
        yield
    finally:
        for key in keys:
            _jobs_by_config.pop(key, None)


def _key(config: Mapping[str, Any]) -> str:
    """A text that is the same before and after the sweep tells a job its store, its parent and what it tries again."""
    tracking = {**config["tracking"], "uri": None, "parent_run_id": None}
    return repr({**config, "tracking": tracking, "retry_of": None})


def run(cfg: DictConfig, *, choices: Mapping[str, Any], sources: Iterable[Any], overrides: list[str]) -> str:
    """Do the run that `cfg` describes, and log it as a child of `tracking.parent_run_id`.

    Args:
        cfg: The job's configuration, as Hydra composed it.
        choices: Hydra's group choices.
        sources: Hydra's search path.
        overrides: The command-line overrides of the job.

    Returns:
        The id of the run in MLflow.
    """
    config = composition.plain(cfg, sources)
    names = names_of_parts(config, choices)
    tracking = config["tracking"]
    client, sweep = runs.sweep_of(tracking)
    answer_store.ask_failures_again(float(sweep.data.tags["started"]))
    job = _jobs_by_config.pop(_key(config), None)
    all_tags = tags(config, names, identity.of(config) if job is None else job.identity)
    with (
        _stopping_others(client, sweep.info.run_id, config["on_error"]),
        runs.open_run(
            client, sweep.info.experiment_id, run_name(config, names), all_tags, sweep.info.run_id, tracking
        ) as run_id,
    ):
        started = time.perf_counter()
        runs.log_config(client, run_id, config, overrides)
        parts = composition.build(config) if job is None else job.parts
        source = str(config["dataset"].get("path") or config["dataset"].get("files") or names["dataset"])
        runs.log_data(client, run_id, parts.data, names["dataset"], source)
        client.set_tag(run_id, "data", parts.data.digest)
        kept = runs.result_kept_earlier(client, tracking, all_tags["identity"]) if config["resume"] else None
        if kept is None:
            columns = ColumnMapping.of_dataset(config["dataset"])
            with runs.tables_of(client, tracking, run_id, all_tags["identity"]) as tables:
                result = runner.run(parts, tables)
                kept = runs.keep_result(
                    result,
                    parts.data,
                    tracking,
                    run_id,
                    classes=parts.task.classes,
                    identity=all_tags["identity"],
                    title=run_name(config, names),
                    started=started,
                    save_models=partial(_save_models, result, parts, columns) if tracking["save_models"] else None,
                )
        runs.log_kept(client, run_id, kept)
    return run_id


def _save_models(result: runner.Result, parts: runner.Parts, columns: ColumnMapping | None, folder: Path) -> None:
    """One MLflow model a fold, or the one of a production run, with how its views are made of a file's columns."""
    rule = parts.evaluation.threshold
    for number, student in enumerate(result.students):
        threshold = student.thresholds.get(rule, 0.5) if isinstance(rule, str) else rule
        example = parts.data.items.iloc[:2]
        place = folder if parts.evaluation.split == "none" else folder / f"fold{number}"
        serving.save(student.predictor, place, parts.task, parts.evaluation, threshold, example, columns)


@contextmanager
def _stopping_others(client: "MlflowClient", parent: str, on_error: str) -> Iterator[None]:
    """With on_error=stop, a failure is noted where the jobs of every launcher look before they start."""
    try:
        yield
    except WaitingForAnswersError:  # no failure
        raise
    except Exception:
        if on_error == "stop":
            with suppress(Exception):  # a store that can't be written to must not hide why the job failed
                client.set_tag(parent, "stop", "true")
        raise


def names_of_parts(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, str]:
    """Name the parts of a run.

    Args:
        config: The run's configuration (from `plain`).
        choices: Hydra's group choices (`hydra.runtime.choices`).

    Returns:
        Part -> name of its config; `arm`, which is made of these where no study names it; and whether labels are
        `simulated` and gold is seen (`uses_gold`), as `true` or `false`.

    Raises:
        UserError: Labels are simulated, and the arm's name does not say so.
    """
    parts = {
        part: str(choices.get(part) or "none")
        for part in ("dataset", "task", "preselect", "labeler", "aggregation", "fallback", "model", "backend")
    }
    # A list choice such as filter=[a,b] is missing from Hydra's choices; the keys are the names.
    parts["filter"] = "+".join(config["filter"])
    parts |= {part: "none" for part in ("model", "fallback", "preselect") if config[part] is None}
    arm = f"{parts['labeler']}/{parts['filter']}"
    if parts["aggregation"] not in ("any_view", "none"):
        arm = f"{parts['labeler']}.{parts['aggregation']}/{parts['filter']}"
    if parts["fallback"] != "none":
        arm += f"/{parts['fallback']}"
    parts["arm"] = config["arm"] or arm
    parts["simulated"] = str(_is_said(config, "_simulated_")).lower()
    parts["uses_gold"] = str(_is_said(config, "_gold_")).lower()
    if parts["simulated"] == "true" and "simulated" not in parts["arm"]:
        raise UserError(
            f"study.arms.{parts['arm']}: its labels are simulated (labeler={parts['labeler']}, fallback="
            f"{parts['fallback']}) and its name does not say so; put 'simulated' in it"
        )
    return parts


def _is_said(node: Any, key: str) -> bool:
    if isinstance(node, Mapping):
        return bool(node.get(key)) or any(_is_said(value, key) for value in node.values())
    return False


def run_name(config: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """`arm/model/s<seed>`, and what else the sweep varies."""
    return "/".join(part for part in (names["arm"], names["model"], f"s{config['seed']}", config["variant"]) if part)


def tags(config: Mapping[str, Any], names: Mapping[str, str], identity: str) -> dict[str, str]:
    """The tags by which runs are found and grouped."""
    retry = {"retry_of": config["retry_of"]} if config["retry_of"] else {}
    return {
        **names,
        "seed": str(config["seed"]),
        "variant": config["variant"] or "",
        "identity": identity,
        **retry,
    }
