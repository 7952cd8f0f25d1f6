"""What a sweep shows while it runs: a bar with rate and time left, and a line for each run that ends."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from silvertune.progress_bar import on_stderr
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


LATE_S = 30.0
"""Seconds by which the clocks of machines may differ before the line of a run's end comes later."""
REST = 10.0
"""A look at the store is followed by a pause so many times as long, so that it slows down nobody."""


@contextmanager
def shown(client: "MlflowClient", experiment: str, parent: str, total: int) -> Iterator[None]:
    """Show the progress of a sweep while the block runs. It is read from the store, so it works with any launcher.

    Args:
        client: A client of the store.
        experiment: Id of the experiment.
        parent: Id of the sweep's own run.
        total: How many runs the sweep is to end.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    query = f"tags.`{store.PARENT}` = '{parent}'"
    before = {run.info.run_id for run in store.runs(client, experiment, query)}
    stop = threading.Event()

    def look(progress: Progress, seen: set[str], ended_since: int = 0) -> None:
        recent = f" and attributes.end_time >= {ended_since}" if ended_since else ""
        try:
            if not store.answers(client.tracking_uri):
                return
            runs = store.runs(client, experiment, query + recent)
        except Exception:  # a store that does not answer for a moment must not end what is going on
            return
        for run in runs:
            if run.info.run_id in seen or run.info.status == store.RUNNING:
                continue
            seen.add(run.info.run_id)
            progress.console.print(_line(run), highlight=False, soft_wrap=True, markup=False)
            elapsed = progress.tasks[0].elapsed or 0.0
            done = len(seen - before)
            progress.update(
                progress.tasks[0].id,
                completed=done,
                rate=f"{60 * done / elapsed:.1f} runs/min" if elapsed else "",
            )

    with Progress(*columns, console=on_stderr()) as progress:
        progress.add_task("runs", total=total, rate="")
        seen = set(before)

        def watch() -> None:
            # A look at all of a thousand runs takes a second; the last one, below, misses none.
            pause = 1.0
            while not stop.wait(pause):
                started = time.monotonic()
                look(progress, seen, int(1000 * (time.time() - pause - LATE_S)))
                pause = max(1.0, REST * (time.monotonic() - started))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            look(progress, seen)


def _line(run: "Run") -> str:
    metrics = run.data.metrics
    if run.info.status == store.WAITING:
        return f"WAITING {run.info.run_name}: {run.data.tags.get(store.WAITS_FOR, '')}"
    if run.info.status != store.FINISHED:
        return f"{run.info.status} {run.info.run_name}: {run.data.tags.get('error', '')}"
    alarms = run.data.tags.get("alarms")
    f1 = f"F1 {metrics['test/f1']:.3f}, " if "test/f1" in metrics else ""
    return (
        f"{run.info.run_name}: {f1}kept "
        f"{metrics.get('labels/kept_fraction', float('nan')):.0%} of the labels, {metrics.get('wall_s', 0):.1f} s"
        + (f"\n  ALARM: {alarms}" if alarms else "")
    )
