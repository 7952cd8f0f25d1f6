"""`mode=plan`: what a sweep would do, told without doing anything or asking anybody."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from silvertune import composition
from silvertune.study.job import Job
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow.entities import Run

FIGURES = ("calls", "stored", "tokens", "dollars", "seconds")


def show(console: Console, jobs: list[Job], earlier: "Mapping[store.Key, Run]") -> None:
    """Print the jobs and what would be done with each, and who would be asked how much at most."""
    table = Table(title="plan (nothing was done)", title_justify="left")
    for column in ("run", "labeler", "filter", "fallback", "model", "backend", "would"):
        table.add_column(column, overflow="fold")
    asked: dict[str, dict[str, dict[str, float]]] = {}
    finished = 0
    for job in jobs:
        known = earlier.get(job.key)
        would = "run" if known is None else "skip: FINISHED" if known.info.status == store.FINISHED else "run again"
        parts = (job.names[part] for part in ("labeler", "filter", "fallback", "model", "backend"))
        table.add_row(job.name, *parts, would)
        if would.startswith("skip"):
            finished += 1
        else:
            _ask(job, asked)
    console.print(table)
    total = dict.fromkeys(FIGURES, 0.0)
    for figures in (figures for estimate in asked.values() for figures in estimate.values()):
        total = {name: total[name] + figures[name] for name in FIGURES}
    if any(asked.values()):
        console.print(_asking(asked))
    console.print(
        f"{len(jobs)} runs: {finished} finished, {len(jobs) - finished} to do; labelling all items takes at most "
        f"{total['calls']:.0f} calls, {total['stored']:.0f} of them already stored, and ${total['dollars']:.2f}",
        highlight=False,
    )


def _ask(job: Job, asked: dict[str, dict[str, dict[str, float]]]) -> None:
    """What the job's labelers would take; the same labeler is asked about the same items once, for all runs."""
    built = job.parts
    how = built.evaluation
    pools = how.folds if how.split == "kfold" else 1
    for _, which, source in composition.labeling_sources(job.config, built):
        if which in asked:
            continue
        asked[which] = source.labeler.estimate(built.data.items)
        if source.budget is not None:
            most = source.budget.items * pools
            asked[which] = {name: _capped(figures, most) for name, figures in asked[which].items()}


def _capped(figures: Mapping[str, float], most: int) -> dict[str, float]:
    """The figures of `most` calls, if there are more: of how many items, and not of which, a budget is."""
    share = min(1.0, most / figures["calls"]) if figures["calls"] else 1.0
    return {name: value * share for name, value in figures.items()}


def _asking(asked: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    table = Table(title="who would be asked, at most", title_justify="left")
    for column in ("", "unique calls", "already stored", "tokens of the rest", "dollars", "at the configured rate"):
        table.add_column(column, justify="left" if not column else "right")
    for estimate in asked.values():
        for name, figures in estimate.items():
            minutes = figures["seconds"] / 60
            table.add_row(
                name, f"{figures['calls']:.0f}", f"{figures['stored']:.0f}", f"{figures['tokens']:.0f}",
                f"{figures['dollars']:.2f}", f"{minutes:.1f} min" if minutes else "no limit set",
            )  # fmt: skip
    return table
