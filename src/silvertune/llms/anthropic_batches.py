"""Anthropic's message batches, at half the price."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from silvertune.llms import batch_http, openai_answers
from silvertune.llms.interface import Answer, BatchRefusedError, BatchResult, BatchStatus, Request

_PAGES = 50
_SENT_LATER_S, _SENT_EARLIER_S = 3600.0, 60.0
"""A batch was made so long after the request was noted down as sent, or before it by another clock."""
_STATUSES = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip
"""Errors of a request in a batch -> the status that a single request has for them."""


@dataclass(frozen=True)
class AnthropicBatches:
    """See `silvertune.llms.interface.Batches`.

    Anthropic keeps no label with a batch. It stands in the names of its requests, which are told when it has ended;
    until then a batch is known by its number of requests and by when it was made.

    Attributes:
        base_url: Up to and with `/v1`.
        headers: Those of each request.
        key: The account's key.
        body: Makes the body of a request.
        answer: Says what a result means; raises as an LLM's answers do.
        probe: The answer to a question that was asked singly.
    """

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    key: str | None = field(repr=False)
    body: Callable[[Request], Any]
    answer: Callable[[BatchResult], Answer]
    probe: Answer
    most_requests: int = 10_000
    most_bytes: int = 100_000_000

    def submit(self, label: str, bodies: Mapping[str, Any]) -> str:
        """Make the batch with one request, the label in the names of its requests."""
        requests = [{"custom_id": f"{name}-{_mark(label)}", "params": body} for name, body in bodies.items()]
        return str(json.loads(self._text("POST", "", {"requests": requests}))["id"])

    def find(self, label: str, names: Collection[str], since: float | None) -> str | None:
        """Look through the workspace's batches, the newest first."""
        running = []
        for batch in self._batches():
            if sum(batch["request_counts"].values()) != len(names):
                continue
            if batch["processing_status"] == "ended":
                if self._carries(batch, label):
                    return str(batch["id"])
            elif since is not None:
                made = datetime.fromisoformat(batch["created_at"]).timestamp()
                if since - _SENT_EARLIER_S <= made <= since + _SENT_LATER_S:
                    running.append(str(batch["id"]))
        return running[0] if len(running) == 1 else None

    def _batches(self) -> Iterator[Mapping[str, Any]]:
        after = ""
        for _ in range(_PAGES):
            page = json.loads(self._text("GET", f"?limit=100{after}"))
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            after = f"&after_id={page['data'][-1]['id']}"

    def _carries(self, batch: Mapping[str, Any], label: str) -> bool:
        """Whether a batch that has ended carries the label."""
        if not batch.get("results_url") or batch.get("archived_at"):
            return False
        try:
            lines = self._text("GET", f"/{batch['id']}/results").split("\n")
        except BatchRefusedError as error:
            if error.is_busy:
                raise
            return False  # Anthropic keeps results for some weeks
        first = openai_answers.body_of(lines[0])
        return isinstance(first, Mapping) and str(first.get("custom_id")).endswith(f"-{_mark(label)}")

    def status(self, batch: str) -> BatchStatus:
        """How a batch is; one that expired or was cancelled has ended with what was answered until then."""
        batch_now = json.loads(self._text("GET", f"/{batch}"))
        if batch_now["processing_status"] != "ended":
            return BatchStatus("running", str(batch_now["processing_status"]))
        counts = batch_now.get("request_counts") or {}
        ends = {"cancelled": counts.get("canceled"), "expired": counts.get("expired")}
        return BatchStatus("ended", next((end for end, number in ends.items() if number), "ended"))

    def collect(self, batch: str) -> Mapping[str, BatchResult]:
        """What was answered, and what was refused."""
        results: dict[str, BatchResult] = {}
        for entry in batch_http.entries(self._text("GET", f"/{batch}/results"), batch):
            result = entry.get("result")
            if not isinstance(result, Mapping):
                continue
            name = entry["custom_id"].partition("-")[0]
            if result.get("type") == "succeeded":
                batch_http.take(results, name, BatchResult(200, result.get("message")))
            elif result.get("type") == "errored":
                error = result.get("error")
                inner = error.get("error") if isinstance(error, Mapping) else None
                kind = inner.get("type") if isinstance(inner, Mapping) else None
                batch_http.take(results, name, BatchResult(_STATUSES.get(str(kind), 500), error))
        return results

    def _text(self, method: str, path: str, body: Any = None) -> str:
        url = f"{self.base_url.rstrip('/')}/messages/batches{path}"
        return batch_http.text(url, self.headers, method, secret=self.key, body=body)


def _mark(label: str) -> str:
    """A label as a part of a request's name, which has 64 characters."""
    return hashlib.sha256(label.encode()).hexdigest()[:16]
