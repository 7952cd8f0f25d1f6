import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from tests.llms.made_llms import limits

from silvertune.llms import rate_limits
from silvertune.llms.interface import Answer, Message, RejectedError, Request, TransientError, UnusableError
from silvertune.llms.rate_limits import GaveUpError, RateLimiter

ASKED = Request((Message("user", "?"),), ("a", "b"), ("label",))
FINE = Answer("{}", "stop", "m", 10, 5)


class SimulatedTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it: what is measured is the same on a busy machine."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            ready = select(0)
            if not ready and timeout:
                self.now += timeout
            return ready

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))


def run(work: Coroutine[Any, Any, Any]) -> tuple[Any, float]:
    """What `work` returns, and how many simulated seconds it took. The limits may be made before there is a loop."""
    with asyncio.Runner(loop_factory=SimulatedTimeLoop) as runner:
        result = runner.run(work)
        return result, runner.get_loop().time()


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
    polite = RateLimiter(limits(timeout_s=0.05))
    found = run(polite.ask(llm(TransientError("503"), 1.0, FINE), ASKED, 10))[0]
    assert found == FINE
    assert polite.attempts == 3


def test_it_waits_as_long_as_the_server_asks() -> None:
    _, seconds = run(RateLimiter(limits(backoff_s=0.001)).ask(llm(TransientError("429", 0.3), FINE), ASKED, 10))
    assert 0.3 <= seconds < 0.4  # a random part is added, so that clients do not come back together


def test_it_gives_up_after_its_retries_and_says_why() -> None:
    polite = RateLimiter(limits(retries=2))
    with pytest.raises(GaveUpError, match="503: busy"):
        run(polite.ask(llm(TransientError("503: busy")), ASKED, 10))[0]
    assert polite.attempts == 3


def test_it_does_not_wait_beyond_its_deadline() -> None:
    async def go() -> None:
        with pytest.raises(GaveUpError, match="429"):
            await RateLimiter(limits(deadline_s=0.2)).ask(llm(TransientError("429", 30.0)), ASKED, 10)

    assert run(go())[1] < 0.2


def test_what_is_rejected_is_not_tried_again() -> None:
    polite = RateLimiter(limits())
    with pytest.raises(GaveUpError, match="400"):
        run(polite.ask(llm(RejectedError("400")), ASKED, 10))[0]
    assert polite.attempts == 1


def test_an_unusable_llm_is_told_at_once() -> None:
    polite = RateLimiter(limits())
    with pytest.raises(UnusableError):
        run(polite.ask(llm(UnusableError("no key")), ASKED, 10))[0]
    assert polite.attempts == 1


def test_many_failures_in_a_row_end_it_and_one_answer_starts_the_count_anew() -> None:
    async def ask_often(polite: RateLimiter, times: int, *says: Answer | Exception) -> None:
        for _ in range(times):
            with pytest.raises(GaveUpError):
                await polite.ask(llm(*says), ASKED, 10)

    async def go() -> None:
        polite = RateLimiter(limits(concurrency=6))
        await ask_often(polite, 11, RejectedError("400: bad"))
        await polite.ask(llm(FINE), ASKED, 10)
        await ask_often(polite, 11, RejectedError("400: bad"))
        with pytest.raises(UnusableError, match="the last 12 requests failed, the last with: 400: bad"):
            await polite.ask(llm(RejectedError("400: bad")), ASKED, 10)

    run(go())[0]


@pytest.mark.parametrize(
    ("rates", "tokens"), [({"requests_per_minute": 1200}, 1.0), ({"tokens_per_minute": 18_000}, 15.0)]
)
def test_requests_and_tokens_are_spread_over_the_minute(rates: dict[str, float], tokens: float) -> None:
    async def go() -> None:
        polite = RateLimiter(limits(**rates))
        await asyncio.gather(*(polite.ask(llm(FINE), ASKED, tokens) for _ in range(11)))

    assert run(go())[1] == pytest.approx(0.5)  # ten spaces of 50 ms


def test_tokens_that_were_expected_and_not_used_are_given_back() -> None:
    async def go() -> None:
        polite = RateLimiter(limits(tokens_per_minute=6000))
        for _ in range(3):
            await polite.ask(llm(FINE), ASKED, 40.0)  # used: 15

    assert 0.25 <= run(go())[1] < 0.6
