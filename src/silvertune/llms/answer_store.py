"""The answer store: what LLMs answered, shared by every sweep and process, so that nothing is paid for twice.

Three tables. `answers` holds labels, by a key that is a digest of all that can change them; successes only. `payments`
holds what every request that came back has cost, labels or not; it is only ever added to. `leases` holds what is being
asked at this moment and by whom: nobody else asks it, until the lease is given back or expires.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from silvertune.databases.engine import INSERTS, opened
from silvertune.databases.owner import is_gone, new_owner

_TABLES = sa.MetaData()
_ANSWERED = (
    ("status", sa.String(12)),
    ("word", sa.Text),
    ("probs", sa.Text),
    ("confidence", sa.Float),
    ("raw", sa.Text),
    ("signs", sa.Text),
    ("model", sa.Text),
    ("tokens_in", sa.Integer),
    ("tokens_out", sa.Integer),
    ("cost_usd", sa.Float),
)


def _columns() -> list[Any]:
    return [sa.Column(name, kind) for name, kind in _ANSWERED]


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
_MOST_VARIABLES = 10_000


class Outcome(NamedTuple):
    """What became of a request.

    Attributes:
        status: As in `silvertune.votes`.
        word: The label's word, where it is ok.
        probs: Word -> probability, where told.
        confidence: The one the LLM claims.
        raw: What it said, or why nothing came.
        signs: See `untrusted.signs`.
        tokens_in: Of all that was answered, a repair included.
        tokens_out: Of all that was answered, a repair included.
        cost_usd: Of all that was answered, a repair included.
    """

    status: str
    word: str | None
    probs: Mapping[str, float] | None
    confidence: float | None
    raw: str
    signs: str | None
    model: str
    tokens_in: int
    tokens_out: int
    cost_usd: float


@dataclass(frozen=True)
class Claim:
    """Attributes:
    known: Outcomes that need not be asked for.
    mine: Keys to be asked by the claimant, now under its lease.
    busy: Keys that somebody else is asking.
    too_dear: Keys for which the budget has no room now.
    """

    known: dict[str, Outcome]
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

    @cached_property
    def _engine(self) -> sa.Engine:
        engine = opened(self.url, "store.url", _TABLES)
        self._insert = INSERTS[engine.dialect.name]
        return engine

    @cached_property
    def _connection(self) -> sa.Connection:
        return self._engine.connect()

    def _exists(self) -> bool:
        file = sa.make_url(self.url).database if self.url.startswith("sqlite:") else None
        return file is None or Path(file).is_file()

    def close(self) -> None:
        """Give back all leases and let go of the database."""
        if "_connection" not in vars(self):
            return
        with self._connection.begin():
            self._connection.execute(sa.delete(_leases).where(_leases.c.owner == self.owner))
        self._connection.close()
        del self._connection

    def read(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """The outcomes that are there, by key. Makes no database where there is none."""
        outcomes: dict[str, Outcome] = {}
        if not self._exists():
            return outcomes
        with self._connection.begin():
            for some in _chunks(keys):
                outcomes |= self._known(some)
        return outcomes

    def claim(self, keys: Sequence[str], reserve: Sequence[float]) -> Claim:
        """Take leases on those of `keys` that are neither answered nor asked by others.

        Args:
            reserve: For each key, the dollars that asking it may cost at most.
        """
        now = time.time()
        with self._connection.begin():
            if self.budget_usd is not None and self._engine.dialect.name == "postgresql":
                self._connection.execute(sa.text("LOCK TABLE leases IN EXCLUSIVE MODE"))
            self._void(keys, now)
            affordable, too_dear = self._affordable(keys, reserve)
            rows = [{"key": key, "owner": self.owner, "expires": now + self.lease_s, "reserved_usd": usd}
                    for key, usd in affordable.items()]  # fmt: skip
            if rows:
                self._connection.execute(self._insert(_leases).on_conflict_do_nothing(), rows)
            taken = self._connection.execute(sa.select(_leases.c.key, _leases.c.owner).where(_leases.c.key.in_(keys)))
            owners = {row.key: row.owner for row in taken}
            # Only now: whoever gave a lease back before we took it has committed its answer before that.
            known = self._known(keys)
            answered = [key for key in keys if key in known and owners.get(key) == self.owner]
            if answered:
                self._connection.execute(sa.delete(_leases).where(_leases.c.key.in_(answered)))
        return Claim(
            known,
            [key for key in keys if key not in known and owners.get(key) == self.owner],
            [key for key in keys if key not in known and owners.get(key, self.owner) != self.owner],
            [key for key in too_dear if key not in known and key not in owners],
        )

    def save(self, outcomes: Mapping[str, Outcome]) -> None:
        """Commit outcomes and give their leases back, in one transaction. Only labels become answers."""
        now = time.time()
        rows = {key: {"key": key, **_row(outcome)} for key, outcome in outcomes.items()}
        answers = [row for row in rows.values() if row["status"] == "ok"]
        paid = [{**row, "at": now} for row in rows.values() if row["status"] != "api_error" or row["cost_usd"]]
        with self._connection.begin():
            if answers:
                self._connection.execute(self._insert(_answers).on_conflict_do_nothing(), answers)
            if paid:
                self._connection.execute(sa.insert(_payments), paid)
            mine = (_leases.c.key.in_(list(rows))) & (_leases.c.owner == self.owner)
            self._connection.execute(sa.delete(_leases).where(mine))

    def release(self, keys: Sequence[str]) -> None:
        """Give leases back without an outcome."""
        with self._connection.begin():
            for some in _chunks(keys):
                mine = _leases.c.key.in_(some) & (_leases.c.owner == self.owner)
                self._connection.execute(sa.delete(_leases).where(mine))

    def renew(self) -> None:
        """Extend all leases of this store object."""
        with self._connection.begin():
            mine = sa.update(_leases).where(_leases.c.owner == self.owner)
            self._connection.execute(mine.values(expires=time.time() + self.lease_s))

    def spent_usd(self) -> float:
        """What was ever paid for what is in this store."""
        with self._connection.begin():
            return float(self._connection.execute(sa.select(sa.func.sum(_payments.c.cost_usd))).scalar() or 0.0)

    def _known(self, keys: Sequence[str]) -> dict[str, Outcome]:
        found = self._outcomes(sa.select(*_wanted(_answers)).where(_answers.c.key.in_(keys)))
        if rest := [key for key in keys if key not in found]:
            lately = _payments.c.at > max(time.time() - self.remember_s, _asked_again_since)
            without_label = _payments.c.status.not_in(["ok", "api_error"])
            found |= self._outcomes(
                sa.select(*_wanted(_payments)).where(_payments.c.key.in_(rest), without_label, lately)
            )
        return found

    def _outcomes(self, query: "sa.Select[Any]") -> dict[str, Outcome]:
        rows = self._connection.execute(query).all()
        # All at once: a hundred thousand calls of the decoder would take longer than the database does.
        probs_of_rows = json.loads(f"[{','.join(row.probs or 'null' for row in rows)}]")
        return {
            key: Outcome(status, word, probs, *rest)
            for (key, status, word, _, *rest), probs in zip(rows, probs_of_rows, strict=True)
        }

    def _void(self, keys: Sequence[str], now: float) -> None:
        """Delete leases on `keys` that have expired, or whose process on this machine is gone."""
        query = sa.select(_leases.c.key, _leases.c.owner, _leases.c.expires).where(_leases.c.key.in_(keys))
        found = self._connection.execute(query).all()
        gone = {owner for owner in {owner for _, owner, _ in found} if is_gone(owner)}
        void = [key for key, owner, expires in found if expires < now or owner in gone]
        if void:
            self._connection.execute(sa.delete(_leases).where(_leases.c.key.in_(void)))

    def _affordable(self, keys: Sequence[str], reserve: Sequence[float]) -> tuple[dict[str, float], list[str]]:
        if self.budget_usd is None:
            return dict(zip(keys, reserve, strict=True)), []
        spent = self._connection.execute(sa.select(sa.func.sum(_payments.c.cost_usd))).scalar() or 0.0
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


def _wanted(table: sa.Table) -> list[Any]:
    return [table.c.key, *(table.c[name] for name, _ in _ANSWERED)]


def _chunks(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _MOST_VARIABLES] for start in range(0, len(keys), _MOST_VARIABLES))


def _row(outcome: Outcome) -> dict[str, Any]:
    row = outcome._asdict()
    row["probs"] = None if outcome.probs is None else json.dumps(dict(outcome.probs), ensure_ascii=False)
    # No database takes half a character, nor PostgreSQL a null one.
    for name in ("raw", "model"):
        row[name] = row[name].replace("\x00", "").encode("utf-8", "replace").decode()
    return row
