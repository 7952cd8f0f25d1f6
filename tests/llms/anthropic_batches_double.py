"""A loopback double of Anthropic's message batches, which holds requests and answers to the SDK's own types."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from tests.llms import anthropic_double
from tests.llms.anthropic_double import error
from tests.llms.openai_double import label_of, served


class Double(anthropic_double.Double):
    """What the server did; its settings are those of `openai_batches_double.Double`."""

    tokens = (100, 7)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.looks = 1
        self.fates: list[str] = []
        self.refusals: list[web.Response] = []
        self.lost = 0
        self.fails: Callable[[str], bool] = lambda text: False
        self.says: Callable[[str], str] = label_of
        self.answered: Counter[str] = Counter()
        self.alter: Callable[[list[str]], list[str]] = lambda lines: lines
        self.not_yet = 0
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
        kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 503: "api_error"}
        return error(status, kinds[status], words, headers)

    async def create(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        if (wrong := self._wrong(request)) is not None:
            return wrong
        if self.refusals:
            return self.refusals.pop(0)
        assert set(body) == {"requests"}
        names = [entry["custom_id"] for entry in body["requests"]]
        assert len(set(names)) == len(names)
        for entry in body["requests"]:
            assert set(entry) == {"custom_id", "params"}
            assert len(entry["custom_id"]) <= 64
            anthropic_double.check_request(entry["params"])
        name = f"msgbatch_{len(self.batches)}"
        self.batches[name] = {
            "requests": body["requests"], "looks": self.looks, "fate": self.fates.pop(0) if self.fates else "completed",
            "status": "in_progress", "at": time.time(), "results": [],
        }  # fmt: skip
        if self.lost:
            self.lost -= 1
            assert request.transport is not None
            request.transport.close()
        return web.json_response(text=self._text(name))

    async def retrieve(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        batch = self.batches[name]
        batch["looks"] -= 1
        if batch["looks"] < 0 and batch["status"] == "in_progress":
            self._end(batch)
        return web.json_response(text=self._text(name))

    async def cancel(self, request: web.Request) -> web.Response:
        """It ends, at the next look, with what was answered until then."""
        name = request.match_info["name"]
        if self.batches[name]["status"] != "in_progress":
            return error(400, "invalid_request_error", f"Batch {name} cannot be canceled because it has ended.")
        self.batches[name] |= {"fate": "cancelled", "looks": 0}
        return web.json_response(text=self._text(name))

    async def list(self, request: web.Request) -> web.Response:
        names = list(self.batches)[::-1]
        after = request.query.get("after_id")
        names = names[names.index(after) + 1 :] if after else names
        page = [json.loads(self._text(name)) for name in names[:2]]  # small pages, so that there are several
        return web.json_response({"data": page, "has_more": len(names) > 2, "first_id": None, "last_id": None})

    async def results(self, request: web.Request) -> web.Response:
        lines = self.batches[request.match_info["name"]]["results"]
        if lines is None or self.not_yet:
            self.not_yet -= self.not_yet > 0
            return error(404, "not_found_error", "No results")
        return web.Response(text="".join(self.alter([json.dumps(line) + "\n" for line in lines])))

    def forget_results(self) -> None:
        """As Anthropic does after some weeks."""
        for batch in self.batches.values():
            batch["results"] = None

    def _end(self, batch: dict[str, Any]) -> None:
        most = len(batch["requests"]) if batch["fate"] == "completed" else len(batch["requests"]) // 2
        for number, entry in enumerate(reversed(batch["requests"])):  # in no order
            text = entry["params"]["messages"][-1]["content"]
            result: dict[str, Any]
            if number >= most:
                result = {"type": {"expired": "expired", "cancelled": "canceled"}[batch["fate"]]}
            elif self.fails(text):
                overloaded = {"type": "overloaded_error", "message": "oops"}
                result = {"type": "errored", "error": {"type": "error", "request_id": None, "error": overloaded}}
            else:
                self.answered[entry["custom_id"]] += 1
                said = anthropic_double.message(self.says(text), model=entry["params"]["model"])
                result = {"type": "succeeded", "message": json.loads(said)}
            told = MessageBatchIndividualResponse.model_validate({"custom_id": entry["custom_id"], "result": result})
            batch["results"].append(json.loads(told.model_dump_json()))
        batch["status"] = "ended"

    def _text(self, name: str) -> str:
        batch = self.batches[name]
        kinds = Counter(line["result"]["type"] for line in batch["results"] or [])
        counts = {kind: kinds[kind] for kind in ("succeeded", "errored", "canceled", "expired")}
        counts["processing"] = len(batch["requests"]) - sum(counts.values())
        made = datetime.fromtimestamp(batch["at"], UTC)
        told = {
            "id": name, "type": "message_batch", "processing_status": batch["status"], "request_counts": counts,
            "created_at": made.isoformat(), "expires_at": made.isoformat(), "archived_at": None, "ended_at": None,
            "cancel_initiated_at": None,
            "results_url": "https://elsewhere.invalid/results" if batch["status"] == "ended" else None,
        }  # fmt: skip
        return MessageBatch.model_validate(told).model_dump_json()


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The double on a port of its own, in a thread."""

    def add_routes(app: web.Application) -> None:
        app.router.add_post("/v1/messages", double.messages)
        app.router.add_post("/v1/messages/batches", double.create)
        app.router.add_get("/v1/messages/batches", double.list)
        app.router.add_get("/v1/messages/batches/{name}", double.retrieve)
        app.router.add_post("/v1/messages/batches/{name}/cancel", double.cancel)
        app.router.add_get("/v1/messages/batches/{name}/results", double.results)

    with served(add_routes) as address:
        double.url = f"{address}/v1"
        yield double
