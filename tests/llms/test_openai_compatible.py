import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests import made
from tests.llms import made_llms, openai_double
from tests.llms.openai_double import Double, serving

from silvertune.errors import UserError
from silvertune.llms.interface import Answer, Message, RejectedError, Request, TransientError, UnusableError

ASKED = Request((Message("system", "Say which."), Message("user", "the text")), ("YES", "NO"), ("label",))
SECRET = "sk-test-4f9a8b7c6d5e4f3a2b1c"


@pytest.fixture
def double() -> Iterator[Double]:
    with serving(Double()) as running:
        yield running


def answer(double: Double, request: Request = ASKED, **changed: Any) -> Answer:
    async def go() -> Answer:
        async with made_llms.openai(double.url, **changed).connect() as ask:
            return await ask(request)

    return asyncio.run(go())


def test_label_probabilities_and_usage_arrive(double: Double) -> None:
    found = answer(double)
    assert json.loads(found.text)["label"] == openai_double.label_of("the text")
    assert (found.finish, found.model, found.tokens_in, found.tokens_out) == ("stop", "double-1-2026-01-01", 100, 5)
    assert b"".join(token.content for token in found.tokens).decode() == found.text.replace('": "', '": "')
    assert len(found.tokens[3].alternatives) == 2


def test_the_request_is_what_it_is_configured_to_be(double: Double) -> None:
    answer(double, Request(ASKED.messages, ("a",), ("label",), repeat=3), temperature=0.7, extra_body={"user": "me"})
    (sent,) = double.requests
    assert sent["messages"] == [{"role": "system", "content": "Say which."}, {"role": "user", "content": "the text"}]
    assert (sent["temperature"], sent["seed"], sent["max_tokens"], sent["user"]) == (0.7, 3, 50, "me")
    assert sent["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == ["a"]
    answer(double, structured=False, top_logprobs=None, max_tokens_field="max_completion_tokens", temperature=None)
    assert set(double.requests[-1]) == {"model", "messages", "max_completion_tokens"}


def test_a_proxy_of_the_environment_is_used_unless_it_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    async def chat(request: web.Request) -> web.Response:
        seen.append((request.headers["Host"], request.headers.get("Proxy-Authorization", "")))
        return web.Response(body=openai_double.completion({}, '{"label": "YES"}', "YES").encode())

    with openai_double.served(lambda app: app.router.add_post("/v1/chat/completions", chat)) as address:
        monkeypatch.setenv("http_proxy", address.replace("http://", "http://me:secret@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        elsewhere = Double()
        elsewhere.url = "http://llm.invalid/v1"
        assert answer(elsewhere).text == '{"label": "YES"}'
        elsewhere.url = f"{address}/v1"
        assert answer(elsewhere).text == '{"label": "YES"}'
    assert [host for host, _ in seen] == ["llm.invalid", address.removeprefix("http://")]
    assert [bool(secret) for _, secret in seen] == [True, False]


def test_credentials_in_a_netrc_do_not_stand_in_the_way_of_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("DOUBLE_KEY", SECRET)
    with serving(Double(key=SECRET)) as double:
        assert answer(double, api_key_env="DOUBLE_KEY").text


def test_what_a_server_does_not_take_is_left_out_and_told(double: Double, capsys: pytest.CaptureFixture[str]) -> None:
    double.refuses = ("response_format", "logprobs")
    found = answer(double)
    assert found.text
    assert found.tokens == ()
    assert {"response_format", "logprobs"}.isdisjoint(double.requests[-1])
    told = capsys.readouterr().err.splitlines()
    assert told == [f"silvertune: double-1 does not take {member}; asking without it"
                    for member in ("response_format", "logprobs")]  # fmt: skip


@pytest.mark.parametrize(
    ("refused", "words"),
    [("temperature", "temperature=0.0: double-1 takes none; want null"),
     ("reasoning_effort", "reasoning_effort=none: double-1 does not take it")],
)  # fmt: skip
def test_a_setting_that_a_model_refuses_stops_it(double: Double, refused: str, words: str) -> None:
    double.refuses = (refused,)
    with pytest.raises(UnusableError, match=words):
        answer(double, reasoning_effort="none")
    assert len(double.requests) == 3  # the question, and ours with and without
    without = {"temperature": None} if refused == "temperature" else {"reasoning_effort": None}
    assert answer(double, **{"reasoning_effort": "none", **without}).finish == "stop"
    assert refused not in double.requests[-1]


def test_how_much_it_thinks_is_sent(double: Double) -> None:
    answer(double, reasoning_effort="low", temperature=None, top_logprobs=None)
    assert double.requests[-1]["reasoning_effort"] == "low"
    same, other = made_llms.openai("http://a/v1"), made_llms.openai("http://a/v1", reasoning_effort="low")
    assert "reasoning_effort" not in same.identity()  # answers of earlier versions are found
    assert other.identity()["reasoning_effort"] == "low"


def test_a_server_may_say_so_with_an_error_of_its_own(double: Double) -> None:
    told = "1 validation error: {'type': 'literal_error', 'loc': ('body', 'response_format', 'type')}"

    def only_without() -> web.Response:
        if "response_format" in double.requests[-1]:
            return openai_double.error(500, told)
        return web.Response(text=openai_double.completion(double.requests[-1], '{"label": "YES"}', "YES"))

    double.fixed = only_without
    assert answer(double).text == '{"label": "YES"}'


def test_a_key_is_sent_and_a_wrong_one_is_told_without_it(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    double.key = SECRET
    monkeypatch.setenv("DOUBLE_KEY", SECRET + "\n")
    assert answer(double, api_key_env="DOUBLE_KEY").finish == "stop"
    monkeypatch.setenv("DOUBLE_KEY", "sk-other-0123456789")
    with pytest.raises(UnusableError, match="api_key_env=DOUBLE_KEY: the server refused the key") as caught:
        answer(double, api_key_env="DOUBLE_KEY")
    assert "0123" not in str(caught.value)
    monkeypatch.delenv("DOUBLE_KEY")
    with pytest.raises(UnusableError, match="no such variable"):
        answer(double, api_key_env="DOUBLE_KEY")


def told(status: int, message: str = "m", code: str = "", headers: dict[str, str] | None = None) -> Any:
    return lambda: openai_double.error(status, message, code, headers)


@pytest.mark.parametrize(
    ("fixed", "kind", "words"),
    [
        (told(429, code="insufficient_quota"), UnusableError, "quota is used up"),
        (told(402), UnusableError, "quota is used up"),
        (told(403), UnusableError, "refused the key"),
        (told(404, "The model `x` does not exist"), UnusableError, "does not exist"),
        (told(301), UnusableError, "base_url"),
        (told(400, "temperature must be below 2"), RejectedError, "temperature must be below 2"),
        (told(421), RejectedError, "421"),
        (told(429), TransientError, "429"),
        (told(500), TransientError, "500"),
        (lambda: web.Response(status=503, text="<html><body>bad <b>gateway</b></body></html>"), TransientError,
         "503: bad gateway"),
        (lambda: web.Response(text="<html>login</html>"), TransientError, "not as the API's"),
        (lambda: web.Response(text="[]"), TransientError, "not as the API's"),
        (lambda: web.Response(text='{"choices": []}'), TransientError, "without a choice"),
        (lambda: web.Response(text='{"choices": [{"message": null}]}'), TransientError, "not as the API's"),
    ],
)  # fmt: skip
def test_an_error_says_what_it_means(double: Double, fixed: Any, kind: type[Exception], words: str) -> None:
    double.fixed = fixed
    with pytest.raises(kind, match=words):
        answer(double, structured=False, top_logprobs=None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, None), ({"Retry-After": "7"}, 7.0), ({"retry-after-ms": "250"}, 0.25), ({"Retry-After": "soon"}, None),
     ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0)],
)  # fmt: skip
def test_the_server_says_when_to_come_back(double: Double, headers: dict[str, str], seconds: float | None) -> None:
    double.fixed = told(429, headers=headers)
    with pytest.raises(TransientError) as caught:
        answer(double)
    assert caught.value.retry_after == seconds


def test_a_refusal_and_a_text_that_is_too_long_are_no_errors(double: Double) -> None:
    double.fixed = told(400, "The prompt was filtered", "content_filter")
    assert answer(double).finish == "refused"
    double.fixed = told(400, "maximum context length is 8192", "context_length_exceeded")
    assert answer(double).finish == "length"
    double.fixed = lambda: web.Response(text=openai_double.completion({}, "", "", refusal="No."))
    assert (answer(double).finish, answer(double).text) == ("refused", "No.")


def test_a_server_that_is_not_there_is_worth_another_try() -> None:
    with pytest.raises(TransientError, match="base_url"):
        answer(Double(), base_url="http://127.0.0.1:9/v1")


def test_a_key_that_a_server_repeats_is_hidden(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUBLE_KEY", SECRET)
    double.fixed = told(400, f"bad request by {SECRET[:12]}***{SECRET[-7:]} ({SECRET})")
    with pytest.raises(RejectedError) as caught:
        answer(double, api_key_env="DOUBLE_KEY", structured=False, top_logprobs=None)
    assert "bad request by [hidden]***[hidden] ([hidden])" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"api_key_env": SECRET}, ("api_key_env", "NAME of an environment variable")),
        ({"base_url": f"https://u:{SECRET}@host/v1"}, ("base_url", "keys go by")),
        ({"base_url": f"https://host/v1?key={SECRET}"}, ("base_url", "keys go by")),
        ({"base_url": "localhost:8000"}, ("base_url", "want an address")),
    ],
)
def test_a_key_in_the_configuration_is_refused_and_not_repeated(changed: dict[str, str], words: tuple[str]) -> None:
    with made.refused(*words):
        made_llms.openai("http://h/v1", **changed)
    with pytest.raises(UserError) as caught:
        made_llms.openai("http://h/v1", **changed)
    assert SECRET not in str(caught.value)


def test_what_can_change_the_answers_is_its_identity_and_nothing_else() -> None:
    one = made_llms.openai("http://a/v1")
    same = made_llms.openai("http://b/v1", api_key_env="OTHER", limits_=made_llms.limits(concurrency=1))
    assert one.identity() == same.identity()
    for changed in ({"model": "x"}, {"temperature": 1.0}, {"max_tokens": 9}, {"extra_body": {"a": 1}}, {"family": "z"}):
        assert made_llms.openai("http://a/v1", **changed).identity() != one.identity()


def test_a_check_says_what_is_there_and_what_is_not(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(finding.ok for finding in made_llms.openai(double.url).check())
    (*_, model) = made_llms.openai(double.url, model="double-9").check()
    assert (model.ok, model.mend) == (False, "it has double-1")
    (*_, gone) = made_llms.openai("http://127.0.0.1:9/v1").check()
    assert (gone.ok, "is the server up" in gone.mend) == (False, True)
    double.key = SECRET
    monkeypatch.setenv("DOUBLE_KEY", "sk-other-0123456789")
    (key,) = [finding for finding in made_llms.openai(double.url, api_key_env="DOUBLE_KEY").check() if not finding.ok]
    assert "refused the key" in key.mend
    assert double.received == 0
