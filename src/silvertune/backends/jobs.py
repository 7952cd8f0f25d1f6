"""What a provider of tuning jobs is, for the one loop that serves them all (`silvertune.backends.remote`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet, Traits


@dataclass(frozen=True)
class JobStatus:
    """What a provider says of a job.

    Attributes:
        state: `running`, or how it ended; `undecided` for a state that neither goes on nor ends by itself (paused,
            partially succeeded, a name that nobody knows). Any other word counts as undecided.
        cost_usd: What it has cost; None where the provider does not tell: then what was set aside counts.
        message: The provider's words.
    """

    state: Literal["running", "succeeded", "failed", "cancelled", "undecided"]
    cost_usd: float | None = None
    message: str = ""


class RefusedError(Exception):
    """No job was made: the provider refused it, or the request was not sent."""


class BusyError(RefusedError):
    """No job was made: the provider takes another one when some of those that run have ended."""


def _nothing_further(model: Any, training_set: TrainingSet) -> str:
    return ""


def _nothing_to_store(model: Any, training_set: TrainingSet, label: str) -> None:
    """What a provider does before it makes a job that reads no files."""


@dataclass(frozen=True)
class JobServiceTraits(Traits):
    """Optional attributes of a provider's jobs.

    Attributes:
        content: A text that changes with what a job is sent of a model and a training set, where that is more than
            their rows and settings, such as a file that is rendered from them. It becomes part of the content key.
            Called for all sets of a run before the first job is submitted; a UserError refuses the run.
        stage: Called as `submit` is, and before it: stores what the job will read. The ledger does not say yet that
            the job was sent, so that a process that is killed meanwhile leaves nothing in doubt. Whoever takes over
            calls it again.
    """

    content: Callable[[Any, TrainingSet], str] = _nothing_further
    stage: Callable[[Any, TrainingSet, str], None] = _nothing_to_store


class JobService(Protocol):
    """A provider's jobs; `JobServiceTraits` are optional attributes. Nothing here tries anything again by itself.

    `check`, `probe` and `estimate` are those of `silvertune.interfaces.Backend`; `estimate` of one set is an upper
    bound of what its job can cost. A UserError that a method raises stops the run with its message.
    """

    def check(self, model: Any) -> None: ...

    def probe(self, model: Any) -> list[CheckResult]: ...

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate: ...

    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        """Make a job that carries the label, with one request.

        Returns:
            The job's name.

        Raises:
            RefusedError: No job was made, whether the provider said so or nothing was sent. A BusyError is tried again
                when a job has ended.
            UserError: No job was made, and only a person can mend it: its message stops the run.
            Exception: Anything else: nobody knows whether a job was made.
        """
        ...

    def find(self, label: str) -> str | None:
        """The name of the job that carries the label; None where there is none.

        Raises:
            UserError: Two jobs carry it.
            Exception: The provider does not answer.
        """
        ...

    def status(self, job: str) -> JobStatus:
        """How the job is. Whatever it raises, other than UserError, counts as no answer this time."""
        ...

    def collect(self, job: str, model: Any, training_set: TrainingSet) -> Predictor:
        """The predictor of a job that succeeded; as often as asked, without cost."""
        ...

    def cancel(self, job: str) -> None:
        """Ask the provider to end the job."""
        ...
