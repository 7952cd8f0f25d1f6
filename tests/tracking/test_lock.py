"""One at a time: whoever holds a store's lock is alone, and a process that is killed gives it back."""

import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from silvertune.tracking import lock

fork = multiprocessing.get_context("fork")


@pytest.fixture
def tracking(database_url: str, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "deep").mkdir()
    return {"uri": database_url, "dir": str(tmp_path)}


def test_whoever_holds_it_is_alone(tracking: dict[str, Any]) -> None:
    events: list[str] = []

    def hold() -> None:
        with lock.held(tracking, "sweeps"):
            events.append("in")
            time.sleep(0.02)
            events.append("out")

    threads = [threading.Thread(target=hold) for _ in range(5)]
    with lock.held(tracking, "view"):  # another matter
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert events == ["in", "out"] * 5


def test_a_killed_process_gives_it_back(tracking: dict[str, Any], tmp_path: Path) -> None:
    def hold_and_die() -> None:
        with lock.held(tracking, "sweeps"):
            (tmp_path / "held").touch()
            os._exit(9)

    process = fork.Process(target=hold_and_die)
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert (tmp_path / "held").exists()
    with lock.held(tracking, "sweeps"):
        pass


def test_a_server_is_locked_in_the_folder(tmp_path: Path) -> None:
    with lock.held({"uri": "http://127.0.0.1:1", "dir": str(tmp_path)}, "sweeps"):
        assert [file.name for file in tmp_path.iterdir()] == ["mlflow.sweeps.lock"]
