import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests import made
from tests.llms import anthropic_double, made_llms
from tests.llms.anthropic_double import Double, error, serving

from silvertune.llms import Anthropic, Price
from silvertune.llms.interface import Answer, Message, RejectedError, Request, TransientError, UnusableError

SECRET = "sk-ant-test-4f9a8b7c6d5e4f3a2b1c"
ASKED = Request((Message("system", "Say which."), Message("user", "a"), Message("assistant", '{"label": "NO"}'),
                 Message("user", "the text")), ("YES", "NO"), ("label",))  # fmt: skip


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.setenv("ANTHROPIC_TEST_KEY", SECRET)
    with serving(Double(key=SECRET)) as running:
        yield running


def model(double: Double, **changed: Any) -> Anthropic:
    usual: dict[str, Any] = {
        "model": "claude-double-1", "accept_model": None, "base_url": double.url, "api_key_env": "ANTHROPIC_TEST_KEY",
        "max_tokens": 50, "thinking": "disabled", "effort": "low", "structured": True, "batch": False,
        "batch_poll_s": 0.02, "price": Price(1.0, 2.0), "limits": made_llms.limits(),
    }  # fmt: skip
    return Anthropic(**(usual | changed))


def answer(double: Double, request: Request = ASKED, **changed: Any) -> Answer:
    async def go() -> Answer:
        async with model(double, **changed).connect() as ask:
            return await ask(request)

    return asyncio.run(go())


def test_a_label_and_its_usage_arrive_with_what_the_cache_holds(double: Double) -> None:
    found = answer(double)
    assert json.loads(found.text)["label"] in ("YES", "NO")
    assert (found.finish, found.model, found.asked) == ("stop", "claude-double-1", "claude-double-1")
    assert (found.tokens_in, found.tokens_out) == (100, 7)
    assert found.tokens == ()


def test_the_request_is_what_it_is_configured_to_be(double: Double) -> None:
    answer(double, Request(ASKED.messages, ("YES", "NO"), ("reason", "label", "confidence"), repeat=2))
    (sent,) = double.requests
    assert sent["system"] == "Say which."
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
    assert (sent["model"], sent["max_tokens"], sent["thinking"]) == ("claude-double-1", 50, {"type": "disabled"})
    assert sent["output_config"]["effort"] == "low"
    schema = sent["output_config"]["format"]["schema"]
    assert schema["required"] == ["reason", "label", "confidence"]
    assert schema["properties"]["label"]["enum"] == ["YES", "NO"]
    assert "temperature" not in sent
    assert double.headers[0]["x-api-key"] == SECRET
    answer(double, structured=False, thinking=None, effort=None)
    assert set(double.requests[-1]) == {"model", "max_tokens", "messages", "system"}


