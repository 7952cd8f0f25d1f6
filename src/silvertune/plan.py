"""`mode=plan`: what a sweep would do, told without doing anything."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from silvertune import composition
from silvertune.expansion import Job
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow.entities import Run


def show(console: Console, jobs: list[Job], earlier: "Mapping[store.Key, Run]") -> None:
    """Print the jobs, what would be done with each, and what labelling would take at most. Asks nobody."""
    table = Table(title="plan (nothing was done)", title_justify="left")
    for column in ("run", "labeler", "filter", "fallback", "model", "backend", "would"):
        table.add_column(column, overflow="fold")
    asked: dict[str, dict[str, float]] = {}
    finished = 0
    for job in jobs:
        known = earlier.get(job.key)
        would = "run" if known is None else "skip: FINISHED" if known.info.status == store.FINISHED else "run again"
        parts = (job.names[part] for part in ("labeler", "filter", "fallback", "model", "backend"))
        table.add_row(job.name, *parts, would)
        if would.startswith("skip"):
            finished += 1
            continue
        built = composition.build(job.config)
        # The same labeler is asked about the same items once, however many runs use its labels.
        asked[repr(job.config["labeler"])] = built.labeler.labeler.estimate(built.data.items)
    console.print(table)
    total = {what: sum(each.get(what, 0.0) for each in asked.values()) for what in ("calls", "stored", "dollars")}
    console.print(
        f"{len(jobs)} runs: {finished} finished, {len(jobs) - finished} to do; labelling all items takes at most "
        f"{total['calls']:.0f} calls, {total['stored']:.0f} of them already stored, and ${total['dollars']:.2f}",
        highlight=False,
    )
