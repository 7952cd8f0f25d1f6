"""A loopback double of OpenAI's chat completions, which holds requests and answers to the SDK's own types.

It answers as a function of the item's text, so what it says is known, and it can fail as real servers do.
"""

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

_REQUEST = TypeAdapter(CompletionCreateParamsNonStreaming)
_MEMBERS = CompletionCreateParamsNonStreaming.__required_keys__ | CompletionCreateParamsNonStreaming.__optional_keys__
FAULTS = (
    "429", "429 retry-after", "500", "503", "timeout", "dropped", "truncated body", "off-list", "refusal", "empty",
)  # fmt: skip
RETRIED = (*FAULTS[:8], "empty")
"""Those that another request follows."""


class Double:
    """What the server did. counts: how often each prompt was answered with 200 and a label. faults: by kind."""

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        fault_rate: float = 0.0,
        key: str | None = None,
        says: Callable[[str], str] | None = None,
        refuses: tuple[str, ...] = (),
        hang_s: float = 30.0,
        seed: int = 0,
    ) -> None:
        self.latency_s, self.fault_rate, self.key, self.refuses, self.hang_s = (
            latency_s, fault_rate, key, refuses, hang_s,
        )  # fmt: skip
        self.says = says or label_of
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.keep_requests = True
        self.fixed: web.Response | Callable[[], web.Response] | None = None
        self.received = 0
        self.at_once = self.most_at_once = 0
        self.random = random.Random(seed)
        self.url = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.received += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._chat(request)
        finally:
            self.at_once -= 1

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.check(body)
        if self.keep_requests:
            self.requests.append(body)
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            told = f"Incorrect API key provided: {request.headers.get('Authorization', '')[7:]}."
            return error(401, told, "invalid_api_key")
        for member in self.refuses:
            if member in body:
                return error(400, f"Unsupported parameter: '{member}' is not supported with this model.")
        if self.fixed is not None:
            return self.fixed() if callable(self.fixed) else self.fixed
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        text = body["messages"][1]["content"] if len(body["messages"]) > 1 else ""
        if self.random.random() < self.fault_rate:
            return await self._fault(self.random.choice(FAULTS), body, text, request)
        word = self.says(text)
        self.counts[hashlib.sha256(json.dumps(body["messages"][:2]).encode()).hexdigest()] += 1
        return web.json_response(body=completion(body, json.dumps({"label": word}), word).encode())

    def check(self, body: dict[str, Any]) -> None:
        """Hold a request to the SDK's type."""
        _REQUEST.validate_python(body)
        assert set(body) <= _MEMBERS, set(body) - _MEMBERS

    async def _fault(self, kind: str, body: dict[str, Any], text: str, request: web.Request) -> web.StreamResponse:
        self.faults[kind] += 1
        if kind == "429":
            return error(429, "Rate limit reached", "rate_limit_exceeded")
        if kind == "429 retry-after":
            return error(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After": "0.05"})
        if kind in ("500", "503"):
            return web.Response(status=int(kind), text="<html><body>upstream error</body></html>")
        if kind == "timeout":
            await asyncio.sleep(self.hang_s)
        if kind in ("timeout", "dropped"):
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if kind == "truncated body":
            return web.Response(body=completion(body, '{"label": "YES"}', "YES").encode()[:60])
        if kind == "off-list":
            return web.Response(body=completion(body, '{"label": "MAYBE"}', "MAYBE").encode())
        if kind == "refusal":
            return web.Response(body=completion(body, "", "", refusal="I can't help with that.").encode())
        return web.Response(body=json.dumps(json.loads(completion(body, "", "")) | {"choices": []}).encode())

    async def models(self, request: web.Request) -> web.Response:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return error(401, "no")
        return web.json_response({"object": "list", "data": [{"id": "double-1", "object": "model"}]})


def label_of(text: str) -> str:
    """YES or NO, by the text's digest."""
    return "YES" if hashlib.sha256(text.encode()).digest()[0] % 2 else "NO"


def error(status: int, message: str, code: str = "", headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=headers)


_TEMPLATES: dict[tuple[str, bool], str] = {}


def completion(body: dict[str, Any], content: str, word: str, *, refusal: str | None = None) -> str:
    """An answer, built and checked by the SDK's own type; made once for each different one, to be fast."""
    wants = bool(body.get("logprobs"))
    key = (content + str(refusal), wants)
    if key not in _TEMPLATES:
        rest = {"YES": "NO", "NO": "YES"}.get(word, word)

        def token(text: str, others: dict[str, float]) -> dict[str, Any]:
            tops = [{"token": t, "logprob": p, "bytes": None} for t, p in others.items()]
            return {"token": text, "logprob": others[text], "bytes": None, "top_logprobs": tops}

        tokens = [token('{"', {'{"': 0.0}), token("label", {"label": 0.0}), token('": "', {'": "': 0.0}),
                  token(word, {word: -0.105360516, rest: -2.302585093}), token('"}', {'"}': 0.0})]  # fmt: skip
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "double-1-2026-01-01",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": None if refusal else content, "refusal": refusal},
                    "logprobs": {"content": tokens, "refusal": None} if wants and not refusal else None,
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
        }
        _TEMPLATES[key] = ChatCompletion.model_validate(answer).model_dump_json()
    return _TEMPLATES[key]


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The double on a port of its own, in a thread."""

    def add_routes(app: web.Application) -> None:
        app.router.add_post("/v1/chat/completions", double.chat)
        app.router.add_get("/v1/models", double.models)

    with served(add_routes) as address:
        double.url = f"{address}/v1"
        yield double


@contextmanager
def served(add_routes: Callable[[web.Application], None]) -> Iterator[str]:
    """The address of a server with these routes, in a thread."""
    loop = asyncio.new_event_loop()
    app = web.Application(client_max_size=2**24)
    add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    started = threading.Event()

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()

    def run() -> None:
        loop.run_until_complete(start())
        loop.call_soon(started.set)  # not earlier: a stop would end `start` and not what comes next
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        hanging = asyncio.all_tasks(loop)
        for task in hanging:
            task.cancel()
        if hanging:
            loop.run_until_complete(asyncio.wait(hanging))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