@pytest.mark.parametrize(
    ("changed", "text", "finish"),
    [
        ({"content": [{"type": "thinking", "thinking": "hm, NO?", "signature": "s"},
                      {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": '{"label": "YES"}'}]},
         '{"label": "YES"}', "stop"),
        ({"content": [{"type": "text", "text": '{"label": '}, {"type": "text", "text": '"YES"}'}]},
         '{"label": "YES"}', "stop"),
        ({"content": [{"type": "tool_use", "id": "t", "name": "answer", "input": {"label": "YES"}}],
          "stop_reason": "tool_use"}, '{"label": "YES"}', "stop"),
        ({"content": [{"type": "text", "text": '{"lab'}], "stop_reason": "max_tokens"}, '{"lab', "length"),
        ({"content": [{"type": "thinking", "thinking": "hm", "signature": "s"}], "stop_reason": "max_tokens"},
         "max_tokens", "length"),
        ({"content": [], "stop_reason": "model_context_window_exceeded"}, "model_context_window_exceeded", "length"),
        ({"content": [], "stop_reason": "refusal",
          "stop_details": {"type": "refusal", "category": "bio", "explanation": None}}, "refusal: bio", "refused"),
        ({"content": [{"type": "text", "text": "I can't."}], "stop_reason": "refusal"}, "I can't.", "refused"),
    ],
)  # fmt: skip
def test_each_form_of_an_answer_is_read(double: Double, changed: dict[str, Any], text: str, finish: str) -> None:
    said = anthropic_double.message("YES", **changed)
    double.fixed = lambda: web.json_response(text=said)
    found = answer(double)
    assert (found.text, found.finish, found.tokens_in, found.tokens_out) == (text, finish, 100, 7)


@pytest.mark.parametrize(
    ("fixed", "kind", "words"),
    [
        (lambda: error(403, "permission_error", "no"), UnusableError, "refused the key (403)"),
        (lambda: error(404, "not_found_error", "model: claude-x"), UnusableError, "not there (404: model: claude-x)"),
        (lambda: error(402, "billing_error", "pay"), UnusableError, "add credit"),
        (lambda: error(400, "invalid_request_error", "Your credit balance is too low to access the API."),
         UnusableError, "add credit"),
        (lambda: error(429, "rate_limit_error", "limit", details={"error_code": "enforced_spend_limit_reached"}),
         UnusableError, "wait until it renews"),
        (lambda: error(429, "rate_limit_error", "slower", {"retry-after": "17"}), TransientError, "429: slower"),
        (lambda: error(500, "api_error", "oops"), TransientError, "500: oops"),
        (lambda: error(504, "timeout_error", "late"), TransientError, "504: late"),
        (lambda: error(529, "overloaded_error", "Overloaded"), TransientError, "529: Overloaded"),
        (lambda: error(400, "invalid_request_error", "bad"), RejectedError, "400: bad"),
        (lambda: web.Response(status=502, text="<html>bad gateway</html>"), TransientError, "502"),
        (lambda: web.Response(text='{"content": [{"ty'), TransientError, "not as the API's should be"),
        (lambda: web.json_response({"content": None}), TransientError, "not as the API's should be"),
        (lambda: web.Response(text=f"who has {SECRET}?"), TransientError, "who has [hidden]?"),
        (lambda: web.json_response({"content": [], "stop_reason": "engine_overloaded"}), TransientError,
         "the provider ended the answer: engine_overloaded"),
    ],
)  # fmt: skip
def test_an_error_says_what_it_means(double: Double, fixed: Any, kind: type[Exception], words: str) -> None:
    double.fixed = fixed
    with pytest.raises(kind) as caught:
        answer(double)
    assert words in str(caught.value)
    assert len(double.requests) == 1
    if isinstance(caught.value, TransientError):
        assert caught.value.retry_after == (17.0 if "slower" in words else None)


def test_tokens_that_are_none_are_not_told(double: Double) -> None:
    said = anthropic_double.message("YES", usage={"input_tokens": 0, "output_tokens": 0})
    double.fixed = lambda: web.json_response(text=said)
    found = answer(double)
    assert (found.tokens_in, found.tokens_out) == (None, None)


def test_an_empty_answer_is_worth_another_try_and_paid_for(double: Double) -> None:
    said = anthropic_double.message("YES", content=[])
    double.fixed = lambda: web.json_response(text=said)
    with pytest.raises(TransientError, match="an empty answer") as caught:
        answer(double)
    assert (caught.value.tokens_in, caught.value.tokens_out) == (100, 7)


@pytest.mark.parametrize(
    "fixed",
    [lambda: error(413, "request_too_large", "Request exceeds the maximum size"),
     lambda: error(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
     lambda: error(400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 199990 + 50")],
)  # fmt: skip
def test_a_text_that_is_too_long_is_its_items_matter(double: Double, fixed: Any) -> None:
    double.fixed = fixed
    assert answer(double).finish == "length"


def test_a_model_without_json_by_schema_is_asked_without_it(double: Double, capsys: pytest.CaptureFixture[str]) -> None:
    double.refuses = ("output_config.format",)
    assert answer(double).finish == "stop"
    assert "format" not in double.requests[-1]["output_config"]
    assert capsys.readouterr().err == "silvertune: claude-double-1 does not take format; asking without it\n"


@pytest.mark.parametrize("member", ["thinking", "output_config.effort"])
def test_a_setting_that_a_model_refuses_stops_it(double: Double, member: str) -> None:
    double.refuses = (member,)
    name = member.rpartition(".")[2]
    with pytest.raises(UnusableError, match=rf"labeler.llm.<name>.{name}=\w+: claude-double-1 does not take it"):
        answer(double)
    assert answer(double, **{name: None}).finish == "stop"


def test_a_refused_key_is_told_without_it(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_TEST_KEY", SECRET[:-1])
    with pytest.raises(UnusableError, match="api_key_env=ANTHROPIC_TEST_KEY: the server refused the key") as caught:
        answer(double)
    assert SECRET[:8] not in str(caught.value)
    double.key = None
    double.fixed = lambda: error(400, "invalid_request_error", f"bad {SECRET[:-1]}")
    with pytest.raises(RejectedError, match=r"bad \[hidden\]"):
        answer(double)


def test_settings_that_make_no_sense_are_told(double: Double) -> None:
    with made.refused("thinking=on", "disabled or adaptive"):
        model(double, thinking="on")
    with made.refused("effort=most", "low, medium, high, xhigh or max"):
        model(double, effort="most")
    with made.refused("api_key_env", "NAME of an environment variable"):
        model(double, api_key_env=SECRET)
    with made.refused("base_url"):
        model(double, base_url="api.anthropic.com")


def test_what_can_change_the_answers_is_its_identity_and_nothing_else(double: Double) -> None:
    one = model(double)
    assert one.identity() == replace(one, base_url="http://b/v1", price=Price(0.0, 0.0)).identity()
    for changed in ({"model": "x"}, {"accept_model": "y"}, {"max_tokens": 9}, {"thinking": None}, {"effort": None},
                    {"structured": False}):  # fmt: skip
        assert model(double, **changed).identity() != one.identity()


def test_a_check_says_what_is_there_and_what_is_not(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(result.ok, result.mend) for result in model(double).check()] == [(True, "")]
    double.lifecycle = "deprecated"
    assert "will end" in model(double).check()[-1].what
    (gone,) = model(double, model="claude-double-9").check()
    assert (gone.ok, "not there (404" in gone.mend) == (False, True)
    (down,) = model(double, base_url="http://127.0.0.1:9/v1").check()
    assert (down.ok, "is the network up?" in down.mend) == (False, True)
    monkeypatch.delenv("ANTHROPIC_TEST_KEY")
    (found,) = model(double).check()
    assert (found.ok, "export ANTHROPIC_TEST_KEY" in found.mend) == (False, True)
    assert double.requests == []


def test_it_labels_with_what_it_claims_as_confidence_and_stops_where_another_model_answers(
    double: Double, tmp_path: Path
) -> None:
    task = replace(made.SOE, answers={"soe": "YES", "other": "NO"})
    said = anthropic_double.message(
        "YES", content=[{"type": "text", "text": '{"label": "YES", "confidence": 0.7}', "citations": None}]
    )
    double.fixed = lambda: web.json_response(text=said)
    table = made_llms.labeler(task, {"claude": model(double)}, tmp_path, confidence=True).label(made.items(5))
    assert set(table["status"]) == {"ok"}
    assert set(table["confidence"]) == {0.7}
    assert set(table["cost_usd"]) == {100e-6 + 14e-6}
    double.fixed = lambda: web.json_response(text=said.replace("claude-double-1", "claude-other-1"))
    with made.refused("claude-double-1 was asked, and now claude-other-1 answers", "labeler.llm.claude.accept_model"):
        made_llms.labeler(task, {"claude": model(double)}, tmp_path, confidence=True).label(made.items(9))
