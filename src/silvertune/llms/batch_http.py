"""How providers' batches are asked over HTTP: from any thread, once, and with the errors that batches need."""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from silvertune.llms import anthropic_answers, credentials, http, openai_answers
from silvertune.llms.interface import BatchRefusedError, BatchResult, TransientError, UnusableError

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_S = 600.0


def entries(text: str, batch: str) -> list[Mapping[str, Any]]:
    """The objects of a file of results, one a line. What can't be read is left out, and said.

    Args:
        text: The file. Answers may hold marks that Unicode takes for ends of lines.
        batch: The batch's name, for what is said.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    objects = [entry for line in lines if isinstance(entry := openai_answers.body_of(line), Mapping)]
    named = [entry for entry in objects if isinstance(entry.get("custom_id"), str)]
    if len(named) < len(lines):
        print(f"silvertune: {len(lines) - len(named)} of the {len(lines)} results of batch {batch} can't be read",
              file=sys.stderr)  # fmt: skip
    return named


def take(results: dict[str, BatchResult], name: str, result: BatchResult) -> None:
    """Put a result to the others; of two for one request, the one that has an answer counts."""
    if name not in results or results[name].status != 200:
        results[name] = result


def text(
    url: str,
    headers: Mapping[str, str],
    method: str = "GET",
    *,
    secret: str | None,
    body: Any = None,
    form: "Callable[[], aiohttp.FormData] | None" = None,
) -> str:
    """Send one request, once; the text of the answer.

    Args:
        url: Where.
        headers: Those of the provider, with the key.
        method: Of HTTP.
        secret: The key, which no message shows.
        body: What is sent as JSON.
        form: Makes the form that is sent in its place.

    Raises:
        BatchRefusedError: The server refused; it may take it later (429).
        TransientError: No answer, or an error of the server's own: nobody knows what became of the request.
        UnusableError: The key or the account.
    """

    async def send() -> http.Response:
        data = form() if form else None if body is None else json.dumps(body).encode()
        kind = {} if form else {"content-type": "application/json"}
        async with http.session(url, headers) as session, asyncio.timeout(TIMEOUT_S):
            return await http.send(session, method, url, data=data, headers=kind)

    try:
        status, received, content = asyncio.run(send())
    except TimeoutError:
        raise TransientError(f"no answer within {TIMEOUT_S:g} s") from None
    if status == 200:
        return content
    error_body = openai_answers.body_of(content)
    error = openai_answers.error_of(status, error_body)
    words = f"{status}: {credentials.hidden(error.message if error else '', secret)}"
    if status in (401, 403) or (error and error.is_of_quota) or anthropic_answers.is_unpaid(error_body):
        raise UnusableError(
            f"labeler.llm.<name>.batch: the provider takes no batches ({words}); check the key and the account"
        )
    if status == 429:
        raise BatchRefusedError(words, is_busy=True, retry_after=openai_answers.retry_after(received))
    if status >= 500 or status in (408, 409, 425):
        raise TransientError(words, openai_answers.retry_after(received))
    raise BatchRefusedError(words)
