"""A loopback double of Gemini's generateContent, which holds requests and answers to google-genai's own types."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from google.genai import types
from tests.llms.openai_double import label_of, served

_TURN, _CONFIG = types.Content, types.GenerationConfig


class Double:
    """What the server did. paths, headers: of its requests. vertex: whether it stands for Vertex AI."""

    def __init__(self, *, tells_logprobs: bool = True) -> None:
        self.tells_logprobs = tells_logprobs
        self.fixed: Callable[[], web.Response] | None = None
        self.drops = False
        self.hang_s = 0.0
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.url = ""

    async def generate(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.requests.append(body)
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        assert set(body) <= {"contents", "systemInstruction", "generationConfig"}, set(body)
        for turn in body["contents"]:
            _TURN.model_validate(turn, extra="forbid")
        config = _CONFIG.model_validate(body["generationConfig"], extra="forbid")
        await asyncio.sleep(self.hang_s)
        if self.drops:
            assert request.transport is not None
            request.transport.close()  # read, perhaps answered and billed; the answer is lost
            return web.Response()
        if self.fixed is not None:
            return self.fixed()
        if config.response_logprobs and not self.tells_logprobs:
            return error(400, "Logprobs is not supported for the current model.", "INVALID_ARGUMENT")
        schema = config.response_schema
        assert schema is not None
        assert schema.properties is not None
        words = schema.properties["label"].enum or []
        text = body["contents"][-1]["parts"][0]["text"]
        word = label_of(text) if label_of(text) in words else words[0]
        self.counts[hashlib.sha256(text.encode()).hexdigest()] += 1
        return web.json_response(text=answer(word, words, bool(config.response_logprobs)))

    async def model(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        if self.drops:
            assert request.transport is not None
            request.transport.close()
        return self.fixed() if self.fixed is not None else web.json_response({"name": "models/gemini-3.5-flash-lite"})


def answer(word: str, words: list[str], logprobs: bool, **changed: Any) -> str:
    """An answer, built and checked by the SDK's own types."""
    rest = [other for other in words if other != word]
    chosen = [("{", 0.0), ('"label"', 0.0), (': "', 0.0), (word, -0.105360516), ('"}', 0.0)]
    told = types.LogprobsResult(
        chosen_candidates=[types.LogprobsResultCandidate(token=token, log_probability=p) for token, p in chosen],
        top_candidates=[
            types.LogprobsResultTopCandidates(
                candidates=[types.LogprobsResultCandidate(token=token, log_probability=p)]
                + [types.LogprobsResultCandidate(token=other, log_probability=-2.302585093) for other in rest
                   if token == word]
            )
            for token, p in chosen
        ],
    )  # fmt: skip
    candidate: dict[str, Any] = {
        "content": types.Content(role="model", parts=[types.Part(text=json.dumps({"label": word}))]),
        "finish_reason": types.FinishReason.STOP,
        "logprobs_result": told if logprobs else None,
    } | changed.pop("candidate", {})
    content: dict[str, Any] = {
        "candidates": [types.Candidate(**candidate)],
        "usage_metadata": types.GenerateContentResponseUsageMetadata(
            prompt_token_count=100, candidates_token_count=5, thoughts_token_count=2, total_token_count=107
        ),
        "model_version": "gemini-3.5-flash-lite",
    } | changed
    return types.GenerateContentResponse(**content).model_dump_json(exclude_none=True, by_alias=True)


def error(status: int, message: str, name: str, details: list[Any] | None = None) -> web.Response:
    content = {"code": status, "message": message, "status": name, "details": details or []}
    return web.json_response({"error": content}, status=status)


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The double on a port of its own, in a thread."""

    def add_routes(app: web.Application) -> None:
        app.router.add_post("/{path:.*}:generateContent", double.generate)
        app.router.add_get("/{path:.*}", double.model)

    with served(add_routes) as address:
        double.url = address
        yield double
