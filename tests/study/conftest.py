"""One finished study for all tests that look at one: a sweep of eight runs is most of a minute of CPU time."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from tests import blank_figures, cli


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A finished study of four arms and two seeds, with its `stdout.txt`; no test changes its store."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{folder}.lock"):  # the processes of a test session share it
        if not (folder / "stdout.txt").exists():
            folder.mkdir()
            cli.write_tables(folder)
            cli.write_study(folder)
            done = cli.silvertune(folder, "experiments=tiny", **{blank_figures.DRAWN: "1"})
            assert done.returncode == 0, done.stderr
            (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))
