"""What became of requests to LLMs: as objects, as rows of the answer store, and as columns of votes."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from silvertune.errors import UserError, either

COLUMNS = (
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
"""Name and type of the columns of an outcome in a database."""
_MODEL = 1 + [name for name, _ in COLUMNS].index("model")
Row = tuple[Any, ...]
"""Of `answers` or `payments`: the key, then what `COLUMNS` names; `probs` as JSON."""


class Outcome(NamedTuple):
    """What became of a request.

    Attributes:
        status: As in `silvertune.votes`.
        word: The label's word, where it is ok.
        probs: Word -> probability, where told.
        confidence: The one the LLM claims.
        raw: What it said, or why nothing came.
        signs: See `silvertune.llms.untrusted_text.signs`.
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


class Outcomes(Mapping[str, Outcome]):
    """Outcomes by key, kept as the rows of the database and decoded when they are looked at.

    A labelling of a hundred thousand votes reads them by column: to make an object of each takes longer than the
    database does.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows = {row[0]: row for row in rows}

    def __getitem__(self, key: str) -> Outcome:
        _, status, word, probs, *rest = self._rows[key]
        return Outcome(status, word, None if probs is None else json.loads(probs), *rest)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def statuses(self) -> Counter[str]:
        """Status -> how many outcomes have it."""
        return Counter(row[1] for row in self._rows.values())

    def models(self) -> set[str]:
        """The models that answered, as they call themselves."""
        return {row[_MODEL] for row in self._rows.values() if row[_MODEL]}

    def update(self, others: Mapping[str, Outcome]) -> None:
        """Add the outcomes of `others`, in place of those of the same keys."""
        if isinstance(others, Outcomes):
            self._rows |= others._rows
        else:
            self._rows |= {key: tuple(row_of(key, outcome).values()) for key, outcome in others.items()}

    def lacking(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that have no outcome."""
        return [key for key in keys if key not in self._rows]

    def columns(self, keys: Sequence[str | None], absent: Outcome, words: Iterable[str]) -> dict[str, list[Any]]:
        """The outcomes of `keys`, by column.

        Args:
            keys: One a row; they may repeat.
            absent: What a key that has no outcome gets, and a key that is None.
            words: What could be answered.

        Returns:
            The name of each field of `Outcome` but `probs` -> its values, and `prob:<word>` for each word -> its
            probabilities or None; one value a key.

        Raises:
            UserError: A row is as no labelling writes it: the store was edited or is damaged.
        """
        words = list(words)
        blank = tuple(row_of("", absent).values())
        rows = [self._rows.get(key, blank) for key in keys]
        for row in {id(row): row for row in rows if row[1] == "ok" and row[2] not in words}.values():
            raise _damaged(row, f"the label {row[2]!r}; want {either(words)}")
        columns = {name: list(map(itemgetter(place), rows)) for place, (name, _) in enumerate(COLUMNS, start=1)}
        try:
            return columns | _probs_by_word(columns.pop("probs"), words)
        except (ValueError, AttributeError):
            damaged = next(row for row in rows if not _is_object(row[3]))
            raise _damaged(damaged, f"probs={damaged[3]!r}; want a JSON object of word and probability") from None


def _is_object(text: str | None) -> bool:
    try:
        return text is None or isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _damaged(row: Row, what: str) -> UserError:
    return UserError(
        f"labeler.store: the stored answer {row[0]} has {what}; delete its row (from answers, or from payments), and "
        "it is asked again"
    )


def _probs_by_word(texts: Sequence[str | None], words: Iterable[str]) -> dict[str, list[float | None]]:
    """`prob:<word>` -> probabilities. A thousand objects at a time: that is few calls and never many objects."""
    columns: dict[str, list[float | None]] = {word: [] for word in words}
    for start in range(0, len(texts), 1000):
        probs_by_item = json.loads(f"[{','.join([text or '{}' for text in texts[start : start + 1000]])}]")
        for word, column in columns.items():
            column.extend([probs.get(word) for probs in probs_by_item])
    return {f"prob:{word}": column for word, column in columns.items()}


def row_of(key: str, outcome: Outcome) -> dict[str, Any]:
    """An outcome as a row of the answer store."""
    row = {"key": key, **outcome._asdict()}
    row["probs"] = None if outcome.probs is None else json.dumps(dict(outcome.probs), ensure_ascii=False)
    # No database takes half a character, nor PostgreSQL a null one.
    for name in ("raw", "model"):
        row[name] = row[name].replace("\x00", "").encode("utf-8", "replace").decode()
    return row
