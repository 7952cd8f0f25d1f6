"""The ledger: what the answer store is for labels, for tuning jobs. Nothing is submitted or paid for twice.

One row a training set's content key:

| state | meaning | what a later command does |
| --- | --- | --- |
| claimed | one process is about to submit the job | waits for that process; takes over where it is gone |
| sent | the request may have reached the provider | looks the job up; never sends it again by itself |
| running | the provider has the job, under the name `job` | polls it |
| succeeded | the result is at the provider | collects it |
| failed, cancelled | the job ended without a result | submits a new attempt |
| unknown | it was sent, and the provider lists no such job | looks it up once more, then stops, until `forget` |

What a job may cost is set aside before it is submitted, so that all processes together stay below the budget.
"""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from silvertune.databases.engine import INSERTS, opened, told, without_password
from silvertune.databases.owner import in_words, is_gone, new_owner
from silvertune.errors import UserError, check_number

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
        reserved_usd: Dollars that are set aside while the job is unfinished.
        billed_usd: Dollars that all attempts have cost.
        message: Why it is in its state.
        changed_at: When it came into its state, in seconds since 1970.
        is_mine: Whether the caller has to submit it, or to look it up where its state is `sent`.
    """

    key: str
    attempt: int
    state: str
    job: str
    reserved_usd: float
    billed_usd: float
    message: str
    changed_at: float
    is_mine: bool = False

    @property
    def label(self) -> str:
        """The label that the provider keeps with the job: by it the job is found again. At most 63 of [a-z0-9-]."""
        return f"{self.key[:56]}-{self.attempt}"


class BudgetError(UserError):
    """The budget has no room for another job; what was paid for is kept."""


class Ledger:
    """The ledger at a SQLAlchemy URL, SQLite or PostgreSQL, shared by all processes.

    A change of a row names the attempt that it is about. A process that was slow or cut off can't change what others
    have made of the row since.

    Args:
        url: The database.
        budget_usd: The most that all jobs of this ledger may ever cost together; None: no limit.
        lease_s: Seconds after which a claim is void that its process has neither sent nor given back. The claim of a
            process that could be seen from here and is gone is void at once.

    Raises:
        UserError: A setting is out of range. Each method raises it as well where the database can't be used.
    """

    def __init__(self, url: str, *, budget_usd: float | None, lease_s: float) -> None:
        if budget_usd is not None:
            check_number("backend.ledger.budget_usd", budget_usd)
        check_number("backend.ledger.lease_s", lease_s, above=True)
        self.url, self.budget_usd, self.lease_s = url, budget_usd, lease_s
        self._owners: dict[tuple[int, int], str] = {}

    @property
    def owner(self) -> str:
        """The name under which this thread claims by this object; another one in a process that was forked with it."""
        caller = os.getpid(), threading.get_ident()
        if caller not in self._owners:
            self._owners[caller] = new_owner()
        return self._owners[caller]

    @property
    def address(self) -> str:
        """Where the ledger is, without a password, for messages."""
        return without_password(self.url)

    @cached_property
    def _engine(self) -> sa.Engine:
        return opened(self.url, "backend.ledger.url", _TABLES)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with told(self.url, "backend.ledger.url"), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._reading() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("LOCK TABLE tuning_jobs IN EXCLUSIVE MODE"))
            yield connection

    def claim(self, key: str, reserve_usd: float, *, new_attempt: bool = True) -> Entry:
        """Take the right to submit the job of a training set, in one transaction.

        Args:
            key: The training set's content key.
            reserve_usd: The most that the job can cost.
            new_attempt: Whether a job that ended without a result is submitted anew.

        Returns:
            The entry. `is_mine` says that the caller has to submit it, or to look it up where its state is `sent`.

        Raises:
            BudgetError: The budget has no room for the job.
        """
        if not (math.isfinite(reserve_usd) and reserve_usd >= 0):
            raise UserError(f"backend: a tuning job is estimated at {reserve_usd} dollars; want a number from 0")
        with self._writing() as connection:
            row, now = _row(connection, key), _now(connection)
            lease: dict[str, object] = {"owner": self.owner, "lease_ends": now + self.lease_s}
            if row is not None and row.state == "sent" and _is_void(row, now):
                connection.execute(sa.update(_jobs).where(_jobs.c.key == key).values(**lease))
                return _entry(row, is_mine=True)
            if not (
                row is None
                or (row.state == "claimed" and _is_void(row, now))
                or (row.state in ("failed", "cancelled") and new_attempt)
            ):
                return _entry(row)
            self._check_budget(connection, key, reserve_usd, now)
            values = {
                "attempt": 0 if row is None else row.attempt + (row.state != "claimed"), "state": "claimed", "job": "",
                "reserved_usd": reserve_usd, "billed_usd": 0.0 if row is None else row.billed_usd, "message": "",
                "changed_at": now, **lease,
            }  # fmt: skip
            insert = INSERTS[connection.dialect.name](_jobs).values(key=key, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=[_jobs.c.key], set_=values))
            return _entry(_row(connection, key), is_mine=True)

    def release(self, key: str) -> None:
        """Let any process take over, at once, a job that this one has claimed and does not go on with."""
        mine = (_jobs.c.key == key) & (_jobs.c.owner == self.owner) & _jobs.c.state.in_(("claimed", "sent"))
        with self._writing() as connection:
            connection.execute(sa.update(_jobs).where(mine).values(lease_ends=0.0))

    def _check_budget(self, connection: sa.Connection, key: str, reserve_usd: float, now: float) -> None:
        if self.budget_usd is None:
            return
        committed = _committed(connection, now, except_for=key)
        if committed + reserve_usd > self.budget_usd + 1e-9:
            raise BudgetError(
                f"backend.ledger.budget_usd={self.budget_usd:g}: ${committed:.2f} of it is spent or set aside, and the "
                f"next tuning job may cost ${reserve_usd:.2f}; what was paid for is kept: raise the budget, or wait "
                "for jobs to end that cost less than was set aside, and run the same command to go on"
            )

    def mark_sent(self, entry: Entry) -> bool:
        """Say, durably and before the request leaves, that the job may exist from now on.

        Returns:
            Whether the claim is still the caller's. One that waited longer than its lease may have lost it.
        """
        with self._writing() as connection:
            now = _now(connection)
            claim = sa.update(_jobs).where(
                _same_attempt(entry), _jobs.c.state == "claimed", _jobs.c.owner == self.owner, _jobs.c.lease_ends >= now
            )
            values = {"state": "sent", "lease_ends": now + self.lease_s, "changed_at": now}
            return connection.execute(claim.values(**values)).rowcount == 1

    def mark_not_sent(self, entry: Entry) -> None:
        """Say that the provider made no job and may take one later: any process may claim it anew."""
        with self._writing() as connection:
            values = {"state": "claimed", "lease_ends": 0.0, "changed_at": _now(connection)}
            mine = sa.update(_jobs).where(_same_attempt(entry), _jobs.c.state == "sent", _jobs.c.owner == self.owner)
            connection.execute(mine.values(**values))

    def mark_running(self, entry: Entry, job: str) -> None:
        """Say that the provider has the job, whoever sent it and whatever was thought of it meanwhile.

        Raises:
            UserError: The row is about another attempt by now: the job runs, and nobody will collect it.
        """
        with self._writing() as connection:
            values = {"state": "running", "job": job, "message": "", "reserved_usd": entry.reserved_usd,
                      "changed_at": _now(connection)}  # fmt: skip
            without_name = sa.update(_jobs).where(_same_attempt(entry), _jobs.c.job == "")
            if connection.execute(without_name.values(**values)).rowcount:
                return
            row = _row(connection, entry.key)
        if row is None or row.attempt != entry.attempt:
            raise UserError(
                f"backend: tuning job {job} runs and bills, and the ledger {self.address} has forgotten it: cancel it "
                "at the provider"
            )

    def mark_unknown(self, entry: Entry, message: str) -> bool:
        """Say that a request was sent and nobody knows whether it took.

        Returns:
            Whether that is so: another process may have found the job meanwhile.
        """
        with self._writing() as connection:
            values = {"state": "unknown", "message": _storable(message), "changed_at": _now(connection)}
            sent = sa.update(_jobs).where(_same_attempt(entry), _jobs.c.state == "sent")
            return connection.execute(sent.values(**values)).rowcount == 1

    def mark_ended(self, entry: Entry, state: str, cost_usd: float, message: str = "") -> None:
        """Say how a job ended, and what it cost; where another process has said so before, nothing changes.

        Args:
            entry: The job's entry.
            state: `succeeded`, `failed` or `cancelled`.
            cost_usd: What this attempt cost.
            message: The provider's words.
        """
        with self._writing() as connection:
            values = {"state": state, "message": _storable(message), "billed_usd": _jobs.c.billed_usd + cost_usd,
                      "reserved_usd": 0.0, "changed_at": _now(connection)}  # fmt: skip
            unfinished = sa.update(_jobs).where(_same_attempt(entry), _jobs.c.state.in_(UNFINISHED))
            connection.execute(unfinished.values(**values))

    def forget(self, key: str) -> Entry:
        """Let a job be submitted anew: somebody has looked, and it does not run at the provider, or its result is gone.

        What it cost stays spent; of a job that was seen running, that is what was set aside.

        Args:
            key: The content key.

        Returns:
            The entry as it was.

        Raises:
            UserError: The ledger has no job with that key that is unfinished or succeeded, or a process is submitting
                it now.
        """
        with self._writing() as connection:
            row, now = _row(connection, key), _now(connection)
            if row is None or row.state in ("failed", "cancelled"):
                raise UserError(f"key={key}: {self.address} has no job with that key that runs or has succeeded")
            if row.state in ("claimed", "sent") and not _is_void(row, now):
                raise UserError(f"key={key}: {in_words(row.owner)} is submitting that job now; end it first")
            lost = row.reserved_usd if row.state == "running" else 0.0
            values = {"state": "failed", "message": f"{row.state}, then forgotten", "reserved_usd": 0.0,
                      "billed_usd": row.billed_usd + lost, "changed_at": now}  # fmt: skip
            connection.execute(sa.update(_jobs).where(_jobs.c.key == key).values(**values))
            return _entry(row)

    def entries(self) -> list[Entry]:
        """All entries, those that changed first at the front."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(_jobs).order_by(_jobs.c.changed_at, _jobs.c.key)).all()
        return [_entry(row) for row in rows]

    def entry(self, key: str) -> Entry | None:
        """The entry of a key, if there is one."""
        with self._reading() as connection:
            row = _row(connection, key)
        return None if row is None else _entry(row)

    def committed_usd(self) -> float:
        """Dollars that were billed or are set aside."""
        with self._reading() as connection:
            return _committed(connection, _now(connection))


