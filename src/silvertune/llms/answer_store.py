"""The answer store: what LLMs answered, shared by every sweep and process, so that nothing is paid for twice.

Three tables. `answers` holds labels, by a key that is a digest of all that can change them; successes only. `payments`
holds what every request that came back has cost, labels or not; it is only ever added to. `leases` holds what is being
asked at this moment and by whom: nobody else asks it, until the lease is given back or expires.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from silvertune.databases.engine import INSERTS, opened, told
from silvertune.databases.owner import is_gone, new_owner
from silvertune.llms.outcomes import COLUMNS, Outcome, Outcomes, row_of

_TABLES = sa.MetaData()


def _columns() -> list[Any]:
    return [sa.Column(name, kind) for name, kind in COLUMNS]


_answers = sa.Table("answers", _TABLES, sa.Column("key", sa.String(64), primary_key=True), *_columns())
_payments = sa.Table(
    "payments",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    *_columns(),
)
_leases = sa.Table(
    "leases",
    _TABLES,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False, index=True),
    sa.Column("expires", sa.Float, nullable=False),
    sa.Column("reserved_usd", sa.Float, nullable=False),
)
_KEYS_AT_A_TIME = 50_000


@dataclass(frozen=True)
class Claim:
    """Attributes:
    known: Outcomes that need not be asked for.
    mine: Keys to be asked by the claimant, now under its lease.
    busy: Keys that somebody else is asking.
    too_dear: Keys for which the budget has no room now.
    """

    known: Outcomes
    mine: list[str]
    busy: list[str]
    too_dear: list[str]


_asked_again_since = 0.0


def ask_failures_again(since: float) -> None:
    """Forget, in this process, the answers without a label that came before the sweep began.

    Args:
        since: When the sweep was started, in seconds since 1970. The same for all jobs of a sweep.
    """
    global _asked_again_since
    _asked_again_since = since


class AnswerStore:
    """The store at a SQLAlchemy URL; SQLite and PostgreSQL.

    Args:
        lease_s: A lease that is not renewed for so long is void. On one machine, a lease whose process is gone is
            void at once.
        remember_s: A request that was answered without a label (refused, truncated, unreadable) is not asked again
            by the same sweep for so long, so that all its arms see the same (`ask_failures_again`). Failures to
            reach the LLM are never remembered.
        budget_usd: The most that may be paid for the answers in this store, ever and by all processes together;
            null: no limit. What a request may cost at most is set aside before it is sent.

    Raises:
        UserError: The database can't be opened.
    """

    def __init__(self, url: str, *, lease_s: float, remember_s: float, budget_usd: float | None) -> None:
        self.url, self.lease_s, self.remember_s, self.budget_usd = url, lease_s, remember_s, budget_usd
        self.owner = new_owner()
        self.keeps_leases = False  # what is asked goes on without this process
        self._spent_usd, self._last_payment = 0.0, -1

    @cached_property
    def _engine(self) -> sa.Engine:
        engine = opened(self.url, "store.url", _TABLES)
        self._insert = INSERTS[engine.dialect.name]
        return engine

    @cached_property
    def _connection(self) -> sa.Connection:
        return self._engine.connect()

    def _of_keys(self, table: sa.Table) -> "sa.ColumnElement[bool]":
        """Whether the key of a row stands in the parameter `keys`, a JSON array of any length."""
        return table.c.key.in_(_KEYS[self._engine.dialect.name])

    def _exists(self) -> bool:
        file = sa.make_url(self.url).database if self.url.startswith("sqlite:") else None
        return file is None or Path(file).is_file()

    def close(self) -> None:
        """Give back all leases, unless `keeps_leases`, and let go of the database."""
        if "_connection" not in vars(self):
            return
        if not self.keeps_leases:
            with self._writing_leases():
                self._connection.execute(sa.delete(_leases).where(_leases.c.owner == self.owner))
        self._connection.close()
        del self._connection

    def read(self, keys: Sequence[str]) -> Outcomes:
        """The outcomes that are there. Makes no database where there is none."""
        outcomes = Outcomes()
        if not self._exists():
            return outcomes
        in_order = sorted(keys)  # as the index is: one page of it serves neighbours
        for start in range(0, len(in_order), _KEYS_AT_A_TIME):
            with self._transaction():
                outcomes.update(self._known(in_order[start : start + _KEYS_AT_A_TIME]))
        return outcomes

    def claim(self, keys: Sequence[str], reserve: Sequence[float]) -> Claim:
        """Take leases on those of `keys` that are neither answered nor asked by others.

        Args:
            reserve: For each key, the dollars that asking it may cost at most.
        """
        now = time.time()
        with self._writing_leases():
            if self.budget_usd is not None and self._engine.dialect.name == "postgresql":
                self._connection.execute(sa.text("LOCK TABLE leases IN EXCLUSIVE MODE"))
            self._void(keys, now)
            affordable, too_dear = self._affordable(keys, reserve)
            rows = [{"key": key, "owner": self.owner, "expires": now + self.lease_s, "reserved_usd": usd}
                    for key, usd in affordable.items()]  # fmt: skip
            if rows:
                self._connection.execute(self._insert(_leases).on_conflict_do_nothing(), rows)
            leased = sa.select(_leases.c.key, _leases.c.owner).where(self._of_keys(_leases))
            owners = {row[0]: row[1] for row in self._connection.execute(leased, {"keys": json.dumps(keys)})}
            # Only now: whoever gave a lease back before we took it has committed its answer before that.
            answers = self._known(keys)
            answered = [key for key in keys if key in answers and owners.get(key) == self.owner]
            if answered:
                self._give_back(answered)
        return Claim(
            answers,
            [key for key in keys if key not in answers and owners.get(key) == self.owner],
            [key for key in keys if key not in answers and owners.get(key, self.owner) != self.owner],
            [key for key in too_dear if key not in answers and key not in owners],
        )

    def save(self, outcomes: Mapping[str, Outcome]) -> None:
        """Commit outcomes and give their leases back, in one transaction. Only labels become answers."""
        now = time.time()
        rows = [row_of(key, outcome) for key, outcome in outcomes.items()]
        answers = [row for row in rows if row["status"] == "ok"]
        paid = [{**row, "at": now} for row in rows if row["status"] != "api_error" or row["cost_usd"]]
        with self._transaction():
            # First, as a claim locks the leases: it never sees a payment before one with a lower number.
            self._give_back(list(outcomes))
            if answers:
                self._connection.execute(self._insert(_answers).on_conflict_do_nothing(), answers)
            if paid:
                self._connection.execute(sa.insert(_payments), paid)

    def release(self, keys: Sequence[str]) -> None:
        """Give leases back without an outcome."""
        with self._writing_leases():
            self._give_back(keys)

    def renew(self) -> None:
        """Extend all leases of this store object."""
        with self._writing_leases():
            mine = sa.update(_leases).where(_leases.c.owner == self.owner)
            self._connection.execute(mine.values(expires=time.time() + self.lease_s))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with told(self.url, "store.url"), self._connection.begin():
            yield

    @contextmanager
    def _writing_leases(self) -> Iterator[None]:
        """A transaction that does not wait for the disk: a loss of power ends the processes that lease, too."""
        connection = self._connection.connection.driver_connection if self._engine.dialect.name == "sqlite" else None
        try:
            if connection is not None:
                connection.execute("PRAGMA synchronous = NORMAL")
            with self._transaction():
                yield
        finally:
            if connection is not None:
                connection.execute("PRAGMA synchronous = FULL")

    def spent_usd(self) -> float:
        """What was ever paid for what is in this store."""
        with self._transaction():
            return float(self._connection.execute(sa.select(sa.func.sum(_payments.c.cost_usd))).scalar() or 0.0)

    def set_aside_usd(self) -> tuple[float, float]:
        """What is set aside for requests of others, and how much of it for those that are asked at this moment."""
        of_owners = sa.select(_leases.c.owner, sa.func.max(_leases.c.expires), sa.func.sum(_leases.c.reserved_usd))
        with self._transaction():
            query = of_owners.where(_leases.c.owner != self.owner).group_by(_leases.c.owner)
            rows = self._connection.execute(query).all()
        asked = [usd for owner, expires, usd in rows if expires > time.time() and not is_gone(owner)]
        return sum(usd for _, _, usd in rows), sum(asked)

    def _known(self, keys: Sequence[str]) -> Outcomes:
        outcomes = self._outcomes(_answers, keys)
        if len(outcomes) < len(keys) and (rest := outcomes.lacking(keys)):
            lately = _payments.c.at > max(time.time() - self.remember_s, _asked_again_since)
            without_label = _payments.c.status.not_in(["ok", "api_error"])
            outcomes.update(self._outcomes(_payments, rest, without_label, lately))
        return outcomes

    def _outcomes(self, table: sa.Table, keys: Sequence[str], *conditions: "sa.ColumnElement[bool]") -> Outcomes:
        condition = self._of_keys(table)
        if self._engine.dialect.name == "sqlite":
            # By the index to the numbers of the rows, then to the rows in the order in which they are on disk.
            number: sa.ColumnClause[int] = sa.literal_column("rowid")
            condition = number.in_(sa.select(number).select_from(table).where(condition))
        columns = [table.c.key, *(table.c[name] for name, _ in COLUMNS)]
        query = sa.select(*columns).where(condition, *conditions)
        cursor = self._connection.execute(query, {"keys": json.dumps(keys)}).cursor
        # The driver's own tuples: SQLAlchemy's rows take as long as the reading does.
        return Outcomes(cursor.fetchall() if cursor is not None else ())

    def _give_back(self, keys: Sequence[str]) -> None:
        mine = sa.delete(_leases).where(self._of_keys(_leases), _leases.c.owner == self.owner)
        self._connection.execute(mine, {"keys": json.dumps(keys)})

    def _void(self, keys: Sequence[str], now: float) -> None:
        """Delete leases on `keys` that have expired, or whose process on this machine is gone."""
        query = sa.select(_leases.c.key, _leases.c.owner, _leases.c.expires).where(self._of_keys(_leases))
        leases = self._connection.execute(query, {"keys": json.dumps(keys)}).all()
        gone = {owner for owner in {owner for _, owner, _ in leases} if is_gone(owner)}
        if void := [key for key, owner, expires in leases if expires < now or owner in gone]:
            self._connection.execute(sa.delete(_leases).where(self._of_keys(_leases)), {"keys": json.dumps(void)})

    def _spent_until_now(self) -> float:
        """What `spent_usd` says, by a look at the payments since the last claim: there may be millions."""
        further = sa.select(sa.func.sum(_payments.c.cost_usd), sa.func.max(_payments.c.id))
        usd, last = self._connection.execute(further.where(_payments.c.id > self._last_payment)).one()
        if last is not None:
            self._spent_usd, self._last_payment = self._spent_usd + (usd or 0.0), last
        return self._spent_usd

    def _affordable(self, keys: Sequence[str], reserve: Sequence[float]) -> tuple[dict[str, float], list[str]]:
        if self.budget_usd is None:
            return dict(zip(keys, reserve, strict=True)), []
        spent = self._spent_until_now()
        set_aside = self._connection.execute(sa.select(sa.func.sum(_leases.c.reserved_usd))).scalar() or 0.0
        left, affordable, too_dear = self.budget_usd - spent - set_aside, {}, []
        for key, usd in zip(keys, reserve, strict=True):
            if usd <= left:
                left -= usd
                affordable[key] = usd
            else:
                too_dear.append(key)
        return affordable, too_dear


def canonical(content: Mapping[str, Any]) -> bytes:
    """One way to write `content`, to be part of a key."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode()


_KEYS = {
    "sqlite": sa.select(sa.func.json_each(sa.bindparam("keys")).table_valued("value").c.value),
    "postgresql": sa.select(
        sa.func.json_array_elements_text(sa.cast(sa.bindparam("keys", type_=sa.Text), sa.JSON)).column_valued("wanted")
    ),
}
"""Dialect -> the keys in the parameter `keys`, a JSON array: a parameter a key would have a most, and be slower."""
