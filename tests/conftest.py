"""Fixtures that every test may use. The data makers are plain functions in `made`."""

import copy
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import fake_storage, made, stores

from silvertune import import_path
from silvertune.schema import Task
from silvertune.tracking import database


@pytest.fixture(scope="session", autouse=True)
def quick_database() -> Iterator[None]:
    """A new MLflow database is a copy of one that was made."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database, "_open", stores.copy_or_open)
        yield


def pytest_collection_finish() -> None:
    """What was imported and collected stays: looking through it for garbage again and again takes 5% of the suite."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: what a library packed may hold the time, and each worker must collect the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """`gs://` and the name of a new bucket of the fake Cloud Storage, which libraries in this test talk to."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake_storage.address())
    return fake_storage.new_bucket()


@pytest.fixture
def task() -> Task:
    """Binary: soe against other, soe is positive."""
    return copy.deepcopy(made.SOE)


@pytest.fixture
def colours() -> Task:
    """Three classes, none of them positive."""
    return copy.deepcopy(made.COLOURS)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a user's module, importable under the name that it returns; each has a new one."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code: str, name: str = "mine") -> str:
        unique = f"{name}_{abs(hash(str(tmp_path)))}"
        (tmp_path / f"{unique}.py").write_text("import pandas as pd\n" + code)
        import_path.source_digest.cache_clear()
        return unique

    return write
