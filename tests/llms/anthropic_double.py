"""A loopback double of Anthropic's Messages API, which holds requests and answers to the SDK's own types."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from anthropic.types import Message, ModelInfo
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter
from tests.llms.openai_double import label_of, served

_REQUEST = TypeAdapter(MessageCreateParamsNonStreaming)
_MEMBERS = MessageCreateParamsNonStreaming.__required_keys__ | MessageCreateParamsNonStreaming.__optional_keys__


class Double:
    """What the server did. refuses: members that its model refuses, as the API calls them."""

    def __init__(self, *, key: str | None = None, refuses: tuple[str, ...] = ()) -> None:
        self.key, self.refuses = key, refuses
        self.fixed: Callable[[], web.Response] | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lifecycle = "active"
        self.url = ""

    async def messages(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.requests.append(body)
        if (wrong := self._wrong(request)) is not None:
            return wrong
        check_request(body)
        config = body.get("output_config", {})
        sent = {"thinking": "thinking" in body, "output_config.format": "format" in config,
                "output_config.effort": "effort" in config}  # fmt: skip
        for member in self.refuses:
            if sent.get(member):
                return error(400, "invalid_request_error", f"{member}: is not supported for this model")
        if self.fixed is not None:
            return self.fixed()
        return web.json_response(text=message(label_of(body["messages"][-1]["content"]), model=body["model"]))

    async def model(self, request: web.Request) -> web.Response:
        if (wrong := self._wrong(request)) is not None:
            return wrong
        told = {"id": "claude-double-1", "created_at": "2026-01-01T00:00:00Z", "display_name": "Double",
                "lifecycle": self.lifecycle, "type": "model"}  # fmt: skip
        ModelInfo.model_validate(told)
        if request.path.endswith("/claude-double-1"):
            return web.json_response(told)
        return error(404, "not_found_error", f"model: {request.path.rpartition('/')[2]}")

    def _wrong(self, request: web.Request) -> web.Response | None:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        assert self.headers[-1]["anthropic-version"] == "2026-10-21"
        if self.key is not None and request.headers.get("x-api-key") != self.key:
            return error(401, "authentication_error", f"invalid x-api-key {request.headers.get('x-api-key')}")
        return None


def check_request(body: dict[str, Any]) -> None:
    """Hold a request to the SDK's type, and to what the API says beyond it."""
    _REQUEST.validate_python(body)
    assert set(body) <= _MEMBERS, set(body) - _MEMBERS
    assert set(body.get("output_config", {})) <= {"format", "effort"}
    assert {turn["role"] for turn in body["messages"]} <= {"user", "assistant"}
    assert body["messages"][-1]["role"] == "user"  # today's models refuse to go on with an answer of ours


def message(word: str, **changed: Any) -> str:
    """An answer, built and checked by the SDK's own type."""
    content = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-double-1",
        "content": [{"type": "text", "text": json.dumps({"label": word}), "citations": None}],
        "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 60, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 10,
                  "output_tokens": 7},
    } | changed  # fmt: skip
    return Message.model_validate(content).model_dump_json()


def error(status: int, kind: str, words: str, headers: dict[str, str] | None = None, **more: Any) -> web.Response:
    content = {"type": "error", "error": {"type": kind, "message": words, **more}, "request_id": "req_1"}
    if kind != "request_too_large":  # the SDK's types do not know it
        ErrorResponse.model_validate(content)
    return web.json_response(content, status=status, headers=headers)


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The double on a port of its own, in a thread."""

    def add_routes(app: web.Application) -> None:
        app.router.add_post("/v1/messages", double.messages)
        app.router.add_get("/v1/models/{name}", double.model)

    with served(add_routes) as address:
        double.url = f"{address}/v1"
        yield double
