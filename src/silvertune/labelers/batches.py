"""An LLM that is asked by a provider's batches, which cost half as much and take up to a day.

To whoever asks it, it is an LLM like any other: an answer comes when the batch has ended that its request went with.
A batch is made once, whatever is killed or lost on the way: the ledger of tuning jobs (`silvertune.backends`) keeps
them, and which request went with which batch is on disk before the batch is sent. The same request, asked by a later
process, takes its result from the batch that it went with.
"""

import asyncio
import contextlib
import hashlib
import json
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from silvertune.backends.ledger import Ledger
from silvertune.backends.remote import JobStatus, RefusedError, Remote
from silvertune.databases import engine
from silvertune.errors import UserError, in_one_line
from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet
from silvertune.labelers.batch_requests import BatchRequests
from silvertune.llms import served_models
from silvertune.llms.asking import other_model
from silvertune.llms.interface import (
    Answer,
    Ask,
    BatchedLLM,
    Batches,
    BatchRefusedError,
    BatchResult,
    Limits,
    Price,
    RejectedError,
    Request,
    TransientError,
    UnusableError,
)

GATHER_S = 1.0
"""A batch is sent when no further request has come for so long, or when it is full."""
LOOK_AGAIN_S = 1.0
"""A provider that does not answer, or has no results yet, is asked again after so long; each further pause doubles."""
_KEY = "labeler.llm.<name>.batch"
_AT_ONCE = 20_000
"""So many requests wait for their batches at a time."""
_LONGEST_S = 8 * 86400.0
"""No provider works on a batch for longer."""
_LEASE_S = 3600.0
"""For as long, a process that nobody can see from here may be sending a batch."""
_ATTEMPTS = 5
"""How often a provider that does not answer is asked what costs nothing."""
T = TypeVar("T")


class Closing(Protocol):
    """What is closed when the labelling ends: the answer store."""

    keeps_leases: bool


@dataclass(frozen=True)
class _Batch:
    """Attributes:
    key: In the ledger.
    names: Of its requests.
    bodies: By the names; None where this process does not know them all, and can't send it.
    """

    key: str
    names: Sequence[str]
    bodies: Mapping[str, Any] | None


