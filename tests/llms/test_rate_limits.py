import asyncio
import time
from collections.abc import Callable

import pytest
from tests.llms.made_llms import limits

from silvertune.llms.interface import Answer, Message, RejectedError, Request, TransientError, UnusableError
from silvertune.llms.rate_limits import GaveUpError, Politeness

ASKED = Request((Message("user", "?"),), ("a", "b"), ("label",))
FINE = Answer("{}", "stop", "m", 10, 5)


def llm(*says: Answer | Exception | float) -> Callable[[Request], "asyncio.Future[Answer]"]:
    """Says each in turn and then the last for ever; a number is a wait."""
    left = list(says)

    async def ask(_: Request) -> Answer:
        said = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(said, float):
            await asyncio.sleep(said)
            return FINE
        if isinstance(said, Exception):
            raise said
        return said

    return ask  # type: ignore[return-value]


def test_what_fails_in_passing_is_tried_again() -> None:
    polite = Politeness(limits(timeout_s=0.05))
    found = asyncio.run(polite.ask(llm(TransientError("503"), 1.0, FINE), ASKED, 10))
    assert found == FINE
    assert polite.attempts == 3


def test_it_waits_as_long_as_the_server_asks() -> None:
    started = time.monotonic()
    asyncio.run(Politeness(limits(backoff_s=0.001)).ask(llm(TransientError("429", 0.3), FINE), ASKED, 10))
    assert 0.3 <= time.monotonic() - started < 1.0


def test_it_gives_up_after_its_retries_and_says_why() -> None:
    polite = Politeness(limits(retries=2))
    with pytest.raises(GaveUpError, match="503: busy"):
        asyncio.run(polite.ask(llm(TransientError("503: busy")), ASKED, 10))
    assert polite.attempts == 3


def test_it_does_not_wait_beyond_its_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(GaveUpError, match="429"):
        asyncio.run(Politeness(limits(deadline_s=0.2)).ask(llm(TransientError("429", 30.0)), ASKED, 10))
    assert time.monotonic() - started < 0.2


def test_what_is_rejected_is_not_tried_again() -> None:
    polite = Politeness(limits())
    with pytest.raises(GaveUpError, match="400"):
        asyncio.run(polite.ask(llm(RejectedError("400")), ASKED, 10))
    assert polite.attempts == 1


def test_an_unusable_llm_is_told_at_once() -> None:
    polite = Politeness(limits())
    with pytest.raises(UnusableError):
        asyncio.run(polite.ask(llm(UnusableError("no key")), ASKED, 10))
    assert polite.attempts == 1


def test_many_failures_in_a_row_end_it_and_one_answer_starts_the_count_anew() -> None:
    async def ask_often(polite: Politeness, times: int, *says: Answer | Exception) -> None:
        for _ in range(times):
            with pytest.raises(GaveUpError):
                await polite.ask(llm(*says), ASKED, 10)

    async def go() -> None:
        polite = Politeness(limits(concurrency=6))
        await ask_often(polite, 11, RejectedError("400: bad"))
        await polite.ask(llm(FINE), ASKED, 10)
        await ask_often(polite, 11, RejectedError("400: bad"))
        with pytest.raises(UnusableError, match="the last 12 requests failed, the last with: 400: bad"):
            await polite.ask(llm(RejectedError("400: bad")), ASKED, 10)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("rates", "tokens"), [({"requests_per_minute": 1200}, 1.0), ({"tokens_per_minute": 18_000}, 15.0)]
)
def test_requests_and_tokens_are_spread_over_the_minute(rates: dict[str, float], tokens: float) -> None:
    async def go() -> float:
        polite = Politeness(limits(**rates))
        started = time.monotonic()
        await asyncio.gather(*(polite.ask(llm(FINE), ASKED, tokens) for _ in range(11)))
        return time.monotonic() - started

    assert 0.5 <= asyncio.run(go()) < 0.9  # ten spaces of 50 ms


def test_tokens_that_were_expected_and_not_used_are_given_back() -> None:
    async def go() -> float:
        polite = Politeness(limits(tokens_per_minute=6000))
        started = time.monotonic()
        for _ in range(3):
            await polite.ask(llm(FINE), ASKED, 40.0)  # used: 15
        return time.monotonic() - started

    assert 0.25 <= asyncio.run(go()) < 0.6
