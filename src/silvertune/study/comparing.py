"""The end of a sweep: what is finished is compared, and the user is told where it is."""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console

from silvertune.evaluation import comparison
from silvertune.reports import figures, study_note, study_report
from silvertune.study import production_command, registering
from silvertune.study.job import Job
from silvertune.study.state import FinishedJob, Sweep
from silvertune.tracking import lock, runs, saved_view, store
from silvertune.tracking.finished import read

if TYPE_CHECKING:
    from mlflow.entities import Run


def compare(sweep: Sweep, finished: Sequence[FinishedJob], config: DictConfig, output: Console) -> None:
    """Write the differences back to the runs and the tables to the sweep's own run; print them, and where they are.

    Args:
        sweep: The sweep.
        finished: What of it is finished.
        config: Its configuration.
        output: Where it prints.

    Raises:
        UserError: Its runs are not comparable.
    """
    finished_runs = [run for job, run in finished if job.config["evaluation"]["split"] != "none"]
    if not finished_runs:
        return
    client, names = sweep.client, references(config, sweep.jobs)
    result = comparison.compare(
        [read(client, run) for run in finished_runs],
        names,
        replicates=config.evaluation.replicates,
    )
    for run_id, deltas in result.deltas.items():
        if deltas:
            runs.log_metrics(client, run_id, deltas)
    styles = figures.styles([job.names["arm"] for job in sweep.jobs])
    with tempfile.TemporaryDirectory() as folder:
        study_report.write(Path(folder), result, names, sweep.name, styles)
        client.log_artifacts(sweep.parent, folder)
    study_report.show(output, result, names, sweep.name)
    # The references of a sweep without a study are its own plain arms, which are as good to use as any other.
    best = _describe(sweep, result.table, names if config.study.references else [], names, finished_runs)
    logged = set().union(*(run.data.metrics for run in finished_runs), *result.deltas.values())
    with lock.held(sweep.tracking, "view"):  # MLflow can't take one tag from two processes at once
        view = saved_view.offer(client, sweep.experiment, sweep.parent, names, logged)
    _print_places(sweep, output, view, finished_runs, _of_best(sweep, best, finished_runs, config))


def _describe(
    sweep: Sweep, table: "pd.DataFrame", not_best: Sequence[str], references: Sequence[str], finished: "Sequence[Run]"
) -> "pd.Series[Any] | None":
    """Log the best arm and the table with the sweep's own run, have the UI sort its runs; the best arm's row."""
    with_gold = {run.data.tags["arm"] for run in finished if run.data.tags.get("uses_gold") == "true"}
    best = None if _measure_different_things(finished) else study_note.best_arm(table, not_best, with_gold)
    tags = {"mlflow.note.content": study_note.markdown(table, references, best)}
    if best is not None:
        tags |= {f"best_{name}": str(best[name]) for name in ("arm", "model", "variant")}
        runs.log_metrics(sweep.client, sweep.parent, study_note.metrics(best, references))
    for name, text in tags.items():
        sweep.client.set_tag(sweep.parent, name, text)
    names = pd.DataFrame([(run.info.run_name, run.info.run_id) for run in finished], columns=["run", "run_id"])
    sweep.client.log_text(sweep.parent, names.to_csv(index=False), "runs.csv")
    saved_view.order(sweep.client, sweep.parent, [run.info.run_id for run in finished])
    return best


def _measure_different_things(finished: "Sequence[Run]") -> bool:
    """Whether runs are of several datasets or tasks, so that a higher F1 is no better one."""
    measured = {
        (run.data.tags["data"], run.data.params["task.classes"], run.data.params["task.positive"]) for run in finished
    }
    return len(measured) > 1


def _of_best(sweep: Sweep, best: "pd.Series[Any] | None", finished: "Sequence[Run]", config: DictConfig) -> list[str]:
    """Lines that say where the labels of the best arm can be looked at, and how its model comes to use."""
    if best is None:
        why = "no arm is called the best: the runs are measured on different gold labels"
        return [why] if _measure_different_things(finished) else []
    wanted = tuple(str(best[name]) for name in ("arm", "model", "variant"))
    named = [
        run for run in finished if tuple(run.data.tags.get(key, "") for key in ("arm", "model", "variant")) == wanted
    ]
    lines = registering.labels_of(sweep, f"the best arm, {wanted[0]}", named[0])
    if best["model"] != "none":  # otherwise its labeler is better than a model
        job = next(job for job in sweep.jobs if job.name == named[0].info.run_name)
        command = production_command.of(job, config.study.arms, config.hydra.overrides.task)
        lines.append(f"to tune {wanted[0]} on all labels and register the model: {command}")
    return lines


def _print_places(sweep: Sweep, output: Console, view: str, finished: "Sequence[Run]", of_best: Sequence[str]) -> None:
    """Print where the runs are, and commands that show them and use a model of theirs, as they are typed here."""
    address = store.printable(store.uri(sweep.tracking))
    is_server = address.startswith("http")
    lines = _tuned_on(finished)
    lines += [f"logged to {address}, experiment {sweep.name}, run {sweep.parent}"]
    if not is_server:
        lines.append(f"to see it: mlflow ui --backend-store-uri {shlex.quote(address)}")
    lines.append(f"the runs, with the columns that matter: {address if is_server else 'http://127.0.0.1:5000'}{view}")
    if (model := _model_of_one(sweep, finished)) is not None:
        lines.append(
            f"to try the model of one fold: silvertune-predict {shlex.quote(model)} INPUT --out PREDICTIONS.csv"
        )
    lines += of_best
    output.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _tuned_on(finished: "Sequence[Run]") -> list[str]:
    """A line that says in which precision and on which device the networks were tuned, if any was."""

    def values(name: str) -> list[str]:
        tags = (run.data.tags.get(f"tuned_on.{name}", "") for run in finished)
        return sorted({value for tag in tags for value in tag.split(", ") if value})

    precisions, devices = values("precision"), values("device")
    if not precisions:
        return []
    mixed = "the arms are not comparable to the last digit; " if len(precisions) * len(devices) > 1 else ""
    return [
        f"networks tuned in {' and '.join(precisions)} on {' and '.join(devices)}: {mixed}another precision or device "
        "gives other figures (model.precision or model.dtype)"
    ]


def _model_of_one(sweep: Sweep, finished: "Sequence[Run]") -> str | None:
    """The folder of a tuned model of the last run that has some on this disk; it needs no store to be found."""
    folders = (store.artifact_on_disk(sweep.client, run, "model/fold0") for run in reversed(finished))
    return next((str(folder) for folder in folders if folder is not None), None)


def references(config: DictConfig, jobs: list[Job]) -> list[str]:
    """The arms that every other arm is compared with.

    Args:
        config: The sweep's configuration.
        jobs: Its jobs.

    Returns:
        The study's references; without a study, the arms that keep every label and have a student.
    """
    if config.study.references:
        return [name for name in config.study.references if not config.study.only or name in config.study.only]
    arms = {job.names["arm"]: job.names for job in jobs}
    plain = [arm for arm, names in arms.items() if names["filter"] == names["fallback"] == "none" != names["model"]]
    return plain if len(arms) > 1 else []
