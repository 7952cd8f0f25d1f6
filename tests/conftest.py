"""Fixtures that every test may use. The data makers are plain functions in `made`."""

import copy
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from tests import blank_figures, fake_storage, finished_study, made, postgres, stores

from silvertune import import_path
from silvertune.schema import Task


@pytest.fixture(scope="session", autouse=True)
def quick_database() -> Iterator[None]:
    """A new MLflow database is a copy of one that was made."""
    with pytest.MonkeyPatch.context() as patched:
        stores.be_quick(patched)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clients of providers trust one authority: each client reads the file anew, and that of certifi has 140."""
    first = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----")
    file = tmp_path_factory.mktemp("authority") / "one.pem"
    file.write_text("".join(first[:2]) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(scope="session", autouse=True)
def study_begun(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str, quick_database: None
) -> Iterator[None]:
    """The first of several processes makes the finished study at once, where tests will look at it."""
    is_looked_at = any("finished" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if worker_id != "gw0" or not is_looked_at:
        yield
        return
    making = finished_study.begin(finished_study.folder(tmp_path_factory.getbasetemp(), worker_id))
    yield
    making.join()


@pytest.fixture(scope="module", autouse=True)
def quick_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are drawn in the tests of reports."""
    blank_figures.draw(drawn="reports" in request.path.parts)
    yield
    blank_figures.draw(drawn=True)


def pytest_configure() -> None:
    """A shell's background job ignores SIGINT: the tests that interrupt themselves would wait there for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> str:
    """The URL of a PostgreSQL server, started once for all processes of the session; skips where there is none."""
    base = tmp_path_factory.getbasetemp()
    alone = worker_id == "master"
    return postgres.server(base if alone else base.parent, os.getpid() if alone else os.getppid())


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new database of that server."""
    with postgres.database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is not there yet, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'shared.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))
