"""Tuning by a provider's jobs: one loop over the ledger, for every provider."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from silvertune.backends.ledger import Entry, Ledger
from silvertune.errors import UserError
from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet, Tuned

LOOKS_AFTER_A_LOST_ANSWER = 4
"""How often a job is looked up whose submission had no answer; the pauses between double."""


@dataclass(frozen=True)
class JobStatus:
    """What a provider says of a job.

    Attributes:
        state: `running`, or how it ended; `undecided` for a state that neither goes on nor ends by itself (paused,
            partially succeeded, a name that nobody knows).
        cost_usd: What it has cost; None where the provider does not tell: then what was set aside counts.
        message: The provider's words.
    """

    state: Literal["running", "succeeded", "failed", "cancelled", "undecided"]
    cost_usd: float | None = None
    message: str = ""


class RefusedError(Exception):
    """The provider refused a submission: no job was made."""


class JobService(Protocol):
    """A provider's jobs. Nothing here tries anything again by itself.

    `check`, `probe` and `estimate` are those of `silvertune.interfaces.Backend`; `estimate` of one set is an upper
    bound of what its job can cost.
    """

    def check(self, model: Any) -> None: ...

    def probe(self, model: Any) -> list[CheckResult]: ...

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate: ...

    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        """Make a job that carries the label, with one request.

        Returns:
            The job's name.

        Raises:
            RefusedError: No job was made.
            Exception: Anything else: nobody knows whether a job was made.
        """
        ...

    def find(self, label: str) -> str | None:
        """The name of the job that carries the label; None where there is none."""
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


class Remote:
    """A backend over a provider's jobs.

    All sets of a run are submitted before the first is waited for. A job is submitted once, whatever is killed or
    lost: a later process finds it in the ledger, or at the provider by its label.

    Args:
        service: The provider's jobs.
        ledger: The ledger.
        poll_s: Seconds between two looks at a job.
        deadline_s: Seconds that a job is waited for.
    """

    def __init__(self, service: JobService, ledger: Ledger, *, poll_s: float, deadline_s: float) -> None:
        self.service, self.ledger, self.poll_s, self.deadline_s = service, ledger, poll_s, deadline_s

    def check(self, model: Any) -> None:
        """Look, offline, whether the provider can tune the model. Raises UserError if not."""
        self.service.check(model)

    def probe(self, model: Any) -> list[CheckResult]:
        """Credentials, quota and what else the provider knows; and whether the ledger can be opened."""
        try:
            committed = self.ledger.committed_usd()
        except UserError as error:
            return [*self.service.probe(model), CheckResult("ledger", False, str(error))]
        return [*self.service.probe(model), CheckResult(f"ledger, ${committed:.2f} spent or set aside", True)]

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate:
        """What tuning on these sets takes at most."""
        return self.service.estimate(model, sets)

    def tune(self, model: Any, sets: Sequence[TrainingSet]) -> Iterator[Tuned]:
        """Submit every set's job once, and hand on the results in the order of the sets.

        Yields:
            The tuned models.

        Raises:
            UserError: A job failed, is in doubt, or would pass the budget.
        """
        try:
            for training_set in sets:
                self._submit(model, training_set)
            for training_set in sets:
                entry = self._succeeded(model, training_set)
                predictor = self.service.collect(entry.job, model, training_set)
                yield Tuned(predictor, entry.billed_usd, entry.job)
        except (KeyboardInterrupt, UserError):
            self._say_what_runs_on(sets)
            raise

    def _submit(self, model: Any, training_set: TrainingSet) -> None:
        """Submit the set's job, if that is for this process to do."""
        reserve_usd = self.service.estimate(model, [training_set]).dollars
        entry = self.ledger.claim(training_set.key, reserve_usd)
        if not entry.is_mine:
            return
        # An earlier process may have sent it and died before it wrote down the job's name.
        try:
            job = self.service.find(entry.label)
        except Exception as error:
            raise UserError(f"backend: the provider does not answer ({type(error).__name__}: {error})") from None
        if job is not None:
            self.ledger.mark_running(entry.key, job)
        elif entry.state == "sent":
            raise self._in_doubt(entry, "an earlier process sent it")
        elif self.ledger.mark_sent(entry.key):
            self.ledger.mark_running(entry.key, self._sent(model, training_set, entry))

    def _sent(self, model: Any, training_set: TrainingSet, entry: Entry) -> str:
        """Send the one request that makes the job; its name."""
        try:
            return self.service.submit(model, training_set, entry.label)
        except RefusedError as error:
            self.ledger.mark_ended(entry.key, "failed", 0.0, str(error))
            raise UserError(f"backend: the provider refused the tuning job: {error}") from None
        except Exception as error:
            for look in range(LOOKS_AFTER_A_LOST_ANSWER):
                time.sleep(self.poll_s * 2**look / 4)
                with suppress(Exception):
                    if (job := self.service.find(entry.label)) is not None:
                        return job
            raise self._in_doubt(entry, f"{type(error).__name__}: {error}") from None

    def _in_doubt(self, entry: Entry, reason: str) -> UserError:
        message = f"{reason}; the provider lists no job with the label {entry.label}"
        self.ledger.mark_unknown(entry.key, message)
        return self._unknown(entry.key, message)

    def _unknown(self, key: str, message: str) -> UserError:
        return UserError(
            f"backend: it is unknown whether a tuning job was made ({message}), and it is not sent again by itself: "
            f"look at the provider, then forget key {key} in the ledger {self.ledger.address}"
        )

    def _succeeded(self, model: Any, training_set: TrainingSet) -> Entry:
        """Wait until the set's job has succeeded; the ledger's entry of it."""
        deadline, words = time.monotonic() + self.deadline_s, "no answer yet"
        while True:
            entry = self.ledger.entry(training_set.key)
            if entry is None or entry.state in ("claimed", "sent"):
                self._submit(model, training_set)  # takes over where another process died on the way
            elif entry.state == "running":
                words = self._look(entry)
            elif entry.state == "succeeded":
                return entry
            elif entry.state == "unknown":
                raise self._unknown(entry.key, entry.message)
            else:
                raise UserError(
                    f"backend: tuning job {entry.job} {entry.state} ({entry.message or 'no reason given'}); so far it "
                    f"cost ${entry.billed_usd:.2f}; the same command submits it anew"
                )
            if time.monotonic() > deadline:
                raise UserError(
                    f"backend.deadline_s={self.deadline_s:g}: the tuning job of key {training_set.key} has not ended "
                    f"({words}); it runs on and bills; the same command waits for it again"
                )
            if words != "ended":
                time.sleep(self.poll_s)

    def _look(self, entry: Entry) -> str:
        """Write down how a running job is; a word on it for messages."""
        try:
            status = self.service.status(entry.job)
        except UserError:
            raise
        except Exception as error:  # a provider that does not answer for a moment is no failure of the job
            return f"{type(error).__name__}: {error}"
        if status.state == "running":
            return status.message or "running"
        if status.state == "undecided":
            raise UserError(
                f"backend: tuning job {entry.job} neither goes on nor ends ({status.message}): decide at the provider; "
                "the same command then goes on"
            )
        cost_usd = entry.reserved_usd if status.cost_usd is None else status.cost_usd
        self.ledger.mark_ended(entry.key, status.state, cost_usd, status.message)
        return "ended"

    def _say_what_runs_on(self, sets: Sequence[TrainingSet]) -> None:
        entries = [self.ledger.entry(training_set.key) for training_set in sets]
        jobs = [entry.job for entry in entries if entry is not None and entry.state == "running"]
        if jobs:
            print(
                f"silvertune: {len(jobs)} tuning job(s) run on and bill at the provider: {', '.join(jobs)}; the same "
                "command collects them, or cancel them there",
                file=sys.stderr,
            )
