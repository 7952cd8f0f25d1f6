"""Tuning by a provider's jobs: one loop over the ledger, for every provider."""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from silvertune.backends.jobs import BusyError, JobService, JobServiceTraits, JobStatus, RefusedError
from silvertune.backends.ledger import UNFINISHED, BudgetError, Entry, Ledger
from silvertune.errors import UserError, check_number, in_one_line
from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet, Tuned

__all__ = ["BusyError", "JobService", "JobStatus", "QuotaError", "RefusedError", "Remote"]

LOOKS_AFTER_A_LOST_ANSWER = 4
"""How often a job is looked up whose submission had no answer; the pauses between double."""


class QuotaError(UserError):
    """The provider takes no further job now."""


class Remote:
    """A backend over a provider's jobs.

    All sets of a run are submitted before the first is waited for, as far as the budget has room. A job is submitted
    once, whatever is killed or lost: a later process finds it in the ledger, or at the provider by its label.

    Args:
        service: The provider's jobs.
        ledger: The ledger.
        poll_s: Seconds between two looks at a job.
        deadline_s: Seconds that a job is waited for, once those of the sets before it have ended.
        setting: Where it is configured, for messages.
        noun: What its jobs are called, for messages.
        say: Takes lines that a user should read; None: stderr does.

    Raises:
        UserError: `poll_s` or `deadline_s` is no number above 0.
    """

    not_in_identity = frozenset({"ledger", "poll_s", "deadline_s", "setting", "noun", "say"})

    def __init__(
        self,
        service: JobService,
        ledger: Ledger,
        *,
        poll_s: float,
        deadline_s: float,
        setting: str = "backend",
        noun: str = "tuning job",
        say: Callable[[str], None] | None = None,
    ) -> None:
        check_number(f"{setting}.poll_s", poll_s, above=True)
        check_number(f"{setting}.deadline_s", deadline_s, above=True)
        self.service, self.ledger, self.poll_s, self.deadline_s = service, ledger, poll_s, deadline_s
        self.setting, self.noun, self.say = setting, noun, say or _say

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
            The tuned models. Of sets with the same content there is one job, and the first of them has its cost.

        Raises:
            UserError: A job failed, is in doubt, or would pass the budget.
        """
        sets = [self._with_content(model, training_set) for training_set in sets]
        try:
            counted_jobs = set()
            for training_set in sets:
                self._submit_as_there_is_room(model, training_set, {other.key for other in sets})
            for training_set in sets:
                entry = self._succeeded(model, training_set)
                cost_usd = 0.0 if entry.job in counted_jobs else entry.billed_usd
                counted_jobs.add(entry.job)
                yield Tuned(self._collected(model, training_set, entry), cost_usd, entry.job)
        except BaseException:  # an interrupt, and a run that does not read on, leave jobs running too
            with suppress(Exception):
                self._say_what_runs_on(sets)
            raise

    def cancel(self, key: str) -> Entry:
        """Ask the provider to end a job, and wait until it has ended: it may still succeed.

        Args:
            key: The content key of a running job's training set.

        Returns:
            The ledger's entry of the job, with what it cost.

        Raises:
            UserError: The ledger has no running job with that key, or the provider does not end it.
        """
        entry = self.ledger.entry(key)
        if entry is None or entry.state != "running":
            raise UserError(f"key={key}: {self.ledger.address} has no running job with that key")
        try:
            self.service.cancel(entry.job)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.setting}: {self.noun} {entry.job} can't be cancelled ({_in_words(error)})"
            ) from error
        deadline = time.monotonic() + self.deadline_s
        while entry.state == "running":
            if (words := self._look(entry)) != "ended":
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{self.setting}: {self.noun} {entry.job} was cancelled and has not ended ({words})"
                    )
                time.sleep(self.poll_s)
            entry = self.ledger.entry(key) or entry
        return entry

    def _with_content(self, model: Any, training_set: TrainingSet) -> TrainingSet:
        """The set, with what the provider is sent of it in its key."""
        content = JobServiceTraits.of(self.service).content(model, training_set)
        if not content:
            return training_set
        settings = hashlib.sha256(f"{training_set.settings}\n{content}".encode()).hexdigest()
        return replace(training_set, settings=settings)

    def _submit_as_there_is_room(
        self, model: Any, training_set: TrainingSet, keys: set[str], *, new_attempt: bool = True
    ) -> None:
        """Submit the set's job; where budget or quota has no room for it, as soon as jobs have ended.

        Room in the budget is waited for while one of these keys runs, room in the quota while any job runs.
        """
        while True:
            try:
                return self._submit(model, training_set, new_attempt=new_attempt)
            except BudgetError as error:
                waiting = f"{str(error).partition(';')[0]}; waiting for jobs to end that cost less than was set aside"
                if not self._ends(keys, waiting):
                    raise
            except QuotaError as error:
                if not self._ends(None, f"{error}; waiting for jobs to end"):
                    raise

    def _ends(self, keys: set[str] | None, waiting: str) -> bool:
        """Whether a running job of the ledger ends, while one of these keys runs; None: any."""
        deadline, before = time.monotonic() + self.deadline_s, 0
        while True:
            running = [entry for entry in self.ledger.entries() if entry.state == "running"]
            has_ended = len(running) < before  # another process may have seen it
            for entry in running:
                try:
                    has_ended |= self._look(entry) == "ended"
                except UserError:
                    if keys is None or entry.key in keys:
                        raise  # what is wrong with another run's job, that run says
            before = len(running)
            one_runs = bool(running) if keys is None else any(entry.key in keys for entry in running)
            if has_ended or time.monotonic() > deadline or not one_runs:
                return has_ended
            if waiting:
                self.say(waiting)
                waiting = ""
            time.sleep(self.poll_s)

    def _submit(self, model: Any, training_set: TrainingSet, *, new_attempt: bool = True) -> None:
        """Submit the set's job, if that is for this process to do."""
        reserve_usd = self.service.estimate(model, [training_set]).dollars
        try:
            entry = self.ledger.claim(training_set.key, reserve_usd, new_attempt=new_attempt)
            if entry.is_mine:
                self._submit_claimed(model, training_set, entry)
        except BaseException:
            with suppress(Exception):
                self.ledger.release(training_set.key)
            raise
        if entry.state == "unknown":
            if (job := self._job_of(entry)) is None:
                raise self._unknown(entry.key, entry.message)
            self.ledger.mark_running(entry, job)

    def _submit_claimed(self, model: Any, training_set: TrainingSet, entry: Entry) -> None:
        job = self._job_of(entry)
        if job is None and entry.state == "sent":
            job = self._looked_up(entry, "an earlier process sent it")
        elif job is None:
            self._stage(model, training_set, entry)
            if not self.ledger.mark_sent(entry):
                return  # another process has taken over
            job = self._sent(model, training_set, entry)
        if job is not None:
            self.ledger.mark_running(entry, job)

    def _stage(self, model: Any, training_set: TrainingSet, entry: Entry) -> None:
        try:
            JobServiceTraits.of(self.service).stage(model, training_set, entry.label)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.setting}: what the {self.noun} reads can't be stored ({_in_words(error)}); nothing was sent"
            ) from error

    def _job_of(self, entry: Entry) -> str | None:
        """The name of the job that the provider has under the entry's label."""
        try:
            return self.service.find(entry.label)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.setting}: the provider does not answer ({_in_words(error)})") from error

    def _sent(self, model: Any, training_set: TrainingSet, entry: Entry) -> str | None:
        """Send the one request that makes the job; its name, as `_looked_up` gives it where no answer comes back."""
        try:
            if job := self.service.submit(model, training_set, entry.label):
                return job
            reason = "the provider gave no name back"
        except BusyError as error:
            self.ledger.mark_not_sent(entry)
            raise QuotaError(in_one_line(error)) from error
        except UserError as error:
            self.ledger.mark_ended(entry, "failed", 0.0, str(error))
            raise
        except RefusedError as error:
            self.ledger.mark_ended(entry, "failed", 0.0, str(error))
            raise UserError(f"{self.setting}: the provider refused the {self.noun}: {in_one_line(error)}") from error
        except Exception as error:
            reason = _in_words(error)
        return self._looked_up(entry, reason)

    def _looked_up(self, entry: Entry, reason: str) -> str | None:
        """The name of a job that was sent and has none yet; None where another process has found it meanwhile.

        Providers may list a job only after a while.
        """
        for look in range(LOOKS_AFTER_A_LOST_ANSWER):
            time.sleep(self.poll_s * 2**look / 4)
            try:
                if (job := self.service.find(entry.label)) is not None:
                    return job
            except UserError:
                raise
            except Exception:  # it does not answer now, and may do so at the next look
                continue
        message = f"{reason}; the provider lists no job with the label {entry.label}"
        if self.ledger.mark_unknown(entry, message):
            raise self._unknown(entry.key, message)
        return None

    def _unknown(self, key: str, message: str) -> UserError:
        return UserError(
            f"{self.setting}: it is unknown whether a {self.noun} was made ({message}), and it is not sent again by "
            f"itself: look at the provider; if it is not there, forget key {key} in the ledger {self.ledger.address} "
            "(silvertune-jobs forget)"
        )

    def _succeeded(self, model: Any, training_set: TrainingSet) -> Entry:
        """Wait until the set's job has succeeded; the ledger's entry of it."""
        deadline = time.monotonic() + self.deadline_s
        while True:
            entry = self.ledger.entry(training_set.key)
            if entry is None or entry.state in ("claimed", "sent"):
                # Takes over where another process died on the way.
                self._submit_as_there_is_room(model, training_set, {training_set.key}, new_attempt=False)
                words = "another process is submitting it"
            elif entry.state == "running":
                words = self._look(entry)
            elif entry.state == "succeeded":
                return entry
            elif entry.state == "unknown":
                raise self._unknown(entry.key, entry.message)
            else:
                raise UserError(
                    f"{self.setting}: {self.noun} {entry.job or entry.label} {entry.state} "
                    f"({entry.message or 'no reason given'}); so far it cost ${entry.billed_usd:.2f}; the same command "
                    "submits it anew"
                )
            if words == "ended":
                continue
            runs_on = entry is not None and entry.state == "running"
            if time.monotonic() > deadline:
                raise UserError(
                    f"{self.setting}.deadline_s={self.deadline_s:g}: the {self.noun} of key {training_set.key} has not "
                    f"ended ({words}); {'it runs on and bills; ' * runs_on}the same command waits for it again"
                )
            time.sleep(self.poll_s)

    def _look(self, entry: Entry) -> str:
        """Write down how a running job is; a word on it for messages."""
        try:
            status = self.service.status(entry.job)
        except UserError:
            raise
        except Exception as error:  # a provider that does not answer for a moment is no failure of the job
            return _in_words(error)
        words = _one_line(status.message or status.state)
        if status.state == "running":
            return words
        if status.state not in ("succeeded", "failed", "cancelled"):
            raise UserError(
                f"{self.setting}: {self.noun} {entry.job} neither goes on nor ends ({words}): decide at the provider; "
                "the same command then goes on"
            )
        cost_usd = entry.reserved_usd
        if status.cost_usd is not None and math.isfinite(status.cost_usd) and status.cost_usd >= 0:
            cost_usd = status.cost_usd
        if cost_usd > entry.reserved_usd + 1e-9:
            aside = f"${entry.reserved_usd:.2f} set aside for it"
            self.say(f"{self.noun} {entry.job} cost ${cost_usd:.2f}, more than the {aside}")
        self.ledger.mark_ended(entry, status.state, cost_usd, status.message)
        return "ended"

    def _collected(self, model: Any, training_set: TrainingSet, entry: Entry) -> Predictor:
        try:
            return self.service.collect(entry.job, model, training_set)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.setting}: the result of {self.noun} {entry.job} can't be collected ({_in_words(error)}); it is "
                "paid for, and the same command collects it again"
            ) from error

    def _say_what_runs_on(self, sets: Sequence[TrainingSet]) -> None:
        entries = [self.ledger.entry(key) for key in dict.fromkeys(training_set.key for training_set in sets)]
        by_state = {state: [entry for entry in entries if entry and entry.state == state] for state in UNFINISHED}
        if jobs := [entry.job for entry in by_state["running"]]:
            self.say(
                f"{len(jobs)} {self.noun}(s) run on and bill at the provider: {', '.join(jobs)}; the same command "
                "collects them, or silvertune-jobs cancel ends them"
            )
        if labels := [entry.label for entry in (*by_state["sent"], *by_state["unknown"])]:
            self.say(
                f"{len(labels)} {self.noun}(s) may run and bill at the provider, as no answer came back: look there "
                f"for the label {', '.join(labels)}"
            )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {in_one_line(error)}"


def _say(line: str) -> None:
    print(f"silvertune: {line}", file=sys.stderr)