def _row(connection: sa.Connection, key: str) -> Any:
    return connection.execute(sa.select(_jobs).where(_jobs.c.key == key)).one_or_none()


def _now(connection: sa.Connection) -> float:
    """Seconds since 1970 by one clock for all processes: the database server's where there is one."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return time.time()


def _is_void(row: Any, now: float) -> bool:
    """Whether nobody works on a job that was claimed or sent."""
    return bool(row.lease_ends < now) or is_gone(row.owner)


def _committed(connection: sa.Connection, now: float, except_for: str = "") -> float:
    """Dollars that were billed, or are set aside for other jobs than that of a key. A void claim costs nothing."""
    billed = connection.execute(sa.select(sa.func.sum(_jobs.c.billed_usd))).scalar() or 0.0
    unfinished = connection.execute(sa.select(_jobs).where(_jobs.c.state.in_(UNFINISHED), _jobs.c.key != except_for))
    counted = [row.reserved_usd for row in unfinished if not (row.state == "claimed" and _is_void(row, now))]
    return float(billed + sum(counted))


def _same_attempt(entry: Entry) -> "sa.ColumnElement[bool]":
    return (_jobs.c.key == entry.key) & (_jobs.c.attempt == entry.attempt)


def _storable(text: str) -> str:
    """One line that every database takes: none takes half a character, nor PostgreSQL a null one."""
    return " ".join(text.replace("\x00", "").encode("utf-8", "replace").decode().split())[:1000]


def _entry(row: Any, *, is_mine: bool = False) -> Entry:
    names = [entry.name for entry in fields(Entry) if entry.name != "is_mine"]
    return Entry(**{name: row._mapping[name] for name in names}, is_mine=is_mine)
