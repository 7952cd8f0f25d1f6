"""What every LLM must do, whoever runs it."""

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.llms import anthropic_double, gemini_double, made_llms, openai_double, tiny_lm

from silvertune import llms
from silvertune.interfaces import CheckResult
from silvertune.llms import Anthropic, Gemini, Limits, LocalCausalLM, Price
from silvertune.llms import gemini as gemini_module
from silvertune.llms.answers import read
from silvertune.llms.interface import LLM, Answer, Message, Request

SECRET = "sk-contract-0123456789abcdef"
REQUEST = Request((Message("system", "Say which."), Message("user", "the text")), ("YES", "NO"), ("label",))
Open = Callable[[ExitStack, Path], LLM]


def openai(stack: ExitStack, folder: Path) -> LLM:
    double = stack.enter_context(openai_double.serving(openai_double.Double(key=SECRET)))
    return made_llms.openai(double.url, api_key_env="CONTRACT_KEY")


def anthropic(stack: ExitStack, folder: Path) -> LLM:
    double = stack.enter_context(anthropic_double.serving(anthropic_double.Double(key=SECRET)))
    return Anthropic(
        model="claude-double-1", accept_model=None, base_url=double.url, api_key_env="CONTRACT_KEY", max_tokens=50,
        thinking="disabled", effort="low", structured=True, batch=False, batch_poll_s=1.0, price=Price(1.0, 2.0),
        limits=made_llms.limits(),
    )  # fmt: skip


def gemini(stack: ExitStack, folder: Path) -> LLM:
    double = stack.enter_context(gemini_double.serving(gemini_double.Double()))
    return Gemini(
        model="gemini-3.5-flash-lite", project=None, location="global", api_key_env="CONTRACT_KEY", temperature=0.0,
        max_tokens=50, thinking_budget=None, top_logprobs=5, base_url=double.url, price=Price(1.0, 2.0),
        limits=made_llms.limits(),
    )  # fmt: skip


def local(stack: ExitStack, folder: Path) -> LLM:
    path = str(tiny_lm.save(folder))
    return LocalCausalLM(model=path, revision=None, device="cpu", dtype="float32", batch_size=2)


LLMS: dict[str, Open] = {
    "OpenAICompatible": openai,
    "Anthropic": anthropic,
    "Gemini": gemini,
    "LocalCausalLM": local,
    "Scripted": lambda stack, folder: made_llms.Scripted(),
}


@pytest.fixture(params=LLMS)
def llm(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    monkeypatch.setenv("CONTRACT_KEY", SECRET)
    gemini_module._PROBES.clear()
    with ExitStack() as stack:
        yield LLMS[request.param](stack, tmp_path)


def answers(llm: LLM, *requests: Request) -> list[Answer]:
    async def go() -> list[Answer]:
        async with llm.connect() as ask:
            return list(await asyncio.gather(*map(ask, requests)))

    return asyncio.run(go())


def test_every_llm_of_the_face_has_a_case() -> None:
    assert {name for name in llms.__all__ if hasattr(getattr(llms, name), "connect")} <= set(LLMS)


def test_it_answers_with_a_word_that_was_asked_for(llm: LLM) -> None:
    (answer,) = answers(llm, REQUEST)
    reading = read(answer, REQUEST)
    assert reading.status == "ok"
    assert reading.word in REQUEST.words
    assert answer.model
    assert (answer.finish, answer.tokens_in >= 0, answer.tokens_out >= 0) == ("stop", True, True)


def test_the_probabilities_that_it_tells_are_a_distribution_with_the_answer_in_it(llm: LLM) -> None:
    reading = read(answers(llm, REQUEST)[0], REQUEST)
    if reading.probs is not None:
        assert set(reading.probs) == set(REQUEST.words)
        assert sum(reading.probs.values()) == pytest.approx(1.0)
        assert reading.probs[reading.word or ""] > 0


def test_the_same_question_has_the_same_answer_whatever_is_asked_beside_it(llm: LLM) -> None:
    other = Request((Message("system", "Say which."), Message("user", "another text")), ("YES", "NO"), ("label",))
    alone = answers(llm, REQUEST)[0]
    beside = answers(llm, other, REQUEST, other)[1]
    assert (beside.text, beside.finish) == (alone.text, alone.finish)


def test_its_identity_is_json_and_holds_no_secret(llm: LLM) -> None:
    content = json.dumps(llm.identity(), sort_keys=True)
    assert json.dumps(llm.identity(), sort_keys=True) == content
    assert SECRET not in content + repr(llm)


def test_what_is_not_in_its_identity_is_a_parameter_of_its(llm: LLM) -> None:
    names: Any = getattr(type(llm), "not_in_identity", frozenset())
    assert set(names) <= set(inspect.signature(type(llm)).parameters)
    assert not set(names) & set(llm.identity())


def test_it_says_its_limits_and_its_price(llm: LLM) -> None:
    assert isinstance(llm.limits, Limits)
    assert isinstance(llm.price, Price)
    assert llm.max_tokens >= 0


def test_a_check_generates_nothing_and_says_what_it_looked_at(llm: LLM) -> None:
    results = llm.check()
    assert results
    assert all(isinstance(result, CheckResult) and result.ok and result.what for result in results)
    assert SECRET not in repr(results)
