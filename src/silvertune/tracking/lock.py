"""What one process at a time does in a store, such as to begin a sweep."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from silvertune.tracking import database, store


@contextmanager
def held(tracking: Mapping[str, Any], what: Literal["sweeps", "view"]) -> Iterator[None]:
    """Have no other process do the same in this store while the block runs. A process that ends gives the lock back.

    PostgreSQL keeps the lock itself. For any other store it is a file: beside a SQLite file, and in `tracking.dir` for
    a server, so that machines that do not share that folder do not wait for each other there.

    Args:
        tracking: The configuration's `tracking`, of a store that is there.
        what: `sweeps`: a sweep begins. `view`: an experiment's saved view is written.

    Raises:
        OSError: The file can't be written.
        sqlalchemy.exc.SQLAlchemyError: The database does not answer.
    """
    address = store.uri(tracking)
    if not address.startswith("postgresql"):
        file = database.path_of(address) or Path(tracking["dir"]) / "mlflow"
        with FileLock(file.absolute().with_suffix(f".{what}.lock")):
            yield
        return
    import sqlalchemy as sa

    engine = sa.create_engine(address, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True)
    with engine.connect() as connection:  # its end gives the lock back
        name = f"silvertune {what}"
        connection.execute(sa.text("SELECT pg_advisory_lock(:number)"), {"number": zlib.crc32(name.encode())})
        yield
