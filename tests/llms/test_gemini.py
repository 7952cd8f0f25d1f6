import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.genai import types
from tests import made
from tests.llms import gemini_double, made_llms
from tests.llms.gemini_double import Double, error, serving

from silvertune.llms import gemini
from silvertune.llms.gemini import Gemini
from silvertune.llms.interface import Answer, Message, Price, RejectedError, Request, TransientError, UnusableError

SECRET = "AIzaSyTest-4f9a8b7c6d5e4f3a2b1c"
ASKED = Request((Message("system", "Say which."), Message("user", "a"), Message("assistant", '{"label": "NO"}'),
                 Message("user", "the text")), ("YES", "NO"), ("label",))  # fmt: skip


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.setenv("GEMINI_TEST_KEY", SECRET)
    gemini._PROBES.clear()
    with serving(Double()) as running:
        yield running


def model(double: Double, **changed: Any) -> Gemini:
    usual: dict[str, Any] = {
        "model": "gemini-3.5-flash-lite", "project": None, "location": "global", "api_key_env": "GEMINI_TEST_KEY",
        "temperature": 0.0, "max_tokens": 50, "thinking_budget": None, "thinking_level": "minimal",
        "top_logprobs": 5, "base_url": double.url,
        "price": Price(1.0, 2.0), "limits": made_llms.limits(),
    }  # fmt: skip
    return Gemini(**(usual | changed))


def answer(double: Double, request: Request = ASKED, **changed: Any) -> Answer:
    async def go() -> Answer:
        async with model(double, **changed).connect() as ask:
            return await ask(request)

    return asyncio.run(go())


def test_label_probabilities_and_usage_arrive(double: Double) -> None:
    found = answer(double)
    assert json.loads(found.text)["label"] in ("YES", "NO")
    assert (found.finish, found.model, found.tokens_in, found.tokens_out) == ("stop", "gemini-3.5-flash-lite", 100, 7)
    assert len(found.tokens) == 5
    assert len(found.tokens[3].alternatives) == 2


def test_the_request_is_what_it_is_configured_to_be(double: Double) -> None:
    answer(double, Request(ASKED.messages, ("YES", "NO"), ("reason", "label"), repeat=2), temperature=0.5)
    sent = double.requests[-1]
    assert [turn["role"] for turn in sent["contents"]] == ["user", "model", "user"]
    assert sent["systemInstruction"]["parts"][0]["text"] == "Say which."
    config = sent["generationConfig"]
    assert (config["temperature"], config["seed"], config["maxOutputTokens"]) == (0.5, 2, 50)
    assert config["responseSchema"]["properties"]["label"]["enum"] == ["YES", "NO"]
    assert config["responseSchema"]["property_ordering"] == ["reason", "label"]
    assert config["thinkingConfig"] == {"thinking_level": "MINIMAL"}
    assert double.paths[-1].endswith("models/gemini-3.5-flash-lite:generateContent")
    assert {key.lower(): value for key, value in double.headers[-1].items()}["x-goog-api-key"] == SECRET


