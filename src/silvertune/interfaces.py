"""What the parts of a run are: plain Protocols, nothing to inherit from, and what they hand to each other."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, Self

import pandas as pd

from silvertune.errors import UserError


@dataclass(frozen=True)
class Estimate:
    """What some work takes at most. It is known before anybody is asked and before anything is paid.

    Attributes:
        calls: Requests.
        stored: How many of the requests were answered earlier and cost nothing.
        tokens: Tokens of the other requests, both ways; of a tuning job, the tokens that it trains on.
        dollars: What the other requests, or the job, cost.
        seconds: How long they take at the configured rate; 0 where no rate is configured.
        notes: What to know about these figures, a line each.
    """

    calls: float = 0.0
    stored: float = 0.0
    tokens: float = 0.0
    dollars: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(*(getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)))

    def at_most(self, calls: float) -> "Estimate":
        """The same work with no more than so many calls."""
        share = min(1.0, calls / self.calls) if self.calls else 1.0
        names = [entry.name for entry in fields(self) if entry.name != "notes"]
        return replace(self, **{name: getattr(self, name) * share for name in names})


@dataclass(frozen=True)
class CheckResult:
    """One thing that `mode=check` looked at.

    Attributes:
        what: What was looked at.
        ok: Whether it will work.
        mend: What to do where it will not.
    """

    what: str
    ok: bool
    mend: str = ""


class Traits:
    """Optional attributes of a part, with the defaults that count where the part does not have them."""

    @classmethod
    def of(cls, part: object) -> Self:
        """The traits of `part`."""
        names = [entry.name for entry in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: getattr(part, name) for name in names if hasattr(part, name)})


def _nothing_to_reach() -> list[CheckResult]:
    return [CheckResult("nothing to reach", True)]


def _show_nobody(drafts: pd.DataFrame) -> None:
    """What a labeler does with drafts that it shows to nobody."""


@dataclass(frozen=True)
class LabelerTraits(Traits):
    """Optional attributes of a labeler.

    Attributes:
        first_only: Only the first vote with a label counts for an item's label (the rule of the paper's panel),
            whatever the aggregation.
        check: Looks for `mode=check` at packages, credentials and reachability, and labels nothing.
        show_drafts: Takes, before `label`, the labels that another labeler gave to the items, so that people correct
            these in place of starting from nothing: a table by item_id with `label` (may be null) and `confidence`.
    """

    first_only: bool = False
    check: Callable[[], list[CheckResult]] = _nothing_to_reach
    show_drafts: Callable[[pd.DataFrame], None] = _show_nobody


class Labeler(Protocol):
    """Makes votes for items; people, rules and machines alike. `LabelerTraits` are its optional attributes."""

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """Vote on items.

        Args:
            items: Items as `silvertune.items` describes them.

        Returns:
            Votes as `silvertune.votes` describes them.
        """
        ...

    def estimate(self, items: pd.DataFrame) -> Mapping[str, Estimate]:
        """What labelling `items` takes at most, by who would be asked. Asks nobody."""
        ...


@dataclass(frozen=True)
class PredictorTraits(Traits):
    """Optional attributes of a predictor.

    Attributes:
        history: What was measured in each epoch of its tuning, if it was tuned in epochs.
        ran_on: What its figures depend on besides its settings, such as `device` and `precision`; tags of the run.
        packages: Distributions that it needs where it is served, besides those that every predictor needs.
        alarms: What looks wrong with its tuning, one line each.
        figures: What else was counted while it was tuned and asked, such as tokens; summed over the folds of a run and
            logged as `tuning/<name>`.
        base_model: The model that it was tuned from: a hub id, a folder or registry packages; "" where there is none.
        log: What its tuning printed on another machine.
    """

    history: Sequence[Mapping[str, float]] = ()
    ran_on: Mapping[str, str] = field(default_factory=dict)
    packages: Sequence[str] = ()
    alarms: Sequence[str] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    base_model: str = ""
    log: str = ""


class Predictor(Protocol):
    """What tuning gives back. `PredictorTraits` are its optional attributes."""

    @property
    def classes(self) -> Sequence[str]:
        """The classes that it was tuned on."""
        ...

    @property
    def views(self) -> Sequence[str]:
        """The views that it reads."""
        ...

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Class probabilities, indexed by (item_id, view), one column a class that was trained on."""
        ...

    def save(self, path: Path) -> None:
        """Write everything that `predict_proba` needs to the new folder `path`, for `silvertune.models.saved.load`."""
        ...


