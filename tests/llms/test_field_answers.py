"""Answers of servers whose API is not quite OpenAI's: each costs its item at most, and says why."""

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from aiohttp import web
from tests import made
from tests.llms import made_llms
from tests.llms.openai_double import served

from silvertune.labelers.llm import StorePlace
from silvertune.llms.asking import MOST_UNREADABLE_IN_A_ROW
from silvertune.llms.interface import Price
from silvertune.llms.outcomes import Outcome
from silvertune.schema import Task

Body = dict[str, Any]


@pytest.fixture
def task(task: Task) -> Task:
    task.answers = {"soe": "YES", "other": "NO"}
    return task


LABEL = '{"label": "YES"}'


TEXT_PART = {"type": "text", "text": LABEL}


def completion(content: Any = LABEL, *, message: Body | None = None, usage: Body | None = None, **choice: Any) -> Body:
    told = {"role": "assistant", "content": content} | (message or {})
    return {
        "model": "double-1",
        "choices": [{"index": 0, "message": told, "finish_reason": "stop"} | choice],
        "usage": usage or {"prompt_tokens": 100, "completion_tokens": 10},
    }


def logprobs(*tokens: tuple[str, float | None]) -> Body:
    return {
        "content": [
            {"token": text, "logprob": value, "top_logprobs": [{"token": text, "logprob": value}]}
            for text, value in tokens
        ]
    }


@contextmanager
def answering(says: Callable[[Body], Body | web.Response]) -> Iterator[tuple[str, list[Body]]]:
    """The address of a server that answers by `says`, and the requests that it got."""
    requests: list[Body] = []

    async def chat(request: web.Request) -> web.Response:
        requests.append(await request.json())
        answer = says(requests[-1])
        return answer if isinstance(answer, web.Response) else web.json_response(answer)

    with served(lambda app: app.router.add_post("/v1/chat/completions", chat)) as address:
        yield f"{address}/v1", requests


def votes_of(
    task: Task, folder: Path, says: Callable[[Body], Body | web.Response], n: int = 6, **llm: Any
) -> tuple[Any, list[Body]]:
    settings = {"limits_": made_llms.limits(retries=2, concurrency=4)} | llm
    with answering(says) as (url, requests):
        labeler = made_llms.labeler(task, {"gpt": made_llms.openai(url, **settings)}, folder, views=["text"])
        return labeler.label(made.items(n)), requests