def test_whether_a_model_tells_probabilities_is_found_out_before_the_rest_is_sent(
    double: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    double.tells_logprobs = False
    for _ in range(2):
        assert answer(double).tokens == ()
    assert "responseLogprobs" not in double.requests[-1]["generationConfig"]
    assert len(double.requests) == 3  # one probe, two questions
    assert "tells no log probabilities" in capsys.readouterr().err
    answer(double, top_logprobs=None)
    assert len(double.requests) == 4


def test_vertex_ai_is_asked_in_the_name_of_the_project(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    import google.auth
    from google.oauth2.credentials import Credentials

    monkeypatch.setattr(google.auth, "default", lambda **_: (Credentials("ya29.test"), "mine"))
    assert answer(double, project="mine", location="europe-west4", api_key_env=None).finish == "stop"
    assert "/projects/mine/locations/europe-west4/publishers/google/models/" in double.paths[-1]


def test_without_google_credentials_it_says_how_to_get_them(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    def none(**_: Any) -> Any:
        raise DefaultCredentialsError("none")

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(UnusableError, match="gcloud auth application-default login"):
        answer(double, project="mine")


DAY = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]  # fmt: skip
WAIT = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]


@pytest.mark.parametrize(
    ("fixed", "kind", "words"),
    [
        (lambda: error(400, f"API key not valid: {SECRET}", "INVALID_ARGUMENT", [{"reason": "API_KEY_INVALID"}]),
         UnusableError, "api_key_env=GEMINI_TEST_KEY: Google refused it"),
        (lambda: error(403, "no permission", "PERMISSION_DENIED"), UnusableError, "Vertex AI User"),
        (lambda: error(404, "models/x is not found", "NOT_FOUND"), UnusableError, "no such model"),
        (lambda: error(429, "exhausted", "RESOURCE_EXHAUSTED", DAY), UnusableError, "quota"),
        (lambda: error(429, "exhausted", "RESOURCE_EXHAUSTED", WAIT), TransientError, "429"),
        (lambda: error(503, "overloaded", "UNAVAILABLE"), TransientError, "503: overloaded"),
        (lambda: error(400, "bad schema", "INVALID_ARGUMENT"), RejectedError, "400: bad schema"),
        (lambda: web.Response(text='{"candidates": [{"con'), TransientError, "on the way to Gemini"),
        (lambda: web.Response(text="{}", content_type="application/json"), TransientError, "without a candidate"),
        (lambda: web.Response(status=502, text="<html>"), TransientError, "502"),
    ],
)  # fmt: skip
def test_an_error_says_what_it_means(double: Double, fixed: Any, kind: type[Exception], words: str) -> None:
    double.fixed = fixed
    with pytest.raises(kind, match=words) as caught:
        answer(double, top_logprobs=None)
    assert SECRET[:8] not in str(caught.value)
    if "exhausted" in str(caught.value) and isinstance(caught.value, TransientError):
        assert caught.value.retry_after == 17.0


def test_a_server_that_is_not_there_is_worth_another_try(double: Double) -> None:
    with pytest.raises(TransientError):
        answer(double, base_url="http://127.0.0.1:9", top_logprobs=None)


@pytest.mark.parametrize(
    ("changed", "finish"),
    [
        ({"candidate": {"content": None, "finish_reason": types.FinishReason.SAFETY}}, "refused"),
        ({"candidate": {"finish_reason": types.FinishReason.PROHIBITED_CONTENT}}, "refused"),
        ({"candidate": {"content": None, "finish_reason": types.FinishReason.MAX_TOKENS}}, "length"),
        ({"candidates": [], "prompt_feedback": types.GenerateContentResponsePromptFeedback(
            block_reason=types.BlockedReason.PROHIBITED_CONTENT)}, "refused"),
    ],
)  # fmt: skip
def test_what_google_blocks_or_cuts_off_is_told(double: Double, changed: dict[str, Any], finish: str) -> None:
    text = gemini_double.answer("YES", ["YES", "NO"], False, **changed)
    double.fixed = lambda: web.Response(text=text, content_type="application/json")
    found = answer(double, top_logprobs=None)
    assert (found.finish, found.tokens_in) == (finish, 100)
    assert found.text


def test_an_answer_that_google_ended_is_worth_another_try(double: Double) -> None:
    reason = types.FinishReason.MALFORMED_FUNCTION_CALL
    text = gemini_double.answer("YES", ["YES", "NO"], False, candidate={"content": None, "finish_reason": reason})
    double.fixed = lambda: web.Response(text=text, content_type="application/json")
    with pytest.raises(TransientError, match="MALFORMED_FUNCTION_CALL") as caught:
        answer(double, top_logprobs=None)
    assert caught.value.tokens_in == 100


def test_a_text_that_is_too_long_is_its_items_matter(double: Double) -> None:
    words = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    double.fixed = lambda: error(400, words, "INVALID_ARGUMENT")
    assert answer(double, top_logprobs=None).finish == "length"


def test_thoughts_are_no_part_of_an_answer(double: Double) -> None:
    thought = types.Part(text='{"label": "NO"}', thought=True)
    said = types.Part(text='{"label": "YES"}', thought_signature=b"x")
    text = gemini_double.answer(
        "YES", ["YES", "NO"], False, candidate={"content": types.Content(parts=[thought, said])}
    )
    double.fixed = lambda: web.Response(text=text, content_type="application/json")
    found = answer(double, top_logprobs=None)
    assert (found.text, found.tokens_out) == ('{"label": "YES"}', 7)
    cut = {"content": types.Content(parts=[thought]), "finish_reason": types.FinishReason.MAX_TOKENS}
    text = gemini_double.answer("YES", ["YES", "NO"], False, candidate=cut)
    double.fixed = lambda: web.Response(text=text, content_type="application/json")
    found = answer(double, top_logprobs=None)
    assert (found.text, found.finish) == ("MAX_TOKENS", "length")


def test_an_empty_candidate_is_worth_another_try(double: Double) -> None:
    text = gemini_double.answer("YES", ["YES", "NO"], False, candidate={"content": None})
    double.fixed = lambda: web.Response(text=text, content_type="application/json")
    with pytest.raises(TransientError, match="an empty candidate") as caught:
        answer(double, top_logprobs=None)
    assert (caught.value.tokens_in, caught.value.tokens_out) == (100, 7)  # it is paid for all the same


def test_a_probe_that_is_not_answered_holds_nothing_up_for_ever(double: Double) -> None:
    double.hang_s = 30.0

    async def go() -> None:
        async with asyncio.timeout(10), model(double, limits=made_llms.limits(timeout_s=0.2)).connect():
            pass

    asyncio.run(go())
    assert len(double.requests) == 1


def test_it_labels(double: Double, tmp_path: Path) -> None:
    task = made.Task(**(vars(made.SOE) | {"answers": {"soe": "YES", "other": "NO"}}))
    table = made_llms.labeler(task, {"gemini": model(double)}, tmp_path).label(made.items(10))
    assert set(table["status"]) == {"ok"}
    assert table["confidence"].between(0.89, 0.91).all()
    # The probe is paid for with the first answer.
    assert sorted(table["cost_usd"]) == pytest.approx([114e-6] * 19 + [2 * 114e-6])
    assert len(double.requests) == 21


@pytest.mark.parametrize("lost", ["connection", "503"])
def test_a_request_whose_answer_is_lost_is_sent_once(double: Double, lost: str) -> None:
    """The SDK's implicit retry would send it again, by itself and without a word: paid twice, counted once."""

    double.drops = lost == "connection"
    double.fixed = lambda: error(503, "The model is overloaded.", "UNAVAILABLE")
    with pytest.raises(TransientError):
        answer(double, top_logprobs=None)
    assert len(double.requests) == 1


@pytest.mark.parametrize("lost", ["connection", "503"])
def test_a_probe_or_a_look_whose_answer_is_lost_is_sent_once(double: Double, lost: str) -> None:
    double.drops = lost == "connection"
    double.fixed = lambda: error(503, "The model is overloaded.", "UNAVAILABLE")

    async def connect() -> None:
        async with model(double).connect():
            pass

    asyncio.run(connect())
    (found,) = model(double).check()
    assert not found.ok
    assert len(double.requests) == 1  # aiohttp itself repeats the look, a GET, which is free


def test_a_model_that_google_has_shut_down_is_not_asked(double: Double) -> None:
    for name in ("text-bison@001", "gemini-pro", "gemini-1.5-flash"):
        with made.refused(f"model={name}", "has ended it on 2025-09-24; want gemini-3.5-flash-lite"):
            answer(double, model=name, thinking_level=None)
    assert double.requests == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"thinking_budget": 0}, ("thinking_level=minimal", "thinking_budget=0", "refuses both")),
        ({"thinking_level": "none"}, ("thinking_level=none", "minimal, low, medium or high")),
        ({"thinking_level": None, "thinking_budget": 0}, ("thinking_budget=0", "want thinking_budget=null")),
        ({"model": "models/gemini-2.5-flash"}, ("thinking_level=minimal", "want thinking_level=null")),
    ],
)
def test_each_family_takes_its_own_setting_of_thinking(
    double: Double, changed: dict[str, Any], words: tuple[str, ...]
) -> None:
    with made.refused(*words):
        model(double, **changed)


def test_gemini_2_5_takes_a_budget(double: Double) -> None:
    answer(double, model="gemini-2.5-flash-lite", accept_model="gemini-3.5-flash-lite", thinking_level=None,
           thinking_budget=0)  # fmt: skip
    assert double.requests[-1]["generationConfig"]["thinkingConfig"] == {"thinking_budget": 0}


def test_settings_that_make_no_sense_are_told(double: Double) -> None:
    with made.refused("api_key_env", "NAME of an environment variable"):
        model(double, api_key_env=SECRET)
    with made.refused("location"):
        model(double, project="mine", location=None)


def test_a_check_says_what_is_there_and_what_is_not(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = model(double).check()
    assert found.ok
    double.fixed = lambda: error(403, "denied", "PERMISSION_DENIED")
    (found,) = model(double).check()
    assert (found.ok, "Google refused it" in found.mend) == (False, True)
    monkeypatch.delenv("GEMINI_TEST_KEY")
    (found,) = model(double).check()
    assert (found.ok, "export GEMINI_TEST_KEY" in found.mend) == (False, True)
    assert double.requests == []
