"""Google's Gemini models, through Vertex AI or by API key."""

import asyncio
import importlib.util
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from silvertune.errors import UserError
from silvertune.interfaces import CheckResult
from silvertune.llms import credentials
from silvertune.llms.interface import (
    Answer,
    Ask,
    Limits,
    Message,
    Price,
    RejectedError,
    Request,
    Token,
    TransientError,
    UnusableError,
)

if TYPE_CHECKING:
    from google import genai
    from google.genai import errors, types

_KEY = "labeler.llm.<name>"
_REFUSALS = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE")
_PROBES: dict[str, bool] = {}
"""Which models tell log probabilities, as far as this process has asked."""


@dataclass(frozen=True)
class Gemini:
    """A Gemini model.

    Attributes:
        model: Its name; one with a version where there is one. An endpoint of a tuned model works too.
        project: Of Vertex AI, which takes the machine's Google credentials; null project: the Gemini API, by key.
        location: Of Vertex AI, which takes the machine's Google credentials; null project: the Gemini API, by key.
        api_key_env: The NAME of the environment variable that holds the key; unused with a project.
        thinking_budget: Tokens of thought before the answer; 0 none, null as the model does by itself.
        top_logprobs: How many alternatives to each token to ask for, null none. Not every model tells them, so one
            short request finds out before the others are sent.
        base_url: Another address of the API, null is Google's.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"limits", "base_url", "api_key_env"})

    model: str
    project: str | None
    location: str | None
    api_key_env: str | None
    temperature: float | None
    max_tokens: int
    thinking_budget: int | None
    top_logprobs: int | None
    base_url: str | None
    price: Price
    limits: Limits

    def __post_init__(self) -> None:
        credentials.check_name(self.api_key_env, f"{_KEY}.api_key_env")
        if re.match(r"(text|chat|code)-bison|gemini-pro$|gemini-1\.", self.model):
            raise UserError(f"{_KEY}.model={self.model}: Google has shut it down; use gemini-2.5-flash or a later one")
        if self.project is not None and self.location is None:
            raise UserError(f"{_KEY}.location: Vertex AI needs one, such as europe-west4 or global")

    def identity(self) -> dict[str, Any]:
        """What can change its answers."""
        names = ("model", "temperature", "max_tokens", "thinking_budget")
        return {"llm": "gemini", **{name: getattr(self, name) for name in names}}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """What sends requests. Raises UnusableError without the package, the key or Google's credentials."""
        client, key = self._client()
        try:
            logprobs = self.top_logprobs is not None and await self._tells_logprobs(client, key)
            yield partial(self._ask, client, key, logprobs)
        finally:
            await client.aio.aclose()

    def _client(self) -> "tuple[genai.Client, str | None]":
        try:
            from google import genai
            from google.auth.exceptions import GoogleAuthError
        except ImportError:
            raise UnusableError(f"{_KEY}: Gemini needs google-genai: pip install 'silvertune[vertex]'") from None
        # Left alone, the SDK sends a request again whose answer was lost: paid twice and counted once.
        options = genai.types.HttpOptions(
            base_url=self.base_url, retry_options=genai.types.HttpRetryOptions(attempts=1)
        )
        if self.project is None:
            key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
            if key is None:
                raise UnusableError(f"{_KEY}: want a project (Vertex AI) or api_key_env (the Gemini API)")
            return genai.Client(vertexai=False, api_key=key, http_options=options), key
        try:
            client = genai.Client(vertexai=True, project=self.project, location=self.location, http_options=options)
        except (GoogleAuthError, ValueError):
            raise UnusableError(
                f"{_KEY}.project={self.project}: no Google credentials on this machine: "
                "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS"
            ) from None
        return client, None

    async def _tells_logprobs(self, client: "genai.Client", key: str | None) -> bool:
        """Whether the model takes a request for log probabilities; the Gemini API and Vertex AI differ in that."""
        place = f"{self.project is None} {self.model} {self.base_url}"
        if place not in _PROBES:
            probe = Request((Message("user", 'Answer {"label": "a"}'),), ("a", "b"), ("label",))
            try:
                async with asyncio.timeout(self.limits.timeout_s):
                    await self._ask(client, key, True, probe)
                _PROBES[place] = True
            except RejectedError as error:
                _PROBES[place] = False
                print(f"silvertune: {self.model} tells no log probabilities ({error}); asking without", file=sys.stderr)
            except (TransientError, TimeoutError):
                return True
        return _PROBES[place]

    async def _ask(self, client: "genai.Client", key: str | None, logprobs: bool, request: Request) -> Answer:
        import aiohttp
        from google.auth.exceptions import GoogleAuthError
        from google.genai import errors

        contents = [_content(turn) for turn in request.messages if turn.role != "system"]
        try:
            response = await client.aio.models.generate_content(
                model=self.model, contents=contents, config=self._config(request, logprobs)
            )
        except errors.APIError as error:
            return self._failed(error, key)
        except GoogleAuthError:
            raise UnusableError(f"{_KEY}.project={self.project}: Google's credentials do not work; log in anew: "
                                "gcloud auth application-default login") from None  # fmt: skip
        except (aiohttp.ClientError, OSError, ValueError, _http_errors()) as error:
            # A ValueError is an answer that is no JSON, or not of the API's form.
            raise TransientError(f"{type(error).__name__} on the way to Gemini") from None
        return _answer(response, self.model)

    def _config(self, request: Request, logprobs: bool) -> "types.GenerateContentConfig":
        from google.genai import types

        system = [turn.content for turn in request.messages if turn.role == "system"]
        thinking = None
        if self.thinking_budget is not None:
            thinking = types.ThinkingConfig(thinking_budget=self.thinking_budget)
        return types.GenerateContentConfig(
            system_instruction="\n".join(system) or None,
            temperature=self.temperature,
            max_output_tokens=self.max_tokens,
            seed=request.repeat or None,
            thinking_config=thinking,
            response_mime_type="application/json",
            response_schema=_schema(request),
            response_logprobs=True if logprobs else None,
            logprobs=self.top_logprobs if logprobs else None,
        )

    def _failed(self, error: "errors.APIError", key: str | None) -> Answer:
        """What an error answer means, raised."""
        message = credentials.hidden(" ".join(str(error.message or error.status).split()), key)[:200]
        if error.code in (401, 403) or "API_KEY_INVALID" in str(error.details):
            setting = f"{_KEY}.api_key_env={self.api_key_env}" if key else f"{_KEY}.project={self.project}"
            raise UnusableError(
                f"{setting}: Google refused it ({error.code} {error.status}); check the key, or the role "
                f"Vertex AI User, and that the API is enabled"
            )
        if error.code == 429 and re.search(r"per ?day|billing|free.?tier.*limit: 0", str(error.details), re.IGNORECASE):
            raise UnusableError(
                f"{_KEY}: the quota of {self.model} is used up ({message}); raise it, or wait until it renews"
            )
        if error.code == 404:
            raise UnusableError(
                f"{_KEY}.model={self.model}: no such model there (404: {message}); check model and location"
            )
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            raise TransientError(f"{error.code}: {message}", _retry_after(error.details))
        raise RejectedError(f"{error.code}: {message}")

    def check(self) -> list[CheckResult]:
        """Package, credentials, and whether the model is there; nothing is generated."""
        if importlib.util.find_spec("google") is None or importlib.util.find_spec("google.genai") is None:
            return [CheckResult("package google-genai", False, "pip install 'silvertune[vertex]'")]
        try:
            asyncio.run(self._look())
        except UnusableError as error:
            return [CheckResult(f"Gemini: {self.model}", False, str(error))]
        except (RejectedError, TransientError, TimeoutError) as error:
            return [
                CheckResult(f"Gemini: {self.model}", False, f"{error or 'no answer within 20 s'}: is the network up?")
            ]
        return [CheckResult(f"Gemini: credentials, and {self.model} is there", True)]

    async def _look(self) -> None:
        import aiohttp
        from google.auth.exceptions import GoogleAuthError
        from google.genai import errors

        client, key = self._client()
        try:
            async with asyncio.timeout(20):
                await client.aio.models.get(model=self.model)
        except errors.APIError as error:
            self._failed(error, key)
        except GoogleAuthError:
            raise UnusableError(f"{_KEY}.project={self.project}: Google's credentials do not work") from None
        except (aiohttp.ClientError, OSError, ValueError, _http_errors()) as error:
            raise TransientError(type(error).__name__) from None
        finally:
            await client.aio.aclose()