@pytest.mark.parametrize(
    "answer",
    [
        completion([{"type": "text", "text": LABEL}]),
        completion([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, TEXT_PART]),
        completion([LABEL[:5], {"type": "output_text", "text": LABEL[5:]}, {"type": "image", "url": "x"}]),
        completion(f"<think>hm</think>{LABEL}"),
        completion(None, message={"reasoning_content": LABEL}),
        completion("", message={"reasoning": LABEL}),
        completion(logprobs=logprobs(('{"label": "', None), ("YES", -0.1), ('"}', 0.0))),
        completion(logprobs={"content": [{"token": "YES", "logprob": -0.1, "top_logprobs": [{"token": "x"}]}]}),
        completion(finish_reason=None, usage={"prompt_tokens": None, "completion_tokens": None}),
        completion(finish_reason="STOP") | {"error": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_label_is_read_however_it_is_wrapped(task: Task, tmp_path: Path, answer: Body) -> None:
    table, requests = votes_of(task, tmp_path, lambda _: answer)
    assert table["label"].tolist() == ["soe"] * 6
    assert table["confidence"].isna().all()
    assert len(requests) == 6


@pytest.mark.parametrize(
    ("ending", "status", "asked"),
    [
        ({"finish_reason": "SAFETY"}, "refused", 1), ({"finish_reason": "Content_Filter"}, "refused", 1),
        ({"finish_reason": "RECITATION"}, "refused", 1), ({"finish_reason": "guardrail_intervened"}, "refused", 1),
        ({"finish_reason": "MAX_TOKENS"}, "truncated", 1), ({"finish_reason": "model_length"}, "truncated", 1),
        ({"finish_reason": "error", "error": {"code": 502, "message": "overloaded"}}, "api_error", 3),
        ({"finish_reason": "Error"}, "api_error", 3),
    ],
)  # fmt: skip
def test_why_an_answer_ended_is_told_in_whatever_spelling(
    task: Task, tmp_path: Path, ending: Body, status: str, asked: int
) -> None:
    table, requests = votes_of(task, tmp_path, lambda _: completion(None, **ending), n=3)
    assert set(table["status"]) == {status}
    assert len(requests) == 3 * asked  # an error is asked again as often as `retries` says; the others are paid once
    if status == "api_error" and "error" in ending:
        assert "overloaded" in table["raw"].iloc[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            {"message": "Insufficient credits", "code": 402},
            "the account's quota is used up (402: Insufficient credits)",
        ),
        ({"message": "No auth credentials found", "code": 401}, "refused the key (401)"),
        ({"message": "quota", "code": "insufficient_quota"}, "the account's quota is used up"),
    ],
)
def test_an_error_in_an_answer_of_status_200_that_no_item_can_mend_stops_at_once(
    task: Task, tmp_path: Path, error: Body, words: str
) -> None:
    with made.refused("labeler.llm", words):
        votes_of(task, tmp_path, lambda _: {"error": error, "user_id": "u"}, n=24)


def test_an_error_in_an_answer_of_status_200_is_told_in_the_providers_words(task: Task, tmp_path: Path) -> None:
    def says(_: Body) -> Body:
        return {"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429}}

    table, requests = votes_of(task, tmp_path, says, n=2)
    assert set(table["status"]) == {"api_error"}
    assert set(table["raw"]) == {"429: Rate limit exceeded: free-models-per-day"}
    assert len(requests) == 6


@pytest.mark.parametrize("form", [[], {"choices": 3}, {"choices": [{"message": []}]}, {"choices": [None]}, "text", 7])
def test_an_unforeseen_form_costs_its_item(task: Task, tmp_path: Path, form: Any) -> None:
    odd = made.items(6)["text"].iloc[2]

    def says(body: Body) -> web.Response:
        text = str(body["messages"])
        return web.json_response(form if odd in text else completion())

    table, _ = votes_of(task, tmp_path, says)
    assert Counter(table["status"]) == {"ok": 5, "api_error": 1}


# -------------------------------------------------------------------------------------------- what a server takes


def takes_all_but(*members: str, quotes: str = "") -> Callable[[Body], Body | web.Response]:
    """A server that refuses `members`, and whose error for a text with `quotes` in it names members that it takes."""

    def says(body: Body) -> Body | web.Response:
        if refused := [member for member in members if member in body]:
            return web.json_response({"error": {"message": f"{refused[0]} is not supported"}}, status=400)
        if quotes and quotes in str(body["messages"]):
            words = "could not process; received {'response_format': {...}, 'logprobs': True, 'seed': None}"
            return web.json_response({"error": {"message": words}}, status=400)
        told = logprobs(('{"label": "', 0.0), ("YES", math.log(0.9)), ('"}', 0.0)) if "logprobs" in body else None
        if told:
            told["content"][1]["top_logprobs"].append({"token": "NO", "logprob": math.log(0.1)})
        return completion(logprobs=told)

    return says


def test_an_error_that_quotes_the_request_switches_nothing_off(task: Task, tmp_path: Path) -> None:
    quoted = made.items(12)["text"].iloc[1]
    table, requests = votes_of(task, tmp_path, takes_all_but(quotes=quoted), n=12)
    of_item = table.set_index("item_id")["status"]
    assert of_item.drop(of_item.index[1]).tolist() == ["ok"] * 11
    assert of_item.iloc[1] == "api_error"
    assert table["confidence"].notna().sum() == 11
    own = [body for body in requests if "a short text" in str(body["messages"])]
    assert len(own) <= 3  # one probe of ours for each member that the error names
    assert all("response_format" in body and "logprobs" in body for body in requests)


@pytest.mark.parametrize("members", [("logprobs",), ("response_format",), ("response_format", "logprobs")])
def test_what_a_server_refuses_is_left_out_and_said_once(
    task: Task, tmp_path: Path, members: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    table, requests = votes_of(task, tmp_path, takes_all_but(*members), n=12)
    assert set(table["status"]) == {"ok"}
    told = capsys.readouterr().err
    for member in members:
        assert told.count(f"does not take {member}") == 1
    assert sum(member not in body for body in requests for member in members[:1]) >= 12


@pytest.mark.parametrize("trouble", ["429", "503", "lost"])
def test_trouble_during_the_probe_is_no_verdict(task: Task, tmp_path: Path, trouble: str) -> None:
    probes = 0

    def says(body: Body) -> Body | web.Response:
        nonlocal probes
        if "a short text" in str(body["messages"]):
            probes += 1
            if probes <= 3:
                if trouble == "lost":
                    raise ConnectionResetError  # the connection ends without an answer that can be read
                return web.json_response({"error": {"message": "busy"}}, status=int(trouble))
        return takes_all_but("logprobs")(body)

    table, requests = votes_of(task, tmp_path, says, n=12, limits_=made_llms.limits(retries=6, concurrency=8))
    assert set(table["status"]) == {"ok"}
    assert sum("logprobs" not in body for body in requests) >= 12
    assert all("response_format" in body for body in requests)


def test_an_error_of_the_server_that_quotes_the_request_is_tried_again(task: Task, tmp_path: Path) -> None:
    failed: set[str] = set()

    def says(body: Body) -> Body | web.Response:
        text = str(body["messages"])
        if "a short text" not in text and text not in failed:
            failed.add(text)
            return web.json_response({"error": {"message": f"crashed at {sorted(body)}"}}, status=500)
        return takes_all_but()(body)

    table, requests = votes_of(task, tmp_path, says)
    assert set(table["status"]) == {"ok"}
    assert all("response_format" in body and "logprobs" in body for body in requests)


def test_a_server_that_can_not_send_its_log_probabilities_is_asked_without_them(task: Task, tmp_path: Path) -> None:
    def says(body: Body) -> Body | web.Response:
        error = {"object": "error", "message": "Out of range float values are not JSON compliant: -inf", "code": 500}
        return web.json_response(error, status=500) if "logprobs" in body else completion()

    table, _ = votes_of(task, tmp_path, says)
    assert set(table["status"]) == {"ok"}


def test_a_page_in_place_of_an_answer_is_told(task: Task, tmp_path: Path) -> None:
    table, _ = votes_of(task, tmp_path, lambda _: web.Response(text="<html><h1>Bad gateway</h1></html>"), n=2)
    assert set(table["raw"]) == {"an answer that is not as the API's should be: 'Bad gateway'"}


@pytest.mark.parametrize("form", ["201", "mark of the byte order"])
def test_an_answer_is_read_whatever_success_it_comes_with(task: Task, tmp_path: Path, form: str) -> None:
    def says(_: Body) -> web.Response:
        if form == "201":
            return web.json_response(completion(), status=201)
        return web.Response(body=json.dumps(completion()).encode("utf-8-sig"), content_type="application/json")

    table, requests = votes_of(task, tmp_path, says)
    assert set(table["status"]) == {"ok"}
    assert len(requests) == 6


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_page_that_repeats_the_key_is_told_without_it(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    key = "sk-a1b2c3d4e5f6"
    monkeypatch.setenv("KEY_OF_TEST", key)

    def says(_: Body) -> web.Response:
        return web.Response(text=f"who has {key}?", status=status)

    table, _ = votes_of(task, tmp_path, says, n=2, api_key_env="KEY_OF_TEST")
    assert table["raw"].str.contains("who has \\[hidden").all()
    assert not table["raw"].str.contains(key[3:9]).any()


def test_a_flagged_text_is_refused_and_the_others_are_labelled(task: Task, tmp_path: Path) -> None:
    odd = made.items(6)["text"].iloc[2]

    def says(body: Body) -> Body | web.Response:
        error = {"error": {"code": 403, "message": "This model requires moderation and your input was flagged for x"}}
        return web.json_response(error, status=403) if odd in str(body["messages"]) else completion()

    table, requests = votes_of(task, tmp_path, says)
    assert table["status"].tolist() == ["ok", "ok", "refused", "ok", "ok", "ok"]
    assert len(requests) == 6


# ---------------------------------------------------------------------------------------------- what answers cost


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None}, "none"])
def test_an_answer_that_does_not_tell_its_tokens_counts_more_than_most_do(
    task: Task, tmp_path: Path, usage: Any
) -> None:
    def says(_: Body) -> Body:
        return completion() | {"usage": usage}

    table, requests = votes_of(task, tmp_path, says, n=2, price=Price(1000.0, 1000.0))
    sent = sum(len(turn["content"]) for turn in requests[0]["messages"])
    assert table["tokens_in"].between(sent / 4, sent).all()
    assert (table["tokens_out"] > 0).all()
    assert (table["cost_usd"] > 0).all()


EMPTY = {"model": "double-1", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


@pytest.mark.parametrize(
    "failed",
    [EMPTY, completion('{"lab', finish_reason="error"), EMPTY | {"choices": [{"message": []}]}],
    ids=["without a choice", "ended with an error", "unforeseen"],
)
def test_an_attempt_that_failed_and_is_paid_for_counts(task: Task, tmp_path: Path, failed: Body) -> None:
    answers = iter([failed, failed, completion()])
    table, requests = votes_of(task, tmp_path / "later", lambda _: next(answers), n=1, price=Price(1.0, 1.0))
    assert len(requests) == 3
    assert (table["status"][0], table["tokens_in"][0], table["tokens_out"][0]) == ("ok", 300, 30)
    table, requests = votes_of(task, tmp_path / "never", lambda _: failed, n=1, price=Price(1.0, 1.0))
    assert (table["status"][0], table["tokens_in"][0], table["cost_usd"][0]) == ("api_error", 300, 330e-6)
    store = StorePlace(None, 60.0, 3600.0).open(tmp_path / "never", None)
    assert store.spent_usd() == pytest.approx(330e-6)
    store.close()


def test_a_budget_holds_where_the_server_tells_no_tokens(task: Task, tmp_path: Path) -> None:
    def says(_: Body) -> Body:
        return completion() | {"usage": None}

    with answering(says) as (url, requests):
        llm = made_llms.openai(url, price=Price(1000.0, 1000.0), limits_=made_llms.limits(concurrency=2))
        labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path, views=["text"], budget_usd=10.0)
        with made.refused("labeler.budget_usd=10"):
            labeler.label(made.items(200))
    assert 2 <= len(requests) < 100


@pytest.mark.parametrize(
    "said",
    [completion("", finish_reason="error"), completion("hm", usage={"prompt_tokens": 550, "completion_tokens": 50})],
    ids=["ended with an error", "unreadable"],
)
def test_a_budget_holds_where_attempts_that_fail_are_paid_for(task: Task, tmp_path: Path, said: Body) -> None:
    said = said | {"usage": {"prompt_tokens": 550, "completion_tokens": 50}}
    with answering(lambda _: said) as (url, requests):
        llm = made_llms.openai(url, price=Price(1000.0, 1000.0), limits_=made_llms.limits(retries=6, concurrency=1))
        labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path, views=["text"], budget_usd=3.5)
        table = labeler.label(made.items(1))
    assert table["label"].isna().all()
    assert 0.6 * len(requests) <= 3.5
    assert table["cost_usd"].sum() == pytest.approx(0.6 * len(requests))


