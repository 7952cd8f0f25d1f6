"""What a sweep shows while it runs: a bar with rate and time left, and a line for each run that ends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@contextmanager
def shown(client: "MlflowClient", experiment: str, parent: str, total: int) -> Iterator[None]:
    """Watch the runs under `parent` until `total` of them have ended; read from the store, so with any launcher."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    query = f"tags.`mlflow.parentRunId` = '{parent}'"
    before = {found.info.run_id for found in store.runs(client, experiment, query)}
    stop = threading.Event()

    def look(progress: Progress, seen: set[str]) -> None:
        try:
            there = store.runs(client, experiment, query)
        except Exception:  # a store that does not answer for a moment must not end what is going on
            return
        for found in there:
            if found.info.run_id in seen or found.info.status == store.RUNNING:
                continue
            seen.add(found.info.run_id)
            progress.console.print(_line(found), highlight=False, soft_wrap=True)
            elapsed = progress.tasks[0].elapsed or 0.0
            done = len(seen - before)
            progress.update(
                progress.tasks[0].id,
                completed=done,
                rate=f"{60 * done / elapsed:.1f} runs/min" if elapsed else "",
            )

    with Progress(*columns, console=Console(stderr=True)) as progress:
        progress.add_task("runs", total=total, rate="")
        seen = set(before)

        def watch() -> None:
            while not stop.wait(1.0):
                look(progress, seen)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            look(progress, seen)


def _line(found: "Run") -> str:
    values = found.data.metrics
    if found.info.status != store.FINISHED:
        return f"{found.info.status} {found.info.run_name}: {found.data.tags.get('error', '')}"
    alarms = found.data.tags.get("alarms")
    return (
        f"{found.info.run_name}: F1 {values.get('test/f1', float('nan')):.3f}, kept "
        f"{values.get('labels/kept_fraction', float('nan')):.0%} of the labels, {values.get('wall_s', 0):.1f} s"
        + (f"\n  ALARM: {alarms}" if alarms else "")
    )