@dataclass(frozen=True)
class ModelTraits(Traits):
    """Optional attributes of a model.

    Attributes:
        validation_fraction: Share (0-1) of the training groups that the run sets aside for early stopping and for
            the threshold.
        soft_labels: The model learns from distributions: its training sets have a column `prob:<class>` a class.
    """

    validation_fraction: float = 0.0
    soft_labels: bool = False


class Model(Protocol):
    """What is tuned: settings. A backend says what else it needs; `ModelTraits` are the optional attributes.

    The local backend needs `fit(train, validation, seed) -> Predictor`. `evidence.student` may have the
    methods `dynamics(train, seed)` and `prepare(items)` as well (`silvertune.evidence.computed`).
    """


@dataclass(frozen=True)
class TrainingSet:
    """What one tuned model learns from.

    Attributes:
        train: Items with `label` and `weight` (0 or more), and `prob:<class>` columns (rows sum to 1) for a model
            with soft labels.
        validation: Items like them, perhaps none.
        seed: Seed of the tuning.
        settings: Digest of the settings that decide what tuning on these rows gives
            (`silvertune.identity.of_tuning`).
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    seed: int
    settings: str

    @cached_property
    def key(self) -> str:
        """Digest of the rows, the settings and the seed: by it a tuned model is found again.

        The order of rows and columns counts, as it may change what is learned. The type of a column does not: NaN and
        None are the same, and so are 1 and 1.0. The digest holds no source and no version, so that an edit of a
        docstring pays for nothing again.

        Raises:
            UserError: A row has a value that is neither text nor a number nor missing.
        """
        digest = hashlib.sha256(_line([self.seed, self.settings]))
        for rows in (self.train, self.validation):
            digest.update(_line([len(rows), *map(str, rows.columns)]))
            for row in rows.itertuples(name=None):
                digest.update(_line([_content(value) for value in row]))
        return digest.hexdigest()


def _line(content: list[str | float | None]) -> bytes:
    """A list in one line of JSON: ASCII, so that half a character can be written as well."""
    return json.dumps(content).encode("ascii") + b"\n"


def _content(value: object) -> str | float | None:
    """A value of a training set's row in one form, whatever the type of its column."""
    if isinstance(value, str):
        return str(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, Real):
        return None if value != value else float(value)
    raise UserError(f"training set: {str(value)[:40]!r} is of type {type(value).__name__}; want text or a number")


@dataclass(frozen=True)
class Tuned:
    """A tuned model.

    Attributes:
        predictor: What it predicts with.
        cost_usd: What tuning it cost, also where an earlier run paid for it.
        job: Name of the job at the provider; empty where it was tuned in this process.
    """

    predictor: Predictor
    cost_usd: float = 0.0
    job: str = ""


class Backend(Protocol):
    """Where and how a model is tuned. Tuning may be remote, slow and paid for, and may outlive this process."""

    def check(self, model: Any) -> None:
        """Look, offline and before anything is labelled, whether the model can be tuned here.

        Raises:
            UserError: It can't.
        """
        ...

    def probe(self, model: Any) -> list[CheckResult]:
        """What `mode=check` shows: credentials, quota, buckets. Nothing is paid for."""
        ...

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate:
        """What tuning on these sets takes at most, for `mode=plan`. Asks nobody."""
        ...

    def tune(self, model: Any, sets: Sequence[TrainingSet]) -> Iterator[Tuned]:
        """Tune the model on each set.

        Args:
            model: What to tune.
            sets: All sets of a run (one a fold), so that a remote backend can submit them together.

        Yields:
            The tuned models, in the order of the sets.

        Raises:
            UserError: A set could not be tuned on.
        """
        ...