def test_an_answer_dearer_than_what_was_set_aside_is_not_repaired(task: Task, tmp_path: Path) -> None:
    with answering(lambda _: completion("hm", usage={"prompt_tokens": 550, "completion_tokens": 9000})) as (url, asked):
        llm = made_llms.openai(url, price=Price(1000.0, 1000.0), limits_=made_llms.limits(concurrency=1))
        labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path, views=["text"], budget_usd=3.5)
        assert labeler.label(made.items(1))["status"].tolist() == ["parse_error"]
    assert len(asked) == 1


def test_a_budget_that_others_have_set_aside_for_now_is_waited_for(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process asks something else: what it has set aside is more than what it pays in the end."""
    other = StorePlace(None, 60.0, 3600.0).open(tmp_path, 3.5)
    assert other.claim(["theirs"], [3.0]).mine == ["theirs"]
    threading.Timer(
        1.0, lambda: other.save({"theirs": Outcome("ok", "NO", None, None, "", None, "m", 1, 1, 0.1)})
    ).start()
    with answering(lambda _: completion()) as (url, requests):
        llm = made_llms.openai(url, price=Price(1000.0, 1000.0), limits_=made_llms.limits(concurrency=1))
        labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path, views=["text"], budget_usd=3.5)
        assert labeler.label(made.items(1))["status"].tolist() == ["ok"]
    other.close()
    assert len(requests) == 1
    assert capsys.readouterr().err.count("waiting for requests of others, for which $3.0000 is set aside") == 1


def test_a_question_of_ours_that_is_answered_is_paid_for(task: Task, tmp_path: Path) -> None:
    table, requests = votes_of(task, tmp_path, takes_all_but("logprobs"), n=4, price=Price(1000.0, 1000.0))
    answered = [body for body in requests if "logprobs" not in body]
    assert len(answered) == 5
    assert table["cost_usd"].sum() == pytest.approx(5 * 0.110)


@pytest.mark.parametrize("price", [(-1.0, 1.0), (1.0, math.inf), ("1", 1.0), (math.nan, 1.0), (True, 1.0)])
def test_a_price_that_is_none_is_told_before_anything_is_paid(price: Any) -> None:
    with made.refused("labeler.llm.<name>.price."):
        Price(*price)


# ----------------------------------------------------------------------------------------------- half a character


def test_half_a_character_in_a_text_is_left_out(task: Task, tmp_path: Path) -> None:
    items = made.items(3)
    items["text"] = pd.Series([f"{text} \ud83d" for text in items["text"]], index=items.index, dtype=object)
    with answering(lambda _: completion()) as (url, requests):
        labeler = made_llms.labeler(task, {"gpt": made_llms.openai(url)}, tmp_path, views=["text"])
        table = labeler.label(items)
        assert labeler.estimate(items)["gpt"].stored == 3
    assert set(table["status"]) == {"ok"}
    assert len(requests) == 3


# -------------------------------------------------------------------------------------------- answers without end


def test_the_llm_that_never_gives_a_label_is_named_among_several(task: Task, tmp_path: Path) -> None:
    def says(body: Body) -> Body:
        said = completion(LABEL if body["model"] == "good" else "As an assistant I would rather not say.")
        return said | {"model": body["model"]}

    with answering(says) as (url, requests):
        llms = {name: made_llms.openai(url, model=name) for name in ("good", "chatty")}
        labeler = made_llms.labeler(task, llms, tmp_path, views=["text"])
        with made.refused("labeler.llm.chatty: chatty gave no label"):
            labeler.label(made.items(60))
        assert sum(body["model"] == "good" for body in requests) == 60
        assert labeler.estimate(made.items(60))["good"].stored == 60


def test_an_llm_that_never_gives_a_label_is_not_asked_on(task: Task, tmp_path: Path) -> None:
    def says(_: Body) -> Body:
        return completion("As an assistant I would rather not say.")

    with made.refused("labeler.llm", f"no label in its last {MOST_UNREADABLE_IN_A_ROW}", "I would rather not say"):
        votes_of(task, tmp_path, says, n=300)


def test_texts_that_are_too_long_for_the_model_stop_nothing(task: Task, tmp_path: Path) -> None:
    def says(_: Body) -> web.Response:
        error = {"message": "maximum context length is 4096 tokens", "code": "context_length_exceeded"}
        return web.json_response({"error": error}, status=400)

    table, _ = votes_of(task, tmp_path, says, n=2 * MOST_UNREADABLE_IN_A_ROW)
    assert set(table["status"]) == {"truncated"}


def test_an_llm_that_thinks_aloud_now_and_then_is_asked_on(task: Task, tmp_path: Path) -> None:
    def says(body: Body) -> Body:
        return completion(LABEL if len(str(body)) % 3 else "hm")

    table, _ = votes_of(task, tmp_path, says, n=200)
    assert len(table) == 200