def _http_errors() -> type[Exception]:
    """What google-genai's transport raises where it does not talk over aiohttp."""
    try:
        import httpx
    except ImportError:
        return OSError
    return httpx.HTTPError


def _content(turn: Message) -> "types.Content":
    from google.genai import types

    return types.Content(role="model" if turn.role == "assistant" else "user", parts=[types.Part(text=turn.content)])


def _schema(request: Request) -> "types.Schema":
    """The schema of the answer, in the part of OpenAPI that Gemini takes; it keeps the order of the fields."""
    from google.genai.types import Schema, Type

    kinds = {
        "label": Schema(type=Type.STRING, enum=list(request.words)),
        "reason": Schema(type=Type.STRING),
        "confidence": Schema(type=Type.NUMBER),
    }
    fields = list(request.fields)
    return Schema(
        type=Type.OBJECT,
        properties={name: kinds[name] for name in fields},
        required=fields,
        property_ordering=fields,
    )


def _answer(response: "types.GenerateContentResponse", model: str) -> Answer:
    usage = response.usage_metadata
    tokens_in = (usage.prompt_token_count or 0) if usage else None
    tokens_out = ((usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)) if usage else None
    said = response.model_version or model
    feedback = response.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        return Answer(f"blocked: {feedback.block_reason.value}", "refused", said, tokens_in, tokens_out)
    if not response.candidates:
        raise TransientError("an answer without a candidate", None, tokens_in or 0, tokens_out or 0)
    candidate = response.candidates[0]
    parts = (candidate.content.parts if candidate.content else None) or []
    text = "".join(part.text or "" for part in parts if not part.thought)
    reason = candidate.finish_reason.value if candidate.finish_reason else "STOP"
    if not text and reason == "STOP":
        raise TransientError("an empty candidate", None, tokens_in or 0, tokens_out or 0)
    return Answer(
        text=text or reason,
        finish="refused" if reason in _REFUSALS else "length" if reason == "MAX_TOKENS" else "stop",
        model=said,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        tokens=_tokens(candidate.logprobs_result),
    )


def _tokens(logprobs: "types.LogprobsResult | None") -> tuple[Token, ...]:
    if logprobs is None or not logprobs.chosen_candidates:
        return ()
    tops = logprobs.top_candidates or []
    tokens = []
    for place, chosen in enumerate(logprobs.chosen_candidates):
        alternatives = {}
        for one in [chosen, *((tops[place].candidates or []) if place < len(tops) else [])]:
            if one.log_probability is None:
                return ()  # a missing log probability is no probability of 1
            alternatives[_bytes(one.token)] = one.log_probability
        tokens.append(Token(_bytes(chosen.token), alternatives))
    return tuple(tokens)


def _bytes(token: str | None) -> bytes:
    return (token or "").encode("utf-8", "surrogatepass")


def _retry_after(details: Any) -> float | None:
    """Seconds, from the RetryInfo that Google puts into an error's details."""
    match = re.search(r"retryDelay['\"]?\s*:\s*['\"]?([\d.]+)s", str(details))
    return float(match[1]) if match else None
