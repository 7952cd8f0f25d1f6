"""A finished study, and copies of it."""

import shutil
from pathlib import Path

import pytest
from tests import finished_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A finished study of four arms and two seeds, with its `stdout.txt`; no test changes its store."""
    return finished_study.made(finished_study.folder(tmp_path_factory.getbasetemp(), worker_id))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))
