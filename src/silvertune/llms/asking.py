"""Requests to outcomes: each asked once, whoever else works from the same store, and nothing lost on the way."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from silvertune.errors import UserError
from silvertune.llms import prompts, served_models, truncation
from silvertune.llms.answer_store import AnswerStore
from silvertune.llms.answers import Reading
from silvertune.llms.answers import read as parsed
from silvertune.llms.interface import LLM, Answer, Ask, Request, UnusableError
from silvertune.llms.outcomes import Outcome
from silvertune.llms.rate_limits import GaveUpError, RateLimiter

GRACE_S = 5.0
"""How long an interrupt waits for what is under way and perhaps already paid for."""
MOST_UNREADABLE_IN_A_ROW = 36
"""After so many answers in a row that hold no label, nothing further is asked: the next will hold none either."""
_LOOK_AGAIN_S, _LONGEST_LOOK_AGAIN_S = 0.2, 3.0
"""How long what other processes ask, or what the budget has no room for yet, is waited for, unless an answer comes:
at first, and when nothing has come of it for some time."""
_STEPS_OF_A_BURST = 5
"""Turns of the event loop from the arrival of an answer to its outcome."""
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Attributes:
    key: In the answer store.
    render: Makes the request; called only where it is sent.
    signs: Of its text.
    key_of: The name of a model -> the key under which its answer counts, where it answers in the place of another.
    """

    key: str
    render: Callable[[], Request]
    signs: Callable[[], str | None]
    key_of: Callable[[str], str]


class BudgetError(UserError):
    """The store's budget has no room for another request; what was answered is kept."""


class OtherModelError(UnusableError):
    """Another model answers than the one that was asked, or than the one that answered before."""


def other_model(what: str, served: str) -> OtherModelError:
    """The error that says which model answers, and how to take it.

    Args:
        what: What was asked and perhaps answered before, such as `gpt-x was asked`.
        served: The model that answers.
    """
    served = served_models.version_of(served)
    return OtherModelError(
        f"labeler.llm.<name>.model: {what}, and now {served} answers; votes of two models are not mixed: name the "
        f"model that you want, or take this one with labeler.llm.<name>.accept_model={served} (its votes are others "
        "then, and what it has answered is kept for them; mind its price)"
    )


def ask_all(
    llm: LLM,
    questions: Sequence[Question],
    store: AnswerStore,
    on_progress: Callable[[Outcome], None],
    answered_by: Collection[str] = (),
    n_labelled: int = 0,
) -> dict[str, Outcome]:
    """The outcome of every question that the store does not have, asked or, where others ask it, waited for.

    Args:
        llm: The LLM to ask.
        questions: What to ask; each key stands once.
        store: The answer store; it is closed in the end.
        on_progress: Called with each outcome when it is committed.
        answered_by: Models that gave the stored answers which are used beside these.
        n_labelled: How many of those have a label. Where they are more than the questions, these may be no more than
            the hard ones, which had no label before either: they do not say that the LLM is unusable.

    Returns:
        Key -> outcome, of every question.

    Raises:
        BudgetError: The budget has no room for another request. Here as below, what was answered is in the store.
        UnusableError: The LLM answers nothing, or never with a label.
        OtherModelError: Another model answers. What it answered is stored under the keys of that model.
        KeyboardInterrupt: Somebody stopped it.
    """
    by_key = {question.key: question for question in questions}
    asking = _Asking(llm, by_key, store, on_progress, answered_by, may_all_be_hard=n_labelled > len(questions))
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asking.run())
    # In a notebook there is a loop already, and it is busy running us.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, asking.run()).result()


