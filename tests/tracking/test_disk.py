"""A full disk is named, before a run starts or when it fills up; what was computed is kept where there is room."""

import errno
import json
import os
import shutil
import subprocess
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from silvertune.errors import UserError
from silvertune.tracking import disk, processes, unlogged

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def tracking(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "mlruns").mkdir()
    return {"uri": None, "dir": str(tmp_path / "mlruns")}


@pytest.mark.parametrize("full", ["tracking.dir", "TMPDIR"])
def test_a_full_disk_is_told_before_a_run_starts(
    tracking: dict[str, object], monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    disk.check(tracking)
    folder = tracking["dir"] if full == "tracking.dir" else tempfile.gettempdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 0 if str(path) == str(folder) else 1 << 30))
    with pytest.raises(UserError) as caught:
        disk.check(tracking)
    words = "the disk is full (0 bytes are free, and a run needs 1,048,576 to start); make room"
    assert str(caught.value) == f"{full}={folder}: {words}"


def test_a_full_disk_is_recognised_behind_other_errors(tracking: dict[str, object]) -> None:
    file = f"{tracking['dir']}/artifacts/x"
    for cause in (OSError(errno.ENOSPC, "No space", file), OSError(errno.EDQUOT, "quota", file)):
        error = RuntimeError("could not save")
        error.__cause__ = cause
        assert f"tracking.dir={tracking['dir']}: the disk is full" in str(disk.full_place(error, tracking))
    assert "the disk is full" in str(disk.full_place(Exception("(sqlite3) database or disk is full"), tracking))
    assert disk.full_place(OSError(errno.EACCES, "no"), tracking) is None
    assert disk.full_place(ValueError("full of errors"), tracking) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs to mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_result_that_does_not_fit_is_kept_among_the_temporary_files(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    tracking = {"uri": None, "dir": str(small_disk)}

    def write(folder: Path) -> unlogged.Summary:
        (folder / "votes").write_bytes(b"x" * 500_000)
        return unlogged.Summary({"a": "b"}, {"f1": float("nan")})

    kept = unlogged.keep(tracking, "i", "r", write)
    assert kept.is_relative_to(tmp_path / "tmp")
    assert (kept / "artifacts" / "votes").stat().st_size == 500_000
    assert unlogged.summary(kept).tags == {"a": "b"}
    assert unlogged.find(tracking, "i", lambda run: False) == kept
    assert unlogged.find(tracking, "i", lambda run: True) is None
    assert unlogged.find(tracking, "j", lambda run: False) is None
    assert unlogged.count(tracking, {"i", "j"}) == {kept.parent: 1}


def test_a_result_is_kept_whole_or_not_at_all(tracking: dict[str, object]) -> None:
    def interrupted(folder: Path) -> unlogged.Summary:
        (folder / "votes").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlogged.keep(tracking, "i", "r", interrupted)
    assert unlogged.find(tracking, "i", lambda run: False) is None
    assert list((Path(str(tracking["dir"])) / "unlogged").iterdir()) == []


def test_tables_are_in_a_folder_of_their_own_until_the_run_ends(tracking: dict[str, object]) -> None:
    place = Path(str(tracking["dir"])) / "unlogged"

    def interrupted() -> None:
        with unlogged.tables(tracking, "i", "r") as tables:
            tables.add("votes", pd.DataFrame({"label": ["cat"]}))
            assert len(list(place.rglob("votes-*.parquet"))) == 1
            assert unlogged.find(tracking, "i", lambda run: False) is None
            with unlogged.tables(tracking, "i", "other"):  # of the same process, which is there
                assert tables.read("votes")["label"].to_list() == ["cat"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(place.iterdir()) == []


def test_what_a_killed_run_leaves_behind_is_removed_by_the_next_one(tracking: dict[str, object]) -> None:
    left = Path(str(tracking["dir"])) / "unlogged" / "i-r.tables.new"
    elsewhere = left.with_name("j-r.tables.new")
    gone = {**processes.tags(), "pid_started": "0"}
    for folder, owner in ((left, gone), (elsewhere, {**gone, "host": "another"})):
        folder.mkdir(parents=True)
        (folder / "owner.json").write_text(json.dumps(owner))
        (folder / "votes-1.parquet").write_bytes(b"half")
    with unlogged.tables(tracking, "k", "r"):
        assert not left.exists()
        assert elsewhere.exists()  # nobody here can tell whether its process is at work
