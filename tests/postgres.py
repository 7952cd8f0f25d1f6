"""A PostgreSQL of the tests' own: a private cluster on a free port of this machine, one for all processes of a session.

SILVERTUNE_TEST_POSTGRES names another server, such as `postgresql+pg8000://user@host/database`; its user may make
databases.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from filelock import FileLock

DEBIANS = Path("/usr/lib/postgresql")
SETTINGS = (
    "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "shared_buffers=16MB",
    "fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off", "log_min_messages=fatal",
)  # fmt: skip
ENDS_WITH_THE_SESSION = 'while kill -0 "$1"; do sleep 1; done; kill -INT "$2"; sleep 2; rm -rf "$3"'
"""Where tests are killed, nobody else would stop the cluster."""


def server(shared: Path, session: int) -> str:
    """The URL of a server for the tests, which is started by the first process that asks.

    Args:
        shared: A folder of all processes of the test session.
        session: The process that the session ends with.

    Returns:
        The URL of a database from which others can be made.
    """
    if named := os.environ.get("SILVERTUNE_TEST_POSTGRES"):
        return named
    initdb, postgres = _program("initdb"), _program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("SILVERTUNE_TEST_POSTGRES is not set, and no PostgreSQL (initdb, postgres) is installed here")
    note = shared / "postgres.txt"
    with FileLock(f"{note}.lock"):
        if not note.exists():
            note.write_text(_started(initdb, postgres, session))
    return note.read_text()


@contextmanager
def database(of_server: str) -> Iterator[str]:
    """The URL of a new database of the server; it is dropped in the end."""
    name = f"silvertune_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(of_server, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield sa.make_url(of_server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def _program(name: str) -> str | None:
    newest = sorted(DEBIANS.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return shutil.which(name) or next((str(path) for path in reversed(newest)), None)


def _started(initdb: str, postgres: str, session: int) -> str:
    folder = Path(tempfile.mkdtemp(prefix="silvertune-postgres-"))
    user = _user(folder)
    data = str(folder / "data")
    command = [initdb, "-D", data, "-U", "silvertune", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **user)
    for _ in range(5):  # another process may take the port meanwhile
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        with (folder / "log").open("a") as log:
            cluster = subprocess.Popen(
                [postgres, "-D", data, "-p", str(port), *settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=folder, start_new_session=True, **user,
            )  # fmt: skip
        url = f"postgresql+pg8000://silvertune@127.0.0.1:{port}/postgres"
        if _answers(cluster, url):
            subprocess.Popen(
                ["sh", "-c", ENDS_WITH_THE_SESSION, "sh", str(session), str(cluster.pid), str(folder)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            return url
    raise AssertionError(f"PostgreSQL does not start: {(folder / 'log').read_text()}")


def _user(folder: Path) -> dict[str, Any]:
    """What starts a process as somebody who may run PostgreSQL: root may not."""
    import pwd

    if os.geteuid():
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _answers(cluster: "subprocess.Popen[bytes]", url: str) -> bool:
    """Whether the cluster takes connections; waits for that while it starts."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    for _ in range(600):
        try:
            with engine.connect():
                return True
        except (sa.exc.SQLAlchemyError, OSError):
            try:
                cluster.wait(0.05)
                return False
            except subprocess.TimeoutExpired:
                continue
    cluster.kill()
    return False
