"""A loopback double of the Gemini API's batches, which holds requests and answers to google-genai's own types."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from google.genai import types
from tests.llms import gemini_double
from tests.llms.gemini_double import error
from tests.llms.openai_double import label_of, served


class Double(gemini_double.Double):
    """What the server did; its settings are those of `openai_batches_double.Double`."""

    tokens = (100, 7)

    def __init__(self) -> None:
        super().__init__()
        self.looks = 1
        self.fates: list[str] = []
        self.refusals: list[web.Response] = []
        self.lost = 0
        self.fails: Callable[[str], bool] = lambda text: False
        self.says: Callable[[str], str] = label_of
        self.answered: Counter[str] = Counter()
        self.batches: dict[str, dict[str, Any]] = {}

    @property
    def received(self) -> int:
        """Single requests."""
        return len(self.requests)

    def sizes(self) -> list[int]:
        """The number of requests of each batch."""
        return [len(batch["requests"]) for batch in self.batches.values()]

    @staticmethod
    def refusal(status: int, words: str, headers: dict[str, str] | None = None) -> web.Response:
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
        wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.05s"}
        return error(status, words, names[status], [wait] if headers else [])

    async def create(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        if self.refusals:
            return self.refusals.pop(0)
        assert set(body) == {"batch"}
        assert set(body["batch"]) == {"displayName", "inputConfig"}
        requests = body["batch"]["inputConfig"]["requests"]["requests"]
        for entry in requests:
            assert set(entry) == {"request", "metadata"}
            assert set(entry["request"]) <= {"model", "contents", "systemInstruction", "generationConfig"}
            for turn in entry["request"]["contents"]:
                types.Content.model_validate(turn, extra="forbid")
            types.GenerationConfig.model_validate(entry["request"]["generationConfig"], extra="forbid")
        name = f"batches/b{len(self.batches)}"
        self.batches[name] = {
            "requests": requests, "looks": self.looks, "fate": self.fates.pop(0) if self.fates else "completed",
            "state": "BATCH_STATE_RUNNING", "label": body["batch"]["displayName"], "responses": [],
        }  # fmt: skip
        if self.lost:
            self.lost -= 1
            assert request.transport is not None
            request.transport.close()
        return web.json_response(self._told(name))

    async def retrieve(self, request: web.Request) -> web.Response:
        name = f"batches/{request.match_info['name']}"
        batch = self.batches[name]
        batch["looks"] -= 1
        if batch["looks"] < 0 and batch["state"] == "BATCH_STATE_RUNNING":
            self._end(batch)
        return web.json_response(self._told(name))

    async def cancel(self, request: web.Request) -> web.Response:
        """It ends, at the next look, with what was answered until then."""
        name = f"batches/{request.match_info['name']}"
        if self.batches[name]["state"] != "BATCH_STATE_RUNNING":
            return error(400, f"{name} has ended", "FAILED_PRECONDITION", [])
        self.batches[name] |= {"fate": "cancelled", "looks": 0}
        return web.json_response({})

    async def list(self, request: web.Request) -> web.Response:
        names = list(self.batches)[::-1]
        start = int(request.query.get("pageToken", 0))
        page = [self._told(name) for name in names[start : start + 2]]  # small pages, so that there are several
        more = {"nextPageToken": str(start + 2)} if len(names) > start + 2 else {}
        return web.json_response({"operations": page, **more})

    def _end(self, batch: dict[str, Any]) -> None:
        most = len(batch["requests"]) if batch["fate"] == "completed" else len(batch["requests"]) // 2
        for entry in batch["requests"][:most]:
            text = entry["request"]["contents"][-1]["parts"][0]["text"]
            words = entry["request"]["generationConfig"]["responseSchema"]["properties"]["label"]["enum"]
            said: dict[str, Any]
            if self.fails(text):
                said = {"error": {"code": 14, "message": "oops"}}
            else:
                self.answered[entry["metadata"]["name"]] += 1
                said = {"response": json.loads(gemini_double.answer(self.says(text), words, False))}
            batch["responses"].append({**said, "metadata": entry["metadata"]})
        states = {"completed": "SUCCEEDED", "expired": "EXPIRED", "cancelled": "CANCELLED"}
        batch["state"] = f"BATCH_STATE_{states[batch['fate']]}"

    def _told(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        output = {"output": {"inlinedResponses": {"inlinedResponses": batch["responses"]}}}
        return {
            "name": name,
            "metadata": {
                "model": "models/gemini-3.5-flash-lite", "displayName": batch["label"], "state": batch["state"],
                "createTime": "2026-11-29T00:00:00Z", **(output if batch["responses"] else {}),
            },
        }  # fmt: skip


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The double on a port of its own, in a thread."""

    def add_routes(app: web.Application) -> None:
        app.router.add_post("/{path:.*}:generateContent", double.generate)
        app.router.add_post("/{path:.*}:batchGenerateContent", double.create)
        app.router.add_get("/v1beta/batches", double.list)
        app.router.add_get("/v1beta/batches/{name}", double.retrieve)
        app.router.add_post("/v1beta/batches/{name}:cancel", double.cancel)

    with served(add_routes) as address:
        double.url = address
        yield double
