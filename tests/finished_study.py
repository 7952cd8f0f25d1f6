"""One finished study for all tests that look at one: a sweep of eight runs is most of a minute of CPU time."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from tests import blank_figures, cli, forked, stores


def folder(session_folder: Path, worker_id: str) -> Path:
    """Where it is: one for all processes of a test session."""
    return (session_folder if worker_id == "master" else session_folder.parent) / "finished"


def begin(place: Path) -> threading.Thread:
    """Make it beside the first tests, so that none of the processes of a session waits for another one to make it."""
    stores.made()  # once, before the thread and a test want it at the same moment
    thread = threading.Thread(target=made, args=(place, dict(os.environ)))
    thread.start()
    return thread


def made(place: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """A finished study of four arms and two seeds, with its `stdout.txt`, made where it is not there yet."""
    with FileLock(f"{place}.lock"):
        if not (place / "stdout.txt").exists():
            place.mkdir(exist_ok=True)
            cli.write_tables(place)
            cli.write_study(place)
            drawn = {**environment, blank_figures.DRAWN: "1"}
            done = forked.run("silvertune.__main__", place, ("experiments=tiny",), drawn)
            assert done.returncode == 0, done.stderr
            (place / "stdout.txt").write_text(done.stdout)
    return place