class Batched:
    """An LLM whose requests go by batches.

    Args:
        llm: The LLM.
        url: A database for the ledger of batches, beside the answer store.
        store: The answer store of this labelling: what is set aside in it stays so while batches run on.
        n_questions: How many questions there are.
    """

    def __init__(self, llm: BatchedLLM, url: str, store: Closing, n_questions: int) -> None:
        self.llm, self.store, self.n_questions = llm, store, n_questions
        self.ledger = Ledger(url, budget_usd=None, lease_s=_LEASE_S)
        self.requests = BatchRequests(url)

    @property
    def price(self) -> Price:
        """The prices of batches."""
        return self.llm.price.of_batches()

    @property
    def max_tokens(self) -> int:
        """As the LLM's."""
        return self.llm.max_tokens

    @property
    def limits(self) -> Limits:
        """As many requests at a time as go into some batches, and as long as batches take."""
        return replace(
            self.llm.limits, concurrency=min(_AT_ONCE, self.n_questions), requests_per_minute=None,
            tokens_per_minute=None, timeout_s=_LONGEST_S, deadline_s=2 * _LONGEST_S,
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """As the LLM's: how an answer was bought does not change it."""
        return self.llm.identity()

    def check(self) -> list[CheckResult]:
        """As the LLM's."""
        return self.llm.check()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """What answers requests when their batches have ended. Raises UnusableError, before any batch is made."""
        async with self.llm.batches() as batches:
            if served_models.differs(batches.probe.model, batches.probe.asked):
                raise other_model(f"{batches.probe.asked} was asked", batches.probe.model)
            run = _Run(self, batches)
            gathering = asyncio.create_task(run.gather())
            try:
                yield run.ask
                # Whoever asked has written down what came back. After an error perhaps not: then it stays to be taken.
                await asyncio.to_thread(self.requests.drop, run.taken)
            finally:
                gathering.cancel()
                run.stop.set()
                if run.running:
                    self.store.keeps_leases = True
                    print(
                        f"silvertune: {len(run.running)} batch(es) run on and bill at the provider; the same command "
                        "takes their results, silvertune-jobs cancel ends them",
                        file=sys.stderr,
                    )


class _Run:
    """The batches of one connection: a gatherer makes them, a thread each waits for them."""

    def __init__(self, llm: Batched, batches: Batches) -> None:
        self.llm, self.batches = llm, batches
        self.loop = asyncio.get_running_loop()
        self.stop = threading.Event()
        self.wake = asyncio.Event()
        self.scope = _canonical({name: value for name, value in llm.identity().items() if name != "accept_model"})
        self.waiting: dict[str, tuple[Any, asyncio.Future[BatchResult]]] = {}
        self.futures: dict[str, asyncio.Future[BatchResult]] = {}
        self.running: set[str] = set()
        self.taken: list[str] = []
        self.probes = [batches.probe]
        self.failure: UserError | None = None

    async def ask(self, request: Request) -> Answer:
        """The answer to a request, which goes with the next batch or has gone with an earlier one."""
        if self.failure is not None:
            raise self.failure
        body = self.batches.body(request)
        name = hashlib.sha256(self.scope + _canonical({"body": body, "repeat": request.repeat})).hexdigest()[:40]
        if name not in self.futures:
            self.futures[name] = self.loop.create_future()
            self.waiting[name] = body, self.futures[name]
            self.wake.set()
        result = await asyncio.shield(self.futures[name])
        try:
            answer = self.batches.answer(result)
        except (RejectedError, TransientError):
            await asyncio.to_thread(self.llm.requests.drop, [name])  # asked again, it goes with another batch
            raise
        self.taken.append(name)
        if not self.probes:
            return answer
        # The probe was paid for singly, and is counted with the first answer, at the price of batches.
        probe, share = self.probes.pop(), self.llm.llm.price.batch_share or 1.0
        sent, received = (probe.tokens_in or 0) + probe.failed_in, (probe.tokens_out or 0) + probe.failed_out
        return replace(
            answer,
            failed_in=answer.failed_in + round(sent / share),
            failed_out=answer.failed_out + round(received / share),
        )

    async def gather(self) -> None:
        """Send what is asked, a batch when no more comes for a moment."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            with contextlib.suppress(TimeoutError):
                while len(self.waiting) < self.batches.most_requests:
                    async with asyncio.timeout(GATHER_S):
                        await self.wake.wait()
                    self.wake.clear()
            asked = {name: body for name, (body, _) in self.waiting.items()}
            self.waiting.clear()
            try:
                for batch in await asyncio.to_thread(self._grouped, asked):
                    self.running.add(batch.key)
                    threading.Thread(target=self._watch, args=(batch,), daemon=True).start()
            except Exception as error:  # a fault of a database, or of ours: others must not wait for ever
                self._fail(asked, error)

    def _grouped(self, asked: Mapping[str, Any]) -> list[_Batch]:
        """The batches that requests go with: those that they went with before, and new ones."""
        before = self.llm.requests.batches_of(asked)
        for key in set(before.values()):
            entry = self.llm.ledger.entry(key)
            if entry is None or entry.state in ("failed", "cancelled"):  # it was never made, or answered nothing
                self.llm.requests.drop_batch(key)
        known = self.llm.requests.batches_of(asked)
        fresh: list[str] = []
        size = 0
        for name in asked:
            if name in known:
                continue
            size += len(_canonical({"body": asked[name]})) + 200
            if len(fresh) == self.batches.most_requests or (fresh and size > self.batches.most_bytes):
                self._put(fresh)
                fresh, size = [], 0
            fresh.append(name)
        if fresh:
            self._put(fresh)
        # Another process may ask the same, and have been quicker.
        new = self.llm.requests.batches_of([name for name in asked if name not in known])
        batches = []
        for key in sorted({*known.values(), *new.values()}):
            names = self.llm.requests.names(key)
            bodies = {name: asked[name] for name in names} if set(names) <= set(asked) else None
            batches.append(_Batch(key, names, bodies))
        return [batch for batch in batches if batch.key not in self.running]

    def _put(self, names: Sequence[str]) -> None:
        self.llm.requests.put(uuid.uuid4().hex + uuid.uuid4().hex, names)

    def _watch(self, batch: _Batch) -> None:
        """Make a batch, or find it, and wait for it; in a thread of its own."""
        poll_s = self.llm.llm.batch_poll_s
        remote = Remote(
            cast(Any, _Service(self.batches, batch, self.llm.ledger, self.stop)), self.llm.ledger, poll_s=poll_s,
            deadline_s=_LONGEST_S, setting=_KEY, noun="batch", say=self._say,
        )  # fmt: skip
        outcome: Mapping[str, BatchResult] | Exception
        while True:
            try:
                # Of a training set, a remote backend itself looks at the key alone.
                (tuned,) = remote.tune(None, cast("Sequence[TrainingSet]", [batch]))
                outcome = cast("Mapping[str, BatchResult]", tuned.predictor)
            except UserError as error:
                if (pause := self._pause(batch, error)) is not None and not self.stop.wait(pause):
                    continue
                outcome = error
            except Exception as error:
                outcome = error
            break
        if not self.stop.is_set():
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self.loop.call_soon_threadsafe(self._end, batch, outcome)

    def _say(self, line: str) -> None:
        if not self.stop.is_set():  # else the connection says what runs on
            print(f"silvertune: {line}", file=sys.stderr)

    def _pause(self, batch: _Batch, error: UserError) -> float | None:
        """Seconds until a batch that was not made is sent again; None where it won't help."""
        poll_s, cause = self.llm.llm.batch_poll_s, error.__cause__
        refusal = cause.__cause__ if isinstance(cause, RefusedError) else None
        if isinstance(refusal, BatchRefusedError) and refusal.is_busy:
            return max(refusal.retry_after or 0.0, poll_s)
        entry = self.llm.ledger.entry(batch.key)
        message = entry.message if entry is not None and entry.state == "failed" else ""
        is_full = "token" in message and "limit" in message  # of waiting tokens, at OpenAI
        return 10 * poll_s if is_full and batch.bodies is not None else None

    def _end(self, batch: _Batch, outcome: "Mapping[str, BatchResult] | Exception") -> None:
        """Hand on the results of a batch; what has none is asked again."""
        self.running.discard(batch.key)
        asked = [name for name in batch.names if name in self.futures]
        entry = self.llm.ledger.entry(batch.key)
        state = "" if entry is None else entry.state
        if isinstance(outcome, Exception) and not (state == "failed" and batch.bodies is None):
            self._fail(asked, outcome)
            return
        results = {} if isinstance(outcome, Exception) else outcome
        without: list[str] = []
        for name in asked:
            future = self.futures.pop(name)
            if name in results:
                future.set_result(results[name])
                continue
            without.append(name)
            if entry is not None and entry.message.startswith("cancelled"):
                future.set_exception(RejectedError("its batch was cancelled"))
            else:
                future.set_exception(TransientError(f"its batch ended without it ({entry and entry.message})"))
        self.llm.requests.drop(without)
        if without:
            self._say(f"batch {entry and entry.job} ended ({entry and entry.message}) without {len(without)} result(s)")

    def _fail(self, names: Collection[str], error: Exception) -> None:
        """Nothing further is answered."""
        of_ours = f"{_KEY}: {type(error).__name__}: {in_one_line(error)}"
        message = str(error) if isinstance(error, UserError) else of_ours
        self.failure = error if isinstance(error, UnusableError) else UnusableError(message)
        for name in names:
            if name in self.futures and not self.futures[name].done():
                self.futures.pop(name).set_exception(self.failure)


class _Service:
    """A provider's batches, as a remote backend wants jobs."""

    def __init__(self, batches: Batches, batch: _Batch, ledger: Ledger, stop: threading.Event) -> None:
        self.batches, self.batch, self.ledger, self.stop = batches, batch, ledger, stop

    def estimate(self, model: Any, batches: Sequence[_Batch]) -> Estimate:
        """Nothing: what requests may cost is set aside in the answer store."""
        return Estimate()

    def submit(self, model: Any, batch: _Batch, label: str) -> str:
        if batch.bodies is None:
            raise RefusedError("not all of its requests are known here")
        try:
            return self.batches.submit(label, batch.bodies)
        except (BatchRefusedError, UnusableError) as error:
            raise RefusedError(str(error)) from error

    def find(self, label: str) -> str | None:
        entry = self.ledger.entry(self.batch.key)
        since = entry.changed_at if entry is not None and entry.state in ("sent", "unknown") else None
        return self._patiently(lambda: self.batches.find(label, self.batch.names, since))

    def status(self, job: str) -> JobStatus:
        if self.stop.is_set():
            raise UserError(f"{_KEY}: stopped")
        status = self.batches.status(job)
        states: Mapping[str, Any] = {"running": "running", "ended": "succeeded", "failed": "failed"}
        return JobStatus(states[status.state], 0.0, status.message)

    def collect(self, job: str, model: Any, batch: _Batch) -> Predictor:
        try:
            return cast(Predictor, self._patiently(lambda: self.batches.collect(job), though_refused=True))
        except BatchRefusedError as error:
            if error.is_busy:
                raise
            print(f"silvertune: the provider does not have the results of batch {job} any more ({error}); its requests "
                  "go with another", file=sys.stderr)  # fmt: skip
            return cast(Predictor, {})

    def _patiently(self, call: Callable[[], T], *, though_refused: bool = False) -> T:
        """What a call that costs nothing gives, though the provider may not answer at once."""
        for attempt in range(_ATTEMPTS - 1):
            try:
                return call()
            except (TransientError, BatchRefusedError) as error:
                is_final = isinstance(error, BatchRefusedError) and not error.is_busy and not though_refused
                if is_final or self.stop.wait(LOOK_AGAIN_S * 2**attempt):
                    raise
        return call()


def _canonical(content: Mapping[str, Any]) -> bytes:
    """One way to write `content`, half characters included."""
    return json.dumps(content, sort_keys=True).encode()


def ledger_url(url: str | None, cache: Path) -> str:
    """Where the ledger of batches is: in the answer store's database, or in the cache where `url` is None."""
    return url or f"sqlite:///{cache / 'batches.sqlite'}"


def say_what_runs_on(name: str, url: str | None, cache: Path) -> None:
    """Say that batches were sent whose results nobody has taken: asked singly, the same question is paid for again."""
    place = ledger_url(url, cache)
    if not engine.exists(place):
        return
    entries = Ledger(place, budget_usd=None, lease_s=_LEASE_S).entries()
    waiting = [entry for entry in entries if entry.state in ("sent", "running", "unknown")]
    n = sum(len(BatchRequests(place).names(entry.key)) for entry in waiting)
    if n:
        print(f"silvertune: {len(waiting)} batch(es) with {n} question(s) that nobody has taken the answers of; asked "
              f"singly, the same questions are paid for again; labeler.llm.{name}.batch=true takes them (if this LLM "
              f"was asked)", file=sys.stderr)  # fmt: skip


def of(llm: BatchedLLM, url: str | None, cache: Path, store: Closing, n_questions: int) -> Batched:
    """The LLM, asked by batches.

    Args:
        llm: The LLM.
        url: Of the answer store, where it is a database of its own.
        cache: The folder where the ledger of batches is otherwise.
        store: The answer store of this labelling.
        n_questions: How many questions there are.
    """
    return Batched(llm, ledger_url(url, cache), store, n_questions)
