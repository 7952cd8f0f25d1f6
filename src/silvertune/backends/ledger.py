"""The ledger: what the answer store is for labels, for tuning jobs. Nothing is submitted or paid for twice.

One row a training set's content key:

| state | meaning | what a later claim does |
| --- | --- | --- |
| claimed | one process is about to submit the job | waits for the owner; takes over where it is gone |
| sent | the request may have reached the provider | looks the job up; never sends it again by itself |
| running | the provider has the job, under the name `job` | polls it |
| succeeded | the result is at the provider | collects it |
| failed, cancelled | the job ended without a result | submits a new attempt |
| unknown | it was sent, and the provider lists no such job | stops, until `forget` |

What a job may cost is set aside before it is submitted, so that all processes together stay below the budget.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa

from silvertune.databases.engine import INSERTS, opened, without_password
from silvertune.databases.owner import is_gone, new_owner
from silvertune.errors import UserError

_TABLES = sa.MetaData()
_jobs = sa.Table(
    "tuning_jobs",
    _TABLES,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("lease_ends", sa.Float, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("reserved_usd", sa.Float, nullable=False),
    sa.Column("billed_usd", sa.Float, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)
UNFINISHED = ("claimed", "sent", "running", "unknown")
"""States in which a job may still cost what was set aside for it."""


@dataclass(frozen=True)
class Entry:
    """A row of the ledger.

    Attributes:
        key: Content key of the training set.
        attempt: 0, 1, ...: how often a job for it ended without a result.
        state: See the module.
        job: The provider's name for the job; empty where it has none yet.
        reserved_usd: Set aside while the job is unfinished.
        billed_usd: What its attempts have cost.
        message: Why it is in its state.
        is_mine: The caller has to submit it.
    """

    key: str
    attempt: int
    state: str
    job: str
    reserved_usd: float
    billed_usd: float
    message: str
    is_mine: bool = False

    @property
    def label(self) -> str:
        """The label that the provider keeps with the job: by it the job is found again. At most 63 of [a-z0-9-]."""
        return f"{self.key[:56]}-{self.attempt}"


class BudgetError(UserError):
    """The budget has no room for another job; what was paid for is kept."""


class Ledger:
    """The ledger at a SQLAlchemy URL, SQLite or PostgreSQL, shared by all processes.

    Args:
        url: The database.
        budget_usd: The most that all jobs of this ledger may ever cost together; None: no limit.
        lease_s: Seconds after which a claim of another machine is void. A claim of a process of this machine that is
            gone is void at once.
    """

    def __init__(self, url: str, *, budget_usd: float | None, lease_s: float) -> None:
        self.url, self.budget_usd, self.lease_s = url, budget_usd, lease_s
        self.owner = new_owner()

    @property
    def address(self) -> str:
        """Where the ledger is, without a password, for messages."""
        return without_password(self.url)

    @cached_property
    def _engine(self) -> sa.Engine:
        return opened(self.url, "backend.ledger", _TABLES)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("LOCK TABLE tuning_jobs IN EXCLUSIVE MODE"))
            yield connection

    def claim(self, key: str, reserve_usd: float) -> Entry:
        """Take the right to submit the job of a training set, in one transaction.

        Args:
            key: The training set's content key.
            reserve_usd: The most that the job can cost.

        Returns:
            The entry. `is_mine` says that the caller has to submit it, or to look it up where its state is `sent`.

        Raises:
            BudgetError: The budget has no room for the job.
        """
        with self._transaction() as connection:
            row = connection.execute(sa.select(_jobs).where(_jobs.c.key == key)).one_or_none()
            if row is None or row.state in ("failed", "cancelled"):
                self._check_budget(connection, reserve_usd)
                attempt = 0 if row is None else row.attempt + 1
                billed = 0.0 if row is None else row.billed_usd
                values = {"attempt": attempt, "state": "claimed", "job": "", "reserved_usd": reserve_usd,
                          "billed_usd": billed, "message": "", **self._owned()}  # fmt: skip
                insert = INSERTS[connection.dialect.name](_jobs).values(key=key, **values)
                connection.execute(insert.on_conflict_do_update(index_elements=[_jobs.c.key], set_=values))
            elif row.state in ("claimed", "sent"):
                if row.owner != self.owner and not (is_gone(row.owner) or row.lease_ends < time.time()):
                    return _entry(row)
                connection.execute(sa.update(_jobs).where(_jobs.c.key == key).values(**self._owned()))
            else:
                return _entry(row)
            row = connection.execute(sa.select(_jobs).where(_jobs.c.key == key)).one()
            return _entry(row, is_mine=True)

    def _owned(self) -> dict[str, object]:
        now = time.time()
        return {"owner": self.owner, "lease_ends": now + self.lease_s, "changed_at": now}

    def _check_budget(self, connection: sa.Connection, reserve_usd: float) -> None:
        if self.budget_usd is None:
            return
        committed = self._committed(connection)
        if committed + reserve_usd > self.budget_usd + 1e-9:
            raise BudgetError(
                f"backend.budget_usd={self.budget_usd:g}: ${committed:.2f} of it is spent or set aside, and the next "
                f"tuning job may cost ${reserve_usd:.2f}; what was paid for is kept: raise the budget and run the same "
                "command to go on"
            )

    def _committed(self, connection: sa.Connection) -> float:
        billed = connection.execute(sa.select(sa.func.sum(_jobs.c.billed_usd))).scalar() or 0.0
        reserved = sa.select(sa.func.sum(_jobs.c.reserved_usd)).where(_jobs.c.state.in_(UNFINISHED))
        return float(billed + (connection.execute(reserved).scalar() or 0.0))

    def mark_sent(self, key: str) -> bool:
        """Say, durably and before the request leaves, that the job may exist from now on.

        Returns:
            Whether the claim is still this object's. One that waited longer than its lease may have lost it.
        """
        with self._transaction() as connection:
            claim = sa.update(_jobs).where(_jobs.c.key == key, _jobs.c.state == "claimed", _jobs.c.owner == self.owner)
            return connection.execute(claim.values(state="sent", **self._owned())).rowcount == 1

    def mark_running(self, key: str, job: str) -> None:
        """Say that the provider has the job."""
        self._set(key, state="running", job=job)

    def mark_unknown(self, key: str, message: str) -> None:
        """Say that a request was sent and nobody knows whether it took."""
        self._set(key, state="unknown", message=message)

    def mark_ended(self, key: str, state: str, cost_usd: float, message: str = "") -> None:
        """Say how a job ended, and what it cost.

        Args:
            key: The training set's content key.
            state: `succeeded`, `failed` or `cancelled`.
            cost_usd: What this attempt cost.
            message: The provider's words.
        """
        with self._transaction() as connection:
            row = connection.execute(sa.select(_jobs).where(_jobs.c.key == key)).one()
            if row.state not in UNFINISHED:
                return  # another process has seen it end, and counted what it cost
            values = {"state": state, "message": message[:1000], "billed_usd": row.billed_usd + cost_usd}
            connection.execute(
                sa.update(_jobs).where(_jobs.c.key == key).values(**values, reserved_usd=0.0, changed_at=time.time())
            )

    def forget(self, key: str) -> None:
        """Let a job of state `unknown` be submitted anew: somebody has looked that the provider does not have it.

        Raises:
            UserError: The ledger has no such job in that state.
        """
        with self._transaction() as connection:
            query = sa.update(_jobs).where(_jobs.c.key == key, _jobs.c.state == "unknown")
            values = {"state": "failed", "message": "forgotten", "reserved_usd": 0.0, "changed_at": time.time()}
            if not connection.execute(query.values(**values)).rowcount:
                raise UserError(f"key={key}: {self.address} has no job of state unknown with that key")

    def entries(self) -> list[Entry]:
        """All entries, those that changed first at the front."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_jobs).order_by(_jobs.c.changed_at, _jobs.c.key)).all()
        return [_entry(row) for row in rows]

    def entry(self, key: str) -> Entry | None:
        """The entry of a key, if there is one."""
        with self._transaction() as connection:
            row = connection.execute(sa.select(_jobs).where(_jobs.c.key == key)).one_or_none()
        return None if row is None else _entry(row)

    def committed_usd(self) -> float:
        """Dollars that were billed or are set aside."""
        with self._transaction() as connection:
            return self._committed(connection)

    def _set(self, key: str, **values: object) -> None:
        with self._transaction() as connection:
            connection.execute(sa.update(_jobs).where(_jobs.c.key == key).values(**values, **self._owned()))


def _entry(row: "sa.Row[tuple[object, ...]]", *, is_mine: bool = False) -> Entry:
    columns = row._mapping
    names = ("key", "attempt", "state", "job", "reserved_usd", "billed_usd", "message")
    return Entry(**{name: columns[name] for name in names}, is_mine=is_mine)
