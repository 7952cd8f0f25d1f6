"""Which process works on a run, and whether it still does.

A process that can be seen from here is judged by what the operating system says of it (`silvertune.databases.owner`).
A sweep that is out of sight (another container, another machine) beats: it changes a tag of its own run every few
seconds.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from silvertune.databases.owner import place, start_time
from silvertune.tracking import store

if TYPE_CHECKING:
    import psutil
    from mlflow import MlflowClient
    from mlflow.entities import Run

BEAT_S = 10.0
"""Seconds between two beats of a sweep."""
PATIENCE_S = 60.0
"""A sweep out of sight that does not beat for so many seconds is gone."""

_sweeps_of_this_process: set[str] = set()
"""Ids of the sweeps that work in this process now; a notebook's process outlives its sweeps."""


def tags() -> dict[str, str]:
    """Describe this process, for the tags of a run that it works on.

    Returns:
        `host`, `boot` and `pid_namespace` (empty where the system has none), `pid`, and `pid_started`: the time of
        its start in clock ticks since the boot, or in seconds since 1970 where the system has no `/proc`.
    """
    return {**place(), "pid": str(os.getpid()), "pid_started": start_time(os.getpid())}


@contextmanager
def beating(client: "MlflowClient", sweep_id: str) -> Iterator[None]:
    """Show, while the block runs, that the sweep is at work.

    Args:
        client: A client of the store.
        sweep_id: Id of the sweep's own run, whose tag `beat` changes every `BEAT_S` seconds.
    """
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while True:
            with suppress(Exception):  # a store that does not answer for a moment must not end what is going on
                client.set_tag(sweep_id, "beat", f"{os.getpid()}-{time.monotonic_ns()}-{number}")
            number += 1
            if stop.wait(BEAT_S):
                return

    thread = threading.Thread(target=beat, daemon=True)
    _sweeps_of_this_process.add(sweep_id)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        _sweeps_of_this_process.discard(sweep_id)


def reap(client: "MlflowClient", experiment: str, say: Callable[[str], None] = lambda line: None) -> int:
    """Mark as KILLED the runs left RUNNING whose process, or whose sweep's process, is gone.

    Workers outlive a sweep that is killed. What they would still finish is about to be done again, so those that
    can be seen from here are ended first.

    Args:
        client: A client of the store.
        experiment: Id of the experiment.
        say: Is called with a line before a sweep out of sight is watched, which takes up to `PATIENCE_S` seconds.

    Returns:
        How many runs were marked.
    """
    every_running = store.runs(client, experiment, "attributes.status = 'RUNNING'")
    running = [run for run in every_running if "pid" in run.data.tags]  # the others are not silvertune's
    sweeps = {run.info.run_id: run for run in running if store.PARENT not in run.data.tags}
    alive_sweeps = {run_id for run_id, run in sweeps.items() if _works_in_sight(run_id, run.data.tags)}
    out_of_sight = [
        run for run_id, run in sweeps.items() if run_id not in alive_sweeps and not _in_sight(run.data.tags)
    ]
    alive_sweeps |= _that_beat(client, out_of_sight, say)
    dead = [run for run in sweeps.values() if run.info.run_id not in alive_sweeps]
    for run in running:
        sweep_id = run.data.tags.get(store.PARENT)
        if sweep_id is None:
            continue
        sweep_is_alive = sweep_id in alive_sweeps or (sweep_id not in sweeps and _is_alive_elsewhere(client, sweep_id))
        if not sweep_is_alive or is_gone(run.data.tags):
            dead.append(run)
    for run in dead:
        kill(client, run)
    return len(dead)


def kill(client: "MlflowClient", run: "Run") -> None:
    """Mark a run as KILLED, and end the process that still works on it, where it can be seen and is not this one."""
    process = process_of(run.data.tags) if _in_sight(run.data.tags) else None
    if process is not None and process.pid != os.getpid():
        process.kill()
        process.wait(10)
    client.set_tag(run.info.run_id, "error", "its process ended without a word (killed?)")
    client.set_terminated(run.info.run_id, store.KILLED)


def process_of(run_tags: Mapping[str, str]) -> "psutil.Process | None":
    """The process that the tags name, if it is there and is no later process with the same number.

    Args:
        run_tags: The tags of a run whose process can be seen from here.
    """
    import psutil

    try:
        process = psutil.Process(int(run_tags["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE or start_time(process.pid) != run_tags["pid_started"]:
            return None
    except (psutil.NoSuchProcess, OSError, KeyError, ValueError):
        return None
    return process


def _works_in_sight(sweep_id: str, run_tags: Mapping[str, str]) -> bool:
    if not _in_sight(run_tags):
        return False
    process = process_of(run_tags)
    if process is None or process.pid != os.getpid() or "sweep" not in run_tags:
        return process is not None
    return sweep_id in _sweeps_of_this_process


def is_gone(process_tags: Mapping[str, str]) -> bool:
    """Whether a process could be seen from here, if it were there, and is not.

    Args:
        process_tags: What `tags` said in that process.
    """
    return _in_sight(process_tags) and process_of(process_tags) is None


def _in_sight(process_tags: Mapping[str, str]) -> bool:
    """Whether the process could be seen from here, if it were there."""
    return all(process_tags.get(name) == value for name, value in place().items())


def _that_beat(client: "MlflowClient", sweeps: "Iterable[Run]", say: Callable[[str], None]) -> set[str]:
    """The ids of those sweeps that beat within `PATIENCE_S`; one that never did can't be judged and counts as alive."""
    alive = {run.info.run_id for run in sweeps if "beat" not in run.data.tags}
    waiting = {run.info.run_id: run.data.tags["beat"] for run in sweeps if run.info.run_id not in alive}
    if waiting:
        say(f"{len(waiting)} sweep(s) of another machine or container are RUNNING; watching for up to "
            f"{PATIENCE_S:.0f} s whether they are at work")  # fmt: skip
    until = time.monotonic() + PATIENCE_S
    while waiting and time.monotonic() < until:
        time.sleep(min(1.0, PATIENCE_S / 10))
        for run_id in list(waiting):
            if client.get_run(run_id).data.tags.get("beat") != waiting[run_id]:
                alive.add(run_id)
                del waiting[run_id]
    return alive


def _is_alive_elsewhere(client: "MlflowClient", sweep_id: str) -> bool:
    """Whether a sweep that no search finds as RUNNING is at work: one that was deleted in MLflow meanwhile may be."""
    from mlflow.exceptions import MlflowException

    try:
        sweep = client.get_run(sweep_id)
    except MlflowException:
        return False
    if sweep.info.status != store.RUNNING:
        return False
    return not _in_sight(sweep.data.tags) or _works_in_sight(sweep_id, sweep.data.tags)
