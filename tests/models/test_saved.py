"""Folders of tuned predictors: whole or not there."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tests import made

from silvertune.models import saved

LOADER = f"{__name__}.load_note"


def test_a_folder_is_there_when_all_went_well(tmp_path: Path) -> None:
    with saved.new_folder(tmp_path / "new" / "model", LOADER, {"classes": ["ä"]}) as folder:
        (folder / "note.txt").write_text("tuned")
        assert not (tmp_path / "new" / "model").exists()
    assert saved.read(tmp_path / "new" / "model") == {
        "loader": LOADER,
        "classes": ["ä"],
        "files": ["note.txt", saved.ABOUT],
    }
    assert (tmp_path / "new" / "model" / "note.txt").read_text() == "tuned"
    assert os.listdir(tmp_path / "new") == ["model"]
    assert stat.S_IMODE((tmp_path / "new" / "model").stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_nothing_is_left_of_what_was_not_finished(tmp_path: Path, error: BaseException) -> None:
    def write() -> None:
        with saved.new_folder(tmp_path / "model", LOADER, {}) as folder:
            (folder / "half.bin").write_bytes(b"x" * 100)
            raise error

    with pytest.raises(type(error)):
        write()
    assert os.listdir(tmp_path) == []


def test_the_files_that_count_are_those_that_were_saved(tmp_path: Path) -> None:
    with saved.new_folder(tmp_path / "model", LOADER, {}) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "numbers.bin").write_bytes(b"1")
        (folder / "README.md").write_text("a card")
    (tmp_path / "model" / "notes.txt").write_text("good one")
    files = {str(file.relative_to(tmp_path / "model")) for file in saved.files(tmp_path / "model") if file.is_file()}
    assert files == {"inner/numbers.bin", saved.ABOUT}


def test_of_a_folder_of_0_1_every_file_counts(tmp_path: Path) -> None:
    (tmp_path / saved.ABOUT).write_text(json.dumps({"loader": LOADER}))
    (tmp_path / "numbers.bin").write_bytes(b"1")
    assert {file.name for file in saved.files(tmp_path)} == {saved.ABOUT, "numbers.bin"}


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    told = made.refused(f"can't be saved to {tmp_path / 'model'}", "No space left on device")
    with told, saved.new_folder(tmp_path / "model", LOADER, {}):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    with saved.new_folder(tmp_path / "model", LOADER, {"number": 1}):
        pass
    with made.refused("can't be saved to"), saved.new_folder(tmp_path / "model", LOADER, {"number": 2}):
        pass
    assert saved.read(tmp_path / "model")["number"] == 1
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_without_a_model_is_told(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / saved.ABOUT).write_text(content)
    with made.refused(f"{tmp_path}: holds no tuned model of silvertune", "silvertune.json"):
        saved.load(tmp_path)


def test_a_model_is_loaded_by_what_it_says_of_itself(user: Any, tmp_path: Path) -> None:
    module = user("def load(folder):\n    return (folder / 'note.txt').read_text()\n")
    with saved.new_folder(tmp_path / "model", f"{module}.load", {}) as folder:
        (folder / "note.txt").write_text("tuned")
    assert saved.load(tmp_path / "model") == "tuned"
    assert json.loads((tmp_path / "model" / saved.ABOUT).read_text())["loader"] == f"{module}.load"
