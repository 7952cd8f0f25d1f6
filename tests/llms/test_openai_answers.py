"""Answers of servers in every shape that was seen or is likely: what they say, what they cost, what went wrong."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.llms import answers, openai_answers
from silvertune.llms.interface import Answer, Message, Request

LABEL = '{"label": "YES"}'
ASKED = Request((Message("user", "?"),), ("YES", "NO"), ("label",))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "detail", "choices", "content", "text", "type", "usage"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def body(content: Any = LABEL, *, usage: Any = None, message: Any = None, **choice: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": content, **(message or {})}
    return {"choices": [{"message": told, "finish_reason": "stop", **choice}], "model": "m", "usage": usage}


def answer(told: Any) -> Answer:
    assert openai_answers.error_of(200, told) is None
    return openai_answers.answer_of(told)


@pytest.mark.parametrize(
    "content",
    [
        LABEL, [{"type": "text", "text": LABEL}], {"type": "text", "text": LABEL}, [{"text": LABEL}], [LABEL, None],
        [{"type": "text", "text": {"value": LABEL, "annotations": []}}],
        [{"type": "thinking", "thinking": "hm"}, {"type": "output_text", "text": LABEL}],
        [{"type": "reasoning", "text": "hm"}, {"text": "no", "thought": True}, {"type": "text", "text": LABEL}],
    ],
)  # fmt: skip
def test_the_text_is_found_in_content_of_any_shape(content: Any) -> None:
    assert answer(body(content)).text == LABEL


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "answer", "arguments": LABEL}}]},
        {"tool_calls": [{"function": {"name": "answer", "arguments": {"label": "YES"}}}]},
        {"function_call": {"name": "answer", "arguments": LABEL}},
        {"reasoning_content": LABEL}, {"reasoning": LABEL}, {"thinking": LABEL},
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [None, "", []])
def test_an_answer_may_stand_in_another_field(message: dict[str, Any], content: Any) -> None:
    assert answer(body(content, message=message)).text == LABEL


def events(*parts: Any) -> str:
    return ": ping\n\n" + "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"


def test_an_answer_that_is_streamed_unasked_is_put_together() -> None:
    pieces = [{"role": "assistant", "content": ""}, {"content": LABEL[:5]}, {"content": LABEL[5:]}, {}]
    parts = [{"model": "m", "choices": [{"delta": piece, "finish_reason": None}]} for piece in pieces]
    parts[-1]["choices"][0]["finish_reason"] = "stop"  # type: ignore[index]
    usage = {"model": "m", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    said = answer(openai_answers.body_of(events(*parts, usage)))
    assert (said.text, said.finish, said.model, said.tokens_in, said.tokens_out) == (LABEL, "stop", "m", 7, 3)
    cut = answer(openai_answers.body_of(events({"choices": [{"delta": {"content": "{"}, "finish_reason": "length"}]})))
    assert (cut.text, cut.finish) == ("{", "length")


def test_an_error_within_a_stream_is_one() -> None:
    told = openai_answers.body_of(events({"error": {"message": "no credit", "code": 402}}))
    error = openai_answers.error_of(200, told)
    assert error is not None
    assert (error.status, error.message) == (402, "no credit")


@pytest.mark.parametrize("choices", [{"0": body()["choices"][0]}, body()["choices"][0]])
def test_choices_may_be_an_object(choices: Any) -> None:
    assert answer(openai_answers.body_of(json.dumps(body() | {"choices": choices}))).text == LABEL


def test_two_calls_are_no_answer() -> None:
    calls = [{"function": {"arguments": LABEL}}, {"function": {"arguments": '{"label": "NO"}'}}]
    assert answer(body(None, message={"tool_calls": calls})).text == ""


@pytest.mark.parametrize(
    "told",
    [
        body(None, message={"refusal": "I can't"}),
        body([{"type": "refusal", "refusal": "I can't"}]),
        body("I can't", finish_reason="CONTENT_FILTER"),
    ],
)
def test_a_refusal_is_one_wherever_it_stands(told: Any) -> None:
    assert (answer(told).finish, answer(told).text) == ("refused", "I can't")


@pytest.mark.parametrize("refusal", [None, "", False])
def test_an_empty_refusal_is_none(refusal: Any) -> None:
    assert answer(body(message={"refusal": refusal})).finish == "stop"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("max-tokens", "length"), ("maxTokens", "length"), ("FinishReason.MAX_TOKENS", "length"), (" LENGTH", "length"),
        ("FINISH_REASON_SAFETY", "refused"), ("contentFilter", "refused"), ("content-filter", "refused"),
        ("ERROR_TOXIC", "refused"), ("end_turn", "stop"), ("eos", "stop"), (None, "stop"), (2, "stop"), ({}, "stop"),
        ("tool_calls", "stop"),
    ],
)  # fmt: skip
def test_an_ending_is_known_in_any_spelling(reason: Any, finish: str) -> None:
    assert answer(body(finish_reason=reason)).finish == finish


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2}, (7, 2)),
        ({"prompt_tokens": "7", "completion_tokens": 2.0}, (7, 2)),
        ({"input_tokens": 7, "output_tokens": 2}, (7, 2)), (None, (None, None)), ([], (None, None)),
        (["x"], (None, None)),
        ({"prompt_tokens": None, "completion_tokens": "n/a"}, (None, None)),
        ({"prompt_tokens": -5, "completion_tokens": math.inf}, (None, None)), ({"prompt_tokens": 0}, (None, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (None, None)),
        ({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 309}, (7, 302)),  # with thoughts
        ({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 0}, (7, 2)),
    ],
)  # fmt: skip
def test_a_count_of_tokens_that_can_not_be_read_is_not_told(usage: Any, tokens: Any) -> None:
    told = answer(body(usage=usage))
    assert (told.text, told.tokens_in, told.tokens_out) == (LABEL, *tokens)


def token(text: str, logprob: Any, **other: Any) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, **other}


START, END = token('{"label": "', 0.0), token('"}', 0.0)
BOTH = [token("YES", math.log(0.9)), token("NO", math.log(0.1))]


@pytest.mark.parametrize(
    ("middle", "confidence"),
    [
        ([token("YES", math.log(0.9), top_logprobs=BOTH)], 0.9),
        ([token("YES", math.log(0.9), top_logprobs=BOTH[1:])], 0.9),  # the answered word stands in no list
        ([token("YES", math.log(0.9), top_logprobs=[*BOTH, token("no", -math.inf)])], 0.9),
        ([token("YES", str(math.log(0.9)), top_logprobs=BOTH)], 0.9),
        ([token("YES", 0.0)], 1.0),
        ([token("YES", 5.0, top_logprobs=[])], 1.0),
        ([token("YES", -0.5, top_logprobs=[])], None),  # the rest may have been anything
        ([token("YES", -0.5, top_logprobs=None)], None),
        ([token("Y", -0.5), token("ES", 0.0)], None),
        ([token("YES", -math.inf, top_logprobs=BOTH[1:])], None),
        ([token("YES", math.nan, top_logprobs=BOTH[1:])], None),
        ([token("YES", None, top_logprobs=BOTH)], None),
        ([token("YES", "n/a", top_logprobs=BOTH)], None),
        ([token("YES", -0.1, top_logprobs="none")], None),
        ([token("YES", -0.1, bytes=[999])], None),
        ([token("\u0120YES", -0.1, top_logprobs=BOTH)], None),
        ([token("token_id:77", -0.1, top_logprobs=BOTH)], None),
        ([None], None), ("text", None), ({}, None),
    ],
)  # fmt: skip
def test_log_probabilities_cost_the_label_nothing(middle: Any, confidence: float | None) -> None:
    content = [START, *middle, END] if isinstance(middle, list) else middle
    reading = answers.read(answer(body(logprobs={"content": content})), ASKED)
    assert reading.word == "YES"
    assert (reading.probs or {}).get("YES") == (None if confidence is None else pytest.approx(confidence))


@pytest.mark.parametrize("logprobs", [None, [], [1], {}, {"content": None}, {"tokens": ["YES"]}, 7, "x"])
def test_no_log_probabilities_are_none(logprobs: Any) -> None:
    assert answers.read(answer(body(logprobs=logprobs)), ASKED) == answers.Reading("ok", "YES")


# --------------------------------------------------------------------------------------------------------- errors

SPENT = "Insufficient credits"


@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": SPENT, "code": 402}}, {"error": {"message": SPENT, "code": "402"}},
        {"error": {"message": SPENT, "status": 402}}, {"error": {"error": {"message": SPENT, "code": 402}}},
        {"error": {"code": 402, "error": {"message": SPENT}}}, {"error": [{"message": SPENT, "code": "402"}]},
        [{"error": {"message": SPENT, "code": 402}}], {"errors": [{"message": SPENT, "code": 402}]},
        {"object": "error", "message": SPENT, "code": 402}, {"detail": {"message": SPENT, "code": 402}},
        {"error": SPENT, "code": 402}, {"error": SPENT, "status_code": 402},
        {"choices": [], "error": {"message": SPENT, "code": 402}},
        {"error": {"message": SPENT, "type": "insufficient_quota", "code": None}},
        {"error": "insufficient_quota", "message": SPENT, "code": "insufficient_quota"},
        {"choices": [{"message": {"content": ""}, "finish_reason": "error", "error": {"message": SPENT, "code": 402}}]},
        {"choices": [{"error": {"message": SPENT, "code": "402"}}]},
        {"choices": [{"message": {"content": ""}}], "error": {"message": SPENT, "code": 402}},
        {"error": {"message": SPENT, "type": "insufficient_quota", "code": 429}},
        {"error": {"message": SPENT, "type": "new_api_error", "code": "insufficient_user_quota"}},
        {"error": {"message": SPENT, "type": "exceeded_current_quota_error"}},
        {"error": {"message": SPENT, "code": "Arrearage"}}, {"error": {"message": SPENT, "code": "billing_not_active"}},
        {"error": {"message": SPENT, "code": "AllocationQuota.FreeTierOnly"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_spent_quota_is_known_however_it_is_wrapped(told: Any) -> None:
    error = openai_answers.error_of(200, told)
    assert error is not None
    assert error.is_of_quota
    assert SPENT in error.message
    assert error.message.count("{") == 0


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"error": "down"}, "down"), ({"detail": "down"}, "down"), ({"message": "down"}, "down"),
        ({"detail": [{"loc": ["body"], "msg": "down"}]}, "down"), ("down", "down"), ([{"message": "down"}], "down"),
        ({"error": {"message": {"text": "down"}}}, "{'message': {'text': 'down'}}"), ({}, "{}"), (None, "None"),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_is_told_in_the_servers_words(told: Any, message: str) -> None:
    error = openai_answers.error_of(503, told)
    assert error is not None
    assert (error.status, error.message) == (503, message)


@pytest.mark.parametrize(
    ("status", "told", "meaning"),
    [
        (400, {"code": "context_length_exceeded"}, "length"), (400, {"type": "exceed_context_size_error"}, "length"),
        (400, {"message": "This model's maximum context length is 4096 tokens. However, you requested 5210"}, "length"),
        (500, {"message": "the request exceeds the available context size, try increasing it"}, "length"),
        (400, {"message": "prompt is too long: 208310 tokens > 200000 maximum"}, "length"),
        (400, {"message": "input length and `max_tokens` exceed context limit: 199000 + 2000 > 200000"}, "length"),
        (400, {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed"}, "length"),
        (413, {"message": "Request Entity Too Large"}, "length"),
        (400, {"message": "max_tokens is too large: 5200. This model's maximum context length is 4096"}, ""),
        (429, {"message": "too many tokens this minute"}, ""), (400, {"message": "temperature must be below 2"}, ""),
        (400, {"code": "content_filter"}, "refused"), (400, {"code": "data_inspection_failed"}, "refused"),
        (400, {"code": "invalid_prompt", "type": "invalid_request_error"}, "refused"),
        (403, {"code": 403, "message": "Your chosen model requires moderation and your input was flagged"}, "refused"),
        (403, {"message": "no access to this model"}, ""), (400, {"message": "a text about moderation"}, ""),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_that_is_about_the_text_is_told_from_others(status: int, told: Any, meaning: str) -> None:
    error = openai_answers.error_of(status, {"error": {"message": "no"} | told})
    assert error is not None
    assert not error.is_of_quota
    assert (error.is_of_length, error.is_refusal) == (meaning == "length", meaning == "refused")


@pytest.mark.parametrize("text", ["<" * 1_000_000, "x" * 30_000_000])
def test_a_large_page_is_read_fast(text: str) -> None:
    started = time.perf_counter()
    openai_answers.error_of(500, openai_answers.body_of(text))
    openai_answers.error_of(500, {"error": {"message": text}})
    assert time.perf_counter() - started < 2


@given(st.sampled_from([200, 400, 500]), JSON)
def test_no_body_makes_the_reading_of_errors_fail(status: int, told: Any) -> None:
    error = openai_answers.error_of(status, json.loads(json.dumps(told)))
    assert status == 200 or error is not None


@pytest.mark.parametrize(
    ("value", "seconds"), [("2", 2.0), ("-3", 0.0), ("nan", None), ("inf", math.inf), ("soon", None), ("", None)]
)
def test_how_long_to_wait_is_a_number_or_nothing(value: str, seconds: float | None) -> None:
    assert openai_answers.retry_after({"Retry-After": value}) == seconds
