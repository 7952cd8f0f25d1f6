"""What a run found, on disk until the store has it: a store that fails costs no computation.

A result is a folder `<identity>-<run id>`: `artifacts/`, and `logged.json` with the run's tags and metrics. The next
run with the same identity logs it and computes nothing.

While a run computes, its tables are in folders `<identity>-<run id>.tables.new`, which are no result. A run that is
killed leaves them behind, and the next run on this machine removes them.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from silvertune.evaluation.result_tables import ResultTables
from silvertune.tracking import disk, processes

_OWNER = "owner.json"
"""Which process writes a folder of tables."""


@dataclass(frozen=True)
class Summary:
    """What is logged of a result beside its artifacts."""

    tags: dict[str, str]
    metrics: dict[str, float]


def keep(tracking: Mapping[str, Any], identity: str, run_id: str, write: Callable[[Path], Summary]) -> Path:
    """Write a result to disk, whole or not at all.

    Args:
        tracking: The configuration's `tracking`.
        identity: What decides the result, as a digest.
        run_id: The run that computed it.
        write: Writes the artifacts into a folder and returns the rest.

    Returns:
        The result's folder: in `tracking.dir`, or among the temporary files where that disk is full.

    Raises:
        OSError: It can be written to neither.
    """
    places = _places(tracking)
    for number, place in enumerate(places):
        new = place / f"{identity}-{run_id}.new"
        try:
            (new / "artifacts").mkdir(parents=True)
            summary = write(new / "artifacts")
            (new / "logged.json").write_text(json.dumps(asdict(summary)), encoding="utf-8")
            return new.rename(new.with_suffix(""))
        except BaseException as error:
            shutil.rmtree(new, ignore_errors=True)
            if disk.full_place(error, tracking) is None or number == len(places) - 1:
                raise
    raise AssertionError("there is no place")


@contextmanager
def tables(tracking: Mapping[str, Any], identity: str, run_id: str) -> Iterator[ResultTables]:
    """Folders for the tables of a run while the block runs; what killed runs have left behind is removed.

    Args:
        tracking: The configuration's `tracking`.
        identity: What decides the result, as a digest.
        run_id: The run that computes it.

    Yields:
        The tables, empty; in `tracking.dir`, or among the temporary files where that disk is full.
    """
    folders = []
    for place in _places(tracking):
        _remove_left_behind(place)
        folder = place / f"{identity}-{run_id}.tables.new"
        folders.append(folder)
        with suppress(OSError):  # a full disk: what is written there later fails and goes to the next place
            folder.mkdir(parents=True)
            (folder / _OWNER).write_text(json.dumps(processes.tags()), encoding="utf-8")
    try:
        yield ResultTables(*folders)
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind(place: Path) -> None:
    """Remove the tables of runs whose process was one of this machine and is gone."""
    for folder in place.glob("*.tables.new"):
        with suppress(OSError, ValueError):  # another process removes it too, or has not written it yet
            owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
            if processes.is_gone(owner):
                shutil.rmtree(folder)


def find(tracking: Mapping[str, Any], identity: str, is_at_work: Callable[[str], bool]) -> Path | None:
    """The folder of a result that was computed and could not be logged; None if there is none.

    Args:
        tracking: The configuration's `tracking`.
        identity: What decides the result, as a digest.
        is_at_work: Says of a run's id whether that run is still at work, and may log its result itself.
    """
    return next((kept for kept in _kept(tracking, identity) if not is_at_work(kept.name.rpartition("-")[2])), None)


def summary(kept: Path) -> Summary:
    """What is logged of the result in `kept` beside its artifacts."""
    return Summary(**json.loads((kept / "logged.json").read_text(encoding="utf-8")))


def count(tracking: Mapping[str, Any], identities: set[str]) -> dict[Path, int]:
    """How many results with these identities wait in which folder."""
    by_place: dict[Path, int] = {}
    for identity in identities:
        for kept in _kept(tracking, identity):
            by_place[kept.parent] = by_place.get(kept.parent, 0) + 1
    return by_place


def _kept(tracking: Mapping[str, Any], identity: str) -> Iterator[Path]:
    for place in _places(tracking):
        for kept in sorted(place.glob(f"{identity}-*")):
            if kept.suffix != ".new":
                yield kept


def _places(tracking: Mapping[str, Any]) -> list[Path]:
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    beside = Path(tempfile.gettempdir()) / f"silvertune-unlogged-{user}"
    return [Path(tracking["dir"]).absolute() / "unlogged", beside]
