"""Interrupts while answers are under way to the disk."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tests.llms import made_llms
from tests.llms.made_llms import Scripted

from silvertune.llms import asking
from silvertune.llms.answer_store import AnswerStore, Claim
from silvertune.llms.asking import Question, _Asking
from silvertune.llms.interface import Message, Request, UnusableError


class BusyStore(AnswerStore):
    """A store whose second claim takes long, so that what is to be saved waits for the thread."""

    claims = 0

    def claim(self, keys: Sequence[str], reserve: Sequence[float]) -> Claim:
        self.claims += 1
        if self.claims == 2:
            time.sleep(0.5)
        return super().claim(keys, reserve)


@pytest.mark.parametrize("says", ['{"label": "YES"}', "hm"])
def test_an_interrupt_loses_no_answer_that_waits_to_be_written(
    tmp_path: Path, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "GRACE_S", 0.05)  # the disk is slower than an interrupt waits

    def question(key: str) -> Question:
        request = Request((Message("user", key),), ("YES", "NO"), ("label",))
        return Question(key, lambda: request, lambda: None, lambda model: f"{key}-{model}")

    def opened(kind: type[AnswerStore]) -> AnswerStore:
        return kind(f"sqlite:///{tmp_path / 'labels.sqlite'}", lease_s=60.0, remember_s=3600.0, budget_usd=None)

    keys = [f"k{number}" for number in range(64)]
    llm = Scripted(lambda _: says, limits=made_llms.limits(concurrency=16))
    run = _Asking(llm, {key: question(key) for key in keys}, opened(BusyStore), lambda _: None)

    async def go() -> None:
        task = asyncio.create_task(run.run())
        while not llm.requests:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)  # answers have come, and the thread is at the claim
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(go())
    store = opened(AnswerStore)
    asked = {request.messages[0].content for request in llm.requests}
    assert asked
    assert set(store.read(keys)) == asked
    assert store.spent_usd() == pytest.approx(sum(llm.price.of(100, 5) for _ in llm.requests))
    store.close()


def test_hard_questions_alone_do_not_make_an_llm_unusable(tmp_path: Path) -> None:
    """A later sweep asks again what had no label, and that alone: in a row, however well all else was answered."""
    request = Request((Message("user", "hard"),), ("YES", "NO"), ("label",))
    hard = [Question(f"k{number}", lambda: request, lambda: None, lambda model: model) for number in range(48)]
    llm = Scripted(lambda _: "I am not sure.", limits=made_llms.limits(concurrency=4))

    def ask(n_labelled: int) -> int:
        place = f"sqlite:///{tmp_path / f'{n_labelled}.sqlite'}"
        store = AnswerStore(place, lease_s=60.0, remember_s=3600.0, budget_usd=None)
        return len(asking.ask_all(llm, hard, store, lambda _: None, n_labelled=n_labelled))

    assert ask(1952) == 48
    with pytest.raises(UnusableError, match="no label in its last 36"):
        ask(40)
