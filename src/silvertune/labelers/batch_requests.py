"""Which request went with which batch, on disk before the batch is sent."""

from collections.abc import Collection, Iterable
from functools import cached_property

import sqlalchemy as sa

from silvertune.databases.engine import INSERTS, opened

_TABLES = sa.MetaData()
_requests = sa.Table(
    "batch_requests",
    _TABLES,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("batch", sa.String(64), nullable=False, index=True),
)
_AT_A_TIME = 500


class BatchRequests:
    """The requests whose batches were or will be sent, and whose results nobody has taken yet.

    Args:
        url: The database, that of the ledger.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @cached_property
    def _engine(self) -> sa.Engine:
        return opened(self.url, "labeler.store.url", _TABLES)

    def put(self, batch: str, names: Iterable[str]) -> None:
        """Write down that requests go with a batch; one that goes with another batch stays with that."""
        rows = [{"name": name, "batch": batch} for name in names]
        insert = INSERTS[self._engine.dialect.name](_requests).on_conflict_do_nothing()
        with self._engine.begin() as connection:
            connection.execute(insert, rows)

    def batches_of(self, names: Collection[str]) -> dict[str, str]:
        """Request -> the batch that it goes with, of those that go with one."""
        batches: dict[str, str] = {}
        with self._engine.begin() as connection:
            for some in _portions(names):
                query = sa.select(_requests.c.name, _requests.c.batch).where(_requests.c.name.in_(some))
                batches |= {row.name: row.batch for row in connection.execute(query)}
        return batches

    def names(self, batch: str) -> list[str]:
        """The requests that go with a batch."""
        with self._engine.begin() as connection:
            query = sa.select(_requests.c.name).where(_requests.c.batch == batch).order_by(_requests.c.name)
            return list(connection.execute(query).scalars())

    def drop(self, names: Collection[str]) -> None:
        """Forget requests: their results were taken, or they have none."""
        with self._engine.begin() as connection:
            for some in _portions(names):
                connection.execute(sa.delete(_requests).where(_requests.c.name.in_(some)))

    def drop_batch(self, batch: str) -> None:
        """Forget a batch that was not made."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_requests).where(_requests.c.batch == batch))


def _portions(names: Collection[str]) -> Iterable[list[str]]:
    in_order = list(names)
    return (in_order[start : start + _AT_A_TIME] for start in range(0, len(in_order), _AT_A_TIME))