class _Asking:
    """A claimer leases keys, as many workers as the LLM takes at a time ask, a writer commits what they got.

    A worker goes on only when its answer is committed, so a kill loses at most what is under way.
    """

    def __init__(
        self,
        llm: LLM,
        questions: Mapping[str, Question],
        store: AnswerStore,
        on_progress: Callable[[Outcome], None],
        answered_by: Collection[str] = (),
        *,
        may_all_be_hard: bool = False,
    ) -> None:
        self.llm, self.questions, self.store, self.on_progress = llm, questions, store, on_progress
        self.answered_by = {served_models.version_of(model) for model in answered_by}
        self.outcomes: dict[str, Outcome] = {}
        self.failure: BaseException | None = None
        self.under_way = 0
        self.one_is_done = asyncio.Event()
        self.unreadable_in_a_row, self.may_all_be_hard = 0, may_all_be_hard
        # All of the store's work is done in one thread, one transaction at a time.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="label-store")
        self.limiter = RateLimiter(llm.limits)
        self.stopping = asyncio.Event()
        self.claimed: asyncio.Queue[str | None] = asyncio.Queue(llm.limits.concurrency)
        self.answered: list[tuple[str, Outcome, asyncio.Future[None]]] = []
        self.to_write = asyncio.Event()
        self.no_more_answers = False

    async def run(self) -> dict[str, Outcome]:
        helpers = [asyncio.create_task(work()) for work in (self._claim, self._renew)]
        writer = asyncio.create_task(self._write())
        try:
            async with self.llm.connect() as ask:
                workers = [asyncio.create_task(self._work(ask)) for _ in range(self.llm.limits.concurrency)]
                try:
                    done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                    for task in done:
                        task.result()
                except BaseException as error:
                    self._stop(error)
                    await asyncio.wait(workers, timeout=GRACE_S)
                    raise
                finally:
                    await _ended(workers)
        finally:
            await _ended(helpers)
            # Not cancelled: it may hold answers that are paid for and wait for the thread.
            self.no_more_answers = True
            self.to_write.set()
            await writer
            await self._in_thread(self.store.close)
            self.thread.shutdown()
        if self.failure is not None:
            raise self.failure
        return self.outcomes

    async def _claim(self) -> None:
        """Hand leased keys to the workers, a few ahead of them, until every question has an outcome or is handed on."""
        pause, pending, size = _LOOK_AGAIN_S, deque(self.questions), max(self.llm.limits.concurrency, 16)
        is_told = False
        try:
            while pending:
                some = [pending.popleft() for _ in range(min(size, len(pending)))]
                self.one_is_done.clear()
                claim = await self._in_thread(self.store.claim, some, [self._reserve(key) for key in some])
                for key, outcome in claim.known.items():
                    self._count(key, outcome)
                    if outcome.model:  # another process asks the same, and perhaps another version answers it
                        self.answered_by.add(served_models.version_of(outcome.model))
                for key in claim.mine:
                    self.under_way += 1
                    await self.claimed.put(key)
                pending.extend([*claim.busy, *claim.too_dear])
                if claim.too_dear and not self.under_way and not claim.busy:
                    aside, aside_now = await self._in_thread(self.store.set_aside_usd)
                    if not aside_now:  # else what others ask now may cost less than they have set aside
                        raise await self._no_room(claim.too_dear[0], aside)
                    if not is_told:
                        print(f"silvertune: labeler.budget_usd={self.store.budget_usd:g}: waiting for requests of "
                              f"others, for which ${aside_now:.4f} is set aside", file=sys.stderr)  # fmt: skip
                    is_told = True
                pause = _LOOK_AGAIN_S if claim.mine or claim.known else min(2 * pause, _LONGEST_LOOK_AGAIN_S)
                if not claim.mine and not claim.known:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.one_is_done.wait(), pause)
            for _ in range(self.llm.limits.concurrency):
                await self.claimed.put(None)
        except Exception as error:
            self._stop(error)

    async def _no_room(self, key: str, aside: float) -> BudgetError:
        spent = await self._in_thread(self.store.spent_usd)
        for_others = f", ${aside:.4f} is set aside for requests of others that may still be paid for" if aside else ""
        return BudgetError(
            f"labeler.budget_usd={self.store.budget_usd:g}: ${spent:.4f} of it is spent{for_others}, and another "
            f"request may cost ${self._reserve(key):.4f}; what was answered is kept: raise the budget and run the same "
            "command to go on"
        )

    async def _work(self, ask: Ask) -> None:
        while (key := await self.claimed.get()) is not None and not self.stopping.is_set():
            try:
                await self._to_be_written(*await self._outcome(ask, self.questions[key]))
            except UnusableError as error:
                self._stop(error)
            finally:
                self.under_way -= 1
                self.one_is_done.set()

    def _to_be_written(self, key: str, outcome: Outcome) -> "asyncio.Future[None]":
        committed = asyncio.get_running_loop().create_future()
        self.answered.append((key, outcome, committed))
        self.to_write.set()
        return committed

    async def _outcome(self, ask: Ask, question: Question) -> tuple[str, Outcome]:
        """What became of a question, and the key under which it counts."""
        request, signs = question.render(), question.signs()
        try:
            answers = [
                await self.limiter.ask(ask, request, self._tokens(request), partial(self._has_room, question.key))
            ]
        except GaveUpError as error:
            cost = self.llm.price.of(error.tokens_in, error.tokens_out)
            return question.key, Outcome(
                "api_error", None, None, None, str(error)[:500], signs, "", error.tokens_in, error.tokens_out, cost
            )
        reading = _read(answers[0], request)
        if self._is_of_another_model(answers[0]):
            return question.key_of(served_models.version_of(answers[0].model)), self._paid(
                request, answers, reading, signs
            )
        room = partial(self._has_room, question.key, before=_tokens_of(request, answers[0]))
        if reading.status == "parse_error" and room(0, 0) and not self.stopping.is_set():
            again = prompts.repair(request, answers[0].text)
            try:
                answers.append(await self.limiter.ask(ask, again, self._tokens(again), room))
                reading = _read(answers[-1], again)
            except GaveUpError:
                pass  # the first answer is paid for and stands as it is
            except UnusableError as error:
                self._stop(error)
            except asyncio.CancelledError:
                self._to_be_written(question.key, self._paid(request, answers, reading, signs))
                raise
        self._notice(reading, answers[-1])
        return question.key, self._paid(request, answers, reading, signs)

    def _is_of_another_model(self, answer: Answer) -> bool:
        """Whether another model answered than the one that was asked, or that answered before; then it stops."""
        served = served_models.version_of(answer.model)
        if not answer.asked or not served:
            return False
        if served_models.differs(answer.model, answer.asked):
            what = f"{answer.asked} was asked"
        elif others := sorted(self.answered_by - {served}):
            what = f"{answer.asked} was asked and {' and '.join(others)} answered"
        else:
            self.answered_by.add(served)
            return False
        self._stop(other_model(what, served))
        return True

    def _notice(self, reading: Reading, answer: Answer) -> None:
        """Stop where an LLM answers, and never with a label."""
        # A text that alone is too long for the model is its item's matter: nothing was written of its answer.
        unreadable = reading.status == "parse_error" or (reading.status == "truncated" and answer.tokens_out != 0)
        self.unreadable_in_a_row = self.unreadable_in_a_row + 1 if unreadable else 0
        if self.unreadable_in_a_row >= MOST_UNREADABLE_IN_A_ROW and not self.may_all_be_hard:
            self._stop(UnusableError(
                f"labeler.llm.<name>: {answer.model or 'the LLM'} gave no label in its last {self.unreadable_in_a_row} "
                f"answers (the last is {reading.status}: {shortened(answer.text)!r}); want a JSON object with a label. "
                "A model that thinks aloud needs a larger max_tokens, or thinking switched off"
            ))  # fmt: skip

    def _paid(self, request: Request, answers: Sequence[Answer], reading: Reading, signs: str | None) -> Outcome:
        tokens = [_tokens_of(request, answer) for answer in answers]
        tokens_in, tokens_out = sum(sent for sent, _ in tokens), sum(received for _, received in tokens)
        cost, said = self.llm.price.of(tokens_in, tokens_out), answers[-1]
        return Outcome(
            reading.status, reading.word, reading.probs, reading.confidence, said.text, signs, said.model,
            tokens_in, tokens_out, cost,
        )  # fmt: skip

    async def _write(self) -> None:
        """Commit what was answered, as much as there is at a time.

        Answers come in bursts, and each commit waits for the disk: those that are being read now go with the first.
        """
        while self.answered or not self.no_more_answers:
            await self.to_write.wait()
            self.to_write.clear()
            for _ in range(_STEPS_OF_A_BURST):
                await asyncio.sleep(0)
            some, self.answered = self.answered, []
            if not some:
                continue
            try:
                await self._in_thread(self.store.save, {key: outcome for key, outcome, _ in some})
            except Exception as error:  # where nothing can be kept, nothing more may be paid for
                self._stop(error)
            else:
                for key, outcome, _ in some:
                    self._count(key, outcome)
            for _, _, committed in some:
                if not committed.done():
                    committed.set_result(None)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.store.lease_s / 3)
            await self._in_thread(self.store.renew)

    def _count(self, key: str, outcome: Outcome) -> None:
        self.outcomes[key] = outcome
        self.on_progress(outcome)

    def _stop(self, reason: BaseException) -> None:
        """Let the workers end what they are at, and take nothing further. The first reason counts."""
        self.failure = self.failure or reason
        self.stopping.set()
        while not self.claimed.full():
            self.claimed.put_nowait(None)

    def _tokens(self, request: Request) -> float:
        return _tokens_sent(request) + self.llm.max_tokens

    def _reserve(self, key: str) -> float:
        """The most that a question can cost: no token is shorter than a byte, and it may be asked a second time."""
        return 0.0 if self.store.budget_usd is None else 2 * self._most_of_one(key)

    def _most_of_one(self, key: str) -> float:
        """The most dollars that an attempt at a question can cost, also where it quotes an answer."""
        request = self.questions[key].render()
        sent = sum(len(turn.content.encode()) + 16 for turn in request.messages)
        return self.llm.price.of(sent + 1000, self.llm.max_tokens)

    def _has_room(self, key: str, sent: int, received: int, before: tuple[int, int] = (0, 0)) -> bool:
        """Whether what was set aside for a question has room for another attempt, after those that were paid for."""
        if self.store.budget_usd is None:
            return True
        most = self._most_of_one(key)
        return self.llm.price.of(sent + before[0], received + before[1]) <= most * (1 + 1e-9)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)


def _tokens_sent(request: Request) -> int:
    return sum(truncation.tokens(turn.content) for turn in request.messages)


def _tokens_of(request: Request, answer: Answer) -> tuple[int, int]:
    """Tokens sent and received; where the LLM does not tell them, more than most count."""
    sent = _tokens_sent(request) if answer.tokens_in is None else answer.tokens_in
    received = truncation.tokens(answer.text) if answer.tokens_out is None else answer.tokens_out
    return sent + answer.failed_in, received + answer.failed_out


def _read(answer: Answer, request: Request) -> Reading:
    """What an answer says; an answer that our reading fails on costs its item, not the run."""
    try:
        return parsed(answer, request)
    except Exception:
        return Reading("parse_error")


def shortened(text: str, most: int = 160) -> str:
    """A text on one line, with its middle left out where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"


async def _ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
