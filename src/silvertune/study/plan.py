"""`mode=plan`: what a sweep would do, told without doing anything or asking anybody."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from silvertune import composition, runner
from silvertune.errors import UserError, cause_and_place
from silvertune.interfaces import Estimate, TrainingSet
from silvertune.splits import split, with_validation
from silvertune.study.awaited import Awaited
from silvertune.study.job import Job
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow.entities import Run


def show(console: Console, jobs: list[Job], earlier: "Mapping[store.Key, Run]", waiting: Mapping[str, Awaited]) -> None:
    """Print the jobs and what would be done with each, whom labelling would ask how much, and what tuning would cost.

    Args:
        console: Where to print.
        jobs: All jobs of the sweep.
        earlier: The run that counts for each job so far.
        waiting: What the runs wait for that wait for people, by name.
    """
    table = Table(title="plan (nothing was done)", title_justify="left")
    for column in ("run", "labeler", "filter", "fallback", "model", "backend", "tuning", "would"):
        table.add_column(column, overflow="fold")
    labelling: dict[str, Mapping[str, Estimate]] = {}
    tuning: list[Estimate] = []
    tuning_by_arm: dict[str, Estimate] = {}
    for job in jobs:
        run = earlier.get(job.key)
        is_finished = run is not None and run.info.status == store.FINISHED
        names = (job.names[part] for part in ("labeler", "filter", "fallback", "model", "backend"))
        would = "skip: FINISHED" if is_finished else "run" if run is None else "run again"
        if not is_finished and job.name in waiting:
            would = _of_waiting(waiting[job.name])
        estimate = Estimate() if is_finished else _tuning(job)
        table.add_row(escape(job.name), *names, f"${estimate.dollars:.2f}" if estimate.calls else "", would)
        if not is_finished:
            tuning.append(estimate)
            tuning_by_arm[job.names["arm"]] = tuning_by_arm.get(job.names["arm"], Estimate()) + estimate
            labelling |= _labelling(job, except_for=labelling)
    console.print(table)
    for name, awaited in waiting.items():
        console.print(f"{name}: {_in_words(awaited)}", soft_wrap=True, highlight=False, markup=False)
    if any(labelling.values()):
        console.print(_asking(labelling))
    if any(estimate.dollars for estimate in tuning):
        console.print(_tuning_of_arms(tuning_by_arm))
    notes = [note for by_name in labelling.values() for estimate in by_name.values() for note in estimate.notes]
    for note in dict.fromkeys([*notes, *(note for estimate in tuning for note in estimate.notes)]):
        console.print(note, highlight=False, markup=False)
    labels = sum((estimate for by_name in labelling.values() for estimate in by_name.values()), Estimate())
    tuned = sum(tuning, Estimate())
    runs = "run" if len(jobs) == 1 else "runs"
    console.print(
        f"{len(jobs)} {runs}: {len(jobs) - len(tuning)} finished, {len(tuning)} to do; labelling all items takes at "
        f"most {labels.calls:.0f} calls, {labels.stored:.0f} of them already stored, and ${labels.dollars:.2f}; tuning "
        f"takes at most {tuned.calls:.0f} jobs, {tuned.tokens:.0f} tokens, and ${tuned.dollars:.2f}, less what the "
        "backend's ledger shows as already paid for",
        highlight=False,
    )


def _of_waiting(awaited: Awaited) -> str:
    return "wait for people" if awaited.missing or not awaited.asked else "go on: people have answered"


def _in_words(awaited: Awaited) -> str:
    """Where answers are awaited, and how many are missing."""
    if not awaited.asked:
        return f"waits for people since it was last started: {awaited.words}"
    if awaited.missing:
        return f"waits for people: {awaited.missing} of {awaited.asked} answer(s) are missing in {awaited.place}"
    return f"all {awaited.asked} answer(s) that it waited for are in {awaited.place}; the same command goes on"


def _tuning(job: Job) -> Estimate:
    parts = job.parts
    if parts.model is None:
        return Estimate()
    try:
        return parts.backend.estimate(parts.model, largest_training_sets(parts))
    except UserError:
        raise
    except Exception as error:  # of a part of the user's, or of a provider's library
        names = f"backend={job.names['backend']}, model={job.names['model']}"
        raise UserError(f"{names}: the estimate failed ({cause_and_place(error)})") from error


def _labelling(job: Job, except_for: Mapping[str, object]) -> dict[str, Mapping[str, Estimate]]:
    """What the job's labelers would take; the same labeler is asked about the same items once, for all runs."""
    parts = job.parts
    pools = parts.evaluation.folds if parts.evaluation.split == "kfold" else 1
    estimates: dict[str, Mapping[str, Estimate]] = {}
    for _, labeler_key, source in composition.labeling_sources(job.config, parts):
        if labeler_key in except_for:
            continue
        by_name = source.labeler.estimate(parts.data.items)
        if source.budget is not None:  # of how many items, and not of which, a budget is
            most = source.budget.items * pools
            by_name = {name: estimate.at_most(most) for name, estimate in by_name.items()}
        estimates[labeler_key] = by_name
    return estimates


def _tuning_of_arms(by_arm: Mapping[str, Estimate]) -> Table:
    table = Table(title="what tuning would cost, at most", title_justify="left")
    for column in ("arm", "jobs", "tokens", "dollars"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, estimate in by_arm.items():
        table.add_row(escape(arm), f"{estimate.calls:.0f}", f"{estimate.tokens:.0f}", f"{estimate.dollars:.2f}")
    return table


def _asking(labelling: Mapping[str, Mapping[str, Estimate]]) -> Table:
    table = Table(title="who would be asked, at most", title_justify="left")
    for column in ("", "unique calls", "already stored", "tokens of the rest", "dollars", "at the configured rate"):
        table.add_column(column, justify="left" if not column else "right")
    for by_name in labelling.values():
        for name, estimate in by_name.items():
            minutes = estimate.seconds / 60
            table.add_row(
                escape(name), f"{estimate.calls:.0f}", f"{estimate.stored:.0f}", f"{estimate.tokens:.0f}",
                f"{estimate.dollars:.2f}", f"{minutes:.1f} min" if minutes else "no limit set",
            )  # fmt: skip
    return table


def largest_training_sets(parts: runner.Parts) -> list[TrainingSet]:
    """Make training sets that no run of these parts exceeds: all items of each fold, with a made-up label.

    Args:
        parts: What the run is made of.

    Returns:
        One a fold.
    """
    items, longest = parts.data.items, max(parts.task.classes, key=len)
    folds = split(parts.data, parts.evaluation, parts.task, parts.seed)
    folds = with_validation(folds, items["group_id"], parts.traits.validation_fraction, parts.seed)
    labelled = items.assign(label=longest, weight=1.0)
    if parts.traits.soft_labels:
        labelled = labelled.assign(**{f"prob:{name}": float(name == longest) for name in parts.task.classes})
    sets = [(labelled.loc[fold.train], labelled.loc[fold.validation]) for fold in folds]
    return [TrainingSet(train, validation, parts.seed, parts.tuning_settings) for train, validation in sets]
