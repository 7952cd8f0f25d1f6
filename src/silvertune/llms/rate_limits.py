"""Asking an LLM no harder than it wants to be asked: rates, timeouts, retries, and giving up."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace

from silvertune.llms.interface import Answer, Ask, Limits, RejectedError, Request, TransientError, UnusableError


class GaveUpError(Exception):
    """No answer, after all that the limits allow. The message says what the last attempt met.

    Attributes:
        tokens_in: Tokens sent in attempts that are paid for all the same.
        tokens_out: Tokens received in attempts that are paid for all the same.
    """

    def __init__(self, message: str, tokens_in: int = 0, tokens_out: int = 0) -> None:
        super().__init__(message)
        self.tokens_in, self.tokens_out = tokens_in, tokens_out


class RateLimiter:
    """Asks one LLM within its limits; one object for all requests of a process.

    Concurrency is the caller's: it has at most so many requests here. A request that waits to be tried again keeps its
    place, so an LLM that refuses is asked less.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.attempts = 0
        self._requests = _Rate(limits.requests_per_minute)
        self._tokens = _Rate(limits.tokens_per_minute)
        self._failed_in_row = 0

    async def ask(
        self, ask: Ask, request: Request, tokens: float, has_room: Callable[[int, int], bool] = lambda *_: True
    ) -> Answer:
        """The answer, with the tokens of failed attempts that are paid for.

        tokens: what the request is expected to take, both ways.
        has_room: Tokens sent and received in failed attempts -> whether another attempt may be paid for.

        Raises GaveUpError where this one has no answer, and UnusableError where no further request makes sense: the
        LLM said so, or nothing came of the last many.
        """
        deadline = time.monotonic() + self.limits.deadline_s
        pause, failure, paid_in, paid_out = self.limits.backoff_s, "", 0, 0
        for attempt in range(self.limits.retries + 1):
            await self._requests.take(1)
            await self._tokens.take(tokens)
            left = deadline - time.monotonic()
            if attempt and left <= 0:
                break
            self.attempts += 1
            try:
                async with asyncio.timeout(min(self.limits.timeout_s, max(left, 1e-3))):
                    answer = await ask(request)
            except RejectedError as error:
                self._count_failure(str(error))
                raise GaveUpError(str(error), paid_in, paid_out) from None
            except TimeoutError:
                failure, least = f"no answer within {self.limits.timeout_s:g} s", 0.0
            except TransientError as error:
                failure, least = str(error), error.retry_after or 0.0
                paid_in, paid_out = paid_in + error.tokens_in, paid_out + error.tokens_out
            except UnusableError:
                raise
            except Exception as error:  # an answer that nobody foresaw costs its item, not the run
                self._count_failure(f"{type(error).__name__}: {error}")
                raise GaveUpError(f"{type(error).__name__}: {error}", paid_in, paid_out) from None
            else:
                self._failed_in_row = 0
                if answer.tokens_in is not None and answer.tokens_out is not None:
                    self._tokens.correct(answer.tokens_in + answer.tokens_out - tokens)
                if not paid_in and not paid_out:
                    return answer
                return replace(answer, failed_in=answer.failed_in + paid_in, failed_out=answer.failed_out + paid_out)
            # Full jitter: many that failed together do not come back together (Brooker, "Exponential Backoff and
            # Jitter", AWS 2015). What the server asks for comes first.
            wait = least * random.uniform(1.0, 1.1) + random.uniform(0.0, pause)
            pause = min(2 * pause, self.limits.longest_pause_s)
            if (paid_in or paid_out) and not has_room(paid_in, paid_out):
                failure += "; not tried again: attempts that failed have used up what the budget set aside for it"
                break
            if attempt == self.limits.retries or time.monotonic() + wait > deadline:
                break
            await asyncio.sleep(wait)
        self._count_failure(failure)
        raise GaveUpError(failure, paid_in, paid_out)

    def _count_failure(self, failure: str) -> None:
        self._failed_in_row += 1
        if self._failed_in_row >= max(10, 2 * self.limits.concurrency):
            raise UnusableError(
                f"labeler.llm.<name>: the last {self._failed_in_row} requests failed, the last with: {failure}"
            )


class _Rate:
    """Evenly spread: each taker is told to come when those before it have been served."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    async def take(self, amount: float) -> None:
        now = time.monotonic()
        start = max(now, self._free_at)
        self._free_at = start + amount * self._seconds_each
        if start > now:
            await asyncio.sleep(start - now)

    def correct(self, amount: float) -> None:
        """More (or less) was used than taken."""
        self._free_at += amount * self._seconds_each
