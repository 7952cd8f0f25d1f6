"""The Gemini API's batches, at half the price."""

import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from silvertune.errors import UserError
from silvertune.llms import credentials, gemini_answers
from silvertune.llms.interface import (
    Answer,
    BatchRefusedError,
    BatchResult,
    BatchStatus,
    Request,
    TransientError,
    UnusableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google import genai

_KEY = "labeler.llm.<name>.batch"
_NAME = "name"
"""The member of a request's metadata that its answer bears too."""
_MOST_LISTED = 5000
_ENDS = {"SUCCEEDED": "ended", "PARTIALLY_SUCCEEDED": "ended", "EXPIRED": "expired", "CANCELLED": "cancelled"}
_STATUSES = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503, 16: 401}
"""Codes of errors of a request in a batch (google.rpc.Code) -> the status that a single request has for them."""


@dataclass(frozen=True)
class GeminiBatches:
    """See `silvertune.llms.interface.Batches`.

    Attributes:
        client: Of the Gemini API.
        model: The model's name.
        key: The account's key.
        body: Makes the body of a request.
        answer: Says what a result means; raises as an LLM's answers do.
        probe: The answer to a question that was asked singly.
        most_bytes: Requests go within the one that makes the batch, which may have 20 MB.
    """

    client: "genai.Client" = field(repr=False)
    model: str
    key: str | None = field(repr=False)
    body: Callable[[Request], Any]
    answer: Callable[[BatchResult], Answer]
    probe: Answer
    most_requests: int = 10_000
    most_bytes: int = 12_000_000

    def submit(self, label: str, bodies: Mapping[str, Any]) -> str:
        """Make the batch with one request; the label is its display name."""
        from google.genai import types

        requests = [
            types.InlinedRequest.model_validate({**body, "metadata": {_NAME: name}}) for name, body in bodies.items()
        ]
        with self._errors():
            job = self.client.batches.create(
                model=self.model, src=requests, config=types.CreateBatchJobConfig(display_name=label)
            )
        return str(job.name or "")

    def find(self, label: str, names: Collection[str], since: float | None) -> str | None:
        """Look for the label among the display names of the project's batches, the newest first."""
        from google.genai import types

        with self._errors():
            jobs = islice(self.client.batches.list(config=types.ListBatchJobsConfig(page_size=100)), _MOST_LISTED)
            found = {str(job.name) for job in jobs if job.display_name == label}
        if len(found) > 1:
            raise UserError(f"{_KEY}: {len(found)} batches carry the label {label}: {', '.join(sorted(found))}")
        return found.pop() if found else None

    def status(self, batch: str) -> BatchStatus:
        """How a batch is; one that expired or was cancelled has ended with what was answered until then."""
        with self._errors():
            job = self.client.batches.get(name=batch)
        state = str(job.state.value if job.state else "").removeprefix("JOB_STATE_")
        if state in _ENDS:
            return BatchStatus("ended", _ENDS[state])
        if state == "FAILED":
            return BatchStatus("failed", credentials.hidden(str(job.error or state), self.key)[:300])
        return BatchStatus("running", state)

    def collect(self, batch: str) -> Mapping[str, BatchResult]:
        """What was answered, and what was refused."""
        with self._errors():
            job = self.client.batches.get(name=batch)
        results: dict[str, BatchResult] = {}
        unnamed = 0
        for entry in (job.dest.inlined_responses if job.dest else None) or []:
            name = (entry.metadata or {}).get(_NAME)
            if name is None:
                unnamed += 1
            elif entry.response is not None:
                results[name] = BatchResult(200, entry.response.model_dump(mode="json", exclude_none=True))
            elif entry.error is not None:
                status = _STATUSES.get(entry.error.code or 0, 500)
                results[name] = BatchResult(status, {"error": {"code": status, "message": entry.error.message}})
        if unnamed and not results:
            raise UserError(f"{_KEY}: {batch}: Google's answers do not say which requests they answer")
        if unnamed:
            print(f"silvertune: {unnamed} result(s) of batch {batch} do not say what they answer", file=sys.stderr)
        return results

    @contextmanager
    def _errors(self) -> "Iterator[None]":
        """What errors of the SDK mean for batches."""
        from google.genai import errors

        try:
            yield
        except errors.APIError as error:
            words = f"{error.code}: {credentials.hidden(' '.join(str(error.message).split()), self.key)[:200]}"
            if error.code in (401, 403):
                raise UnusableError(f"{_KEY}: Google takes no batches ({words}); check the key") from None
            if error.code == 429:
                wait = gemini_answers.retry_after(error.details)
                raise BatchRefusedError(words, is_busy=True, retry_after=wait) from None
            if error.code >= 500 or error.code in (408, 409, 425):
                raise TransientError(words) from None
            raise BatchRefusedError(words) from None
        except (OSError, gemini_answers.http_error()) as error:
            raise TransientError(f"{type(error).__name__} on the way to Gemini") from None
