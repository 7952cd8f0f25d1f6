"""OpenAI's batches: a file of requests goes up, a file of answers comes down, at half the price."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from silvertune.errors import UserError
from silvertune.llms import batch_http
from silvertune.llms.interface import Answer, BatchRefusedError, BatchResult, BatchStatus, Request, TransientError

if TYPE_CHECKING:
    import aiohttp

_KEY = "labeler.llm.<name>"
_LABEL = "silvertune"
"""The member of a batch's metadata by which it is found again."""
_KEPT_S = 30 * 86400
"""OpenAI deletes the file of requests after so long."""
_PAGES = 50
_GOES_ON = ("validating", "inprogress", "finalizing", "cancelling")
_ENDS = {
    **dict.fromkeys(("completed", "complete", "succeeded", "success", "done", "finished", "ended"), "completed"),
    **dict.fromkeys(("expired", "timeoutexceeded"), "expired"), **dict.fromkeys(("cancelled", "canceled"), "cancelled"),
    **dict.fromkeys(("failed", "failure", "error", "rejected", "invalid"), "failed"),
}  # fmt: skip
"""How servers call the end of a batch, letters only and in lower case -> how OpenAI does."""


@dataclass(frozen=True)
class OpenAIBatches:
    """See `silvertune.llms.interface.Batches`.

    Attributes:
        base_url: Up to and with `/v1`.
        key: The account's key.
        body: Makes the body of a request.
        answer: Says what a result means; raises as an LLM's answers do.
        probe: The answer to a question that was asked singly.
    """

    base_url: str
    key: str | None = field(repr=False)
    body: Callable[[Request], Any]
    answer: Callable[[BatchResult], Answer]
    probe: Answer
    most_requests: int = 10_000
    most_bytes: int = 100_000_000

    def submit(self, label: str, bodies: Mapping[str, Any]) -> str:
        """Upload the requests, then make the batch with one request."""
        url = "/v1/chat/completions"
        lines = [{"custom_id": name, "method": "POST", "url": url, "body": body} for name, body in bodies.items()]
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode("utf-8", "replace")
        try:
            file = self._send("POST", "/files", form=_upload(label, data))
        except TransientError as error:
            raise BatchRefusedError(str(error), is_busy=True, retry_after=error.retry_after) from None
        wanted = {
            "input_file_id": file["id"], "endpoint": url, "completion_window": "24h", "metadata": {_LABEL: label},
        }  # fmt: skip
        return str(self._send("POST", "/batches", wanted)["id"])

    def find(self, label: str, names: Collection[str], since: float | None) -> str | None:
        """Look for the label in the metadata of the account's batches, the newest first."""
        found: set[str] = set()
        after = ""
        for _ in range(_PAGES):
            page = self._send("GET", f"/batches?limit=100{after}")
            found |= {str(batch["id"]) for batch in page["data"] if (batch.get("metadata") or {}).get(_LABEL) == label}
            if not page.get("has_more") or not page["data"]:
                break
            after = f"&after={page['data'][-1]['id']}"
        if len(found) > 1:
            raise UserError(f"{_KEY}.batch: {len(found)} batches carry the label {label}: {', '.join(sorted(found))}")
        return found.pop() if found else None

    def status(self, batch: str) -> BatchStatus:
        """How a batch is; one that expired or was cancelled has ended with what was answered until then."""
        batch_now = self._send("GET", f"/batches/{batch}")
        state = str(batch_now["status"])
        word = re.sub("[^a-z]", "", state.lower())
        end, has_files = _ENDS.get(word), any(_files(batch_now))
        if word in _GOES_ON or not (end or has_files):
            # What nobody knows the name of goes on: a second batch would be paid for again.
            return BatchStatus("running", state)
        if end != "failed" or has_files:
            return BatchStatus("ended", state if end in (None, "failed") else end)
        errors = (batch_now.get("errors") or {}).get("data") or []
        messages = (f"{error.get('code') or ''}: {error.get('message') or ''}" for error in errors)
        return BatchStatus("failed", "; ".join(messages)[:500] or state)

    def collect(self, batch: str) -> Mapping[str, BatchResult]:
        """What was answered, and what was refused; what expired with the batch is in neither."""
        batch_now = self._send("GET", f"/batches/{batch}")
        files = _files(batch_now)
        if not any(files) and self.status(batch).message == "completed":
            raise TransientError("it is completed, and its results are not there yet")
        results: dict[str, BatchResult] = {}
        for file in files:
            for entry in batch_http.entries(self._text("GET", f"/files/{file}/content"), batch) if file else ():
                if result := _result(entry):
                    batch_http.take(results, entry["custom_id"], result)
        return results

    def _send(
        self, method: str, path: str, body: Any = None, form: "Callable[[], aiohttp.FormData] | None" = None
    ) -> Any:
        return json.loads(self._text(method, path, body, form))

    def _text(
        self, method: str, path: str, body: Any = None, form: "Callable[[], aiohttp.FormData] | None" = None
    ) -> str:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        url = f"{self.base_url.rstrip('/')}{path}"
        return batch_http.text(url, headers, method, secret=self.key, body=body, form=form)


def _files(batch_now: Mapping[str, Any]) -> tuple[Any, Any]:
    """The files with what was answered, and with what was not."""
    return batch_now.get("output_file_id"), batch_now.get("error_file_id")


def _result(entry: Mapping[str, Any]) -> BatchResult | None:
    """What a line of a file says of its request; None where it ended with its batch."""
    response, error = entry.get("response"), entry.get("error")
    if isinstance(response, Mapping) and response:
        status = response.get("status_code")
        return BatchResult(status if isinstance(status, int) else 200, response.get("body"))
    error = error if isinstance(error, Mapping) else {"message": str(error)} if error else {}
    if not error or error.get("code") in ("batch_expired", "batch_cancelled"):
        return None
    return BatchResult(400, {"error": error})


def _upload(label: str, data: bytes) -> "Callable[[], aiohttp.FormData]":
    def form() -> "aiohttp.FormData":
        import aiohttp

        fields = aiohttp.FormData()
        fields.add_field("purpose", "batch")
        fields.add_field("expires_after[anchor]", "created_at")
        fields.add_field("expires_after[seconds]", str(_KEPT_S))
        fields.add_field("file", data, filename=f"{_LABEL}-{label}.jsonl", content_type="application/jsonl")
        return fields

    return form
