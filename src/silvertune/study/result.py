"""What a sweep gives back to Python."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from silvertune.errors import UserError


@dataclass(frozen=True)
class Failure:
    """Something of a sweep that failed.

    Attributes:
        name: The run's name, or the step's.
        error: Why, on one line.
    """

    name: str
    error: str


@dataclass(frozen=True)
class Waiting:
    """A run of a sweep that waits for people.

    Attributes:
        name: The run's name.
        waits_for: What it waits for, and what to do, on one line.
    """

    name: str
    waits_for: str


@dataclass(frozen=True)
class SweepResult:
    """Where a sweep is logged, and what became of it.

    Attributes:
        tracking_uri: The MLflow tracking URI.
        experiment: Name of the MLflow experiment.
        parent_run_id: Id of the sweep's own run, with the tables and figures; None if nothing was run (`mode=plan`).
        run_ids: Name of each finished run -> its id, in the study's order.
        failures: What failed.
        waiting: The runs that wait for people; the same sweep goes on with them when the answers are there.
    """

    tracking_uri: str
    experiment: str
    parent_run_id: str | None = None
    run_ids: dict[str, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    waiting: tuple[Waiting, ...] = ()


class SweepError(UserError):
    """Some part of a sweep failed; what is finished is logged.

    Attributes:
        result: The sweep's result.
    """

    def __init__(self, result: SweepResult) -> None:
        super().__init__(_in_words("failed", [(one.name, one.error) for one in result.failures]))
        self.result = result


class SweepWaitsError(UserError):
    """Nothing of a sweep failed, and some of its runs wait for people; what is finished is logged.

    Attributes:
        result: The sweep's result.
    """

    def __init__(self, result: SweepResult) -> None:
        super().__init__(_in_words("wait(s) for people", [(one.name, one.waits_for) for one in result.waiting]))
        self.result = result


def in_few_lines(failures: Sequence[Failure]) -> list[str]:
    """Say what failed; failures for one reason, such as those of an arm's seeds, share a line.

    Args:
        failures: In the study's order.

    Returns:
        A line for each reason, with the first name that it befell and how many others.
    """
    names_by_error: dict[str, list[str]] = {}
    for failure in failures:
        names_by_error.setdefault(failure.error, []).append(failure.name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {error}"
        for error, names in names_by_error.items()
    ]


def _in_words(state: str, runs: Sequence[tuple[str, str]]) -> str:
    """How many runs are in a state, and the first of them, with what is said of it."""
    (name, words), n_more = runs[0], len(runs) - 1
    return f"{len(runs)} {state}: {name}: {words}" + (f" (and {n_more} more)" if n_more else "")
