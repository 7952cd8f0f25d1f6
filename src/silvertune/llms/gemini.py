"""Google's Gemini models, through Vertex AI or by API key."""

import asyncio
import importlib.util
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from silvertune.errors import UserError, check_number, either
from silvertune.interfaces import CheckResult
from silvertune.llms import credentials, gemini_answers, openai_answers, retired
from silvertune.llms.gemini_batches import GeminiBatches
from silvertune.llms.interface import (
    Answer,
    Ask,
    Batches,
    BatchRefusedError,
    BatchResult,
    Limits,
    Message,
    Price,
    RejectedError,
    Request,
    TransientError,
    UnusableError,
)
from silvertune.llms.optional_members import probed

if TYPE_CHECKING:
    from google import genai
    from google.genai import errors, types

_KEY = "labeler.llm.<name>"
_LEVELS = ("minimal", "low", "medium", "high")
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
        thinking_budget: Of Gemini 2.5: tokens of thought before the answer; 0 none, null as the model does by itself.
        top_logprobs: How many alternatives to each token to ask for, null none. Not every model tells them, so one
            short request finds out before the others are sent.
        base_url: Another address of the API, null is Google's.
        thinking_level: Of Gemini 3 and later, which take no budget: minimal, low, medium, high; null as the model
            does by itself.
        accept_model: The model that may answer in place of `model`, where Google reroutes it; null: none.
        batch: Ask by batches, at half the price and within some days; of the Gemini API, by key.
        batch_poll_s: Seconds between two looks at a batch.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset(
        {"limits", "base_url", "api_key_env", "batch", "batch_poll_s"}
    )

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
    thinking_level: str | None = None
    accept_model: str | None = None
    batch: bool = False
    batch_poll_s: float = 30.0

    def __post_init__(self) -> None:
        credentials.check_name(self.api_key_env, f"{_KEY}.api_key_env")
        level, budget = f"{_KEY}.thinking_level={self.thinking_level}", f"{_KEY}.thinking_budget={self.thinking_budget}"
        if self.thinking_level is not None and self.thinking_budget is not None:
            raise UserError(f"{level}, {budget}: Gemini refuses both together; want one, and the other null")
        if self.thinking_level not in (None, *_LEVELS):
            raise UserError(f"{level}: want {either(_LEVELS)}, or null")
        generation = re.search(r"gemini-(\d+)", self.model)
        if generation and int(generation[1]) > 2 and self.thinking_budget is not None:
            raise UserError(f"{budget}: {self.model} takes a level: want thinking_budget=null thinking_level=minimal")
        if generation and int(generation[1]) < 3 and self.thinking_level is not None:
            raise UserError(f"{level}: {self.model} takes a budget: want thinking_level=null thinking_budget=0")
        check_number(f"{_KEY}.batch_poll_s", self.batch_poll_s, above=True)
        if self.batch and self.project is not None:
            raise UserError(f"{_KEY}.batch=true: Vertex AI's batches go by Cloud Storage; want project=null and a key "
                            "of the Gemini API, or batch=false")  # fmt: skip
        if self.project is not None and self.location is None:
            raise UserError(f"{_KEY}.location: Vertex AI needs one, such as europe-west4 or global")

    def identity(self) -> dict[str, Any]:
        """What can change its answers."""
        names = ("model", "temperature", "max_tokens", "thinking_budget")
        later = {"thinking_level": self.thinking_level, "accept_model": self.accept_model}
        return {
            "llm": "gemini",
            **{name: getattr(self, name) for name in names},
            **{name: value for name, value in later.items() if value is not None},
        }

    @property
    def _service(self) -> str:
        return "gemini" if self.project is None else "vertex"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """What sends requests. Raises UnusableError without the package, the key or Google's credentials."""
        if self.accept_model is None:
            retired.refuse(self._service, self.model, f"{_KEY}.model")
        client, key = self._client()
        paid: list[Answer] = []
        try:
            logprobs = self.top_logprobs is not None and await self._tells_logprobs(client, key, paid)

            async def ask(request: Request) -> Answer:
                answer = await self._ask(client, key, logprobs, request)
                if not paid:
                    return answer
                probe = paid.pop()  # it is paid for with the first answer
                return replace(answer, failed_in=probe.tokens_in or 0, failed_out=probe.tokens_out or 0)

            yield ask
        finally:
            await client.aio.aclose()

    @asynccontextmanager
    async def batches(self) -> AsyncIterator[Batches]:
        """The Gemini API's batches, after one question that is asked singly. Raises UnusableError where that fails."""
        async with self.connect() as ask:
            logprobs = _PROBES.get(self._place, False)
            probe = await probed(ask, self.model, self.limits)
        client, key = self._client()
        try:
            yield GeminiBatches(
                client, self.model, key, partial(self._batch_body, logprobs), partial(self._batch_answer, key), probe
            )
        finally:
            client.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """When the model ends, unless another may answer in its place: see `silvertune.llms.interface.LLMTraits`."""
        return () if self.accept_model else retired.notes(self._service, self.model)

    def cancel_batch(self, batch: str) -> None:
        """Ask the Gemini API to end a batch: see `silvertune.llms.interface.BatchedLLM`."""
        from google.genai import errors

        client, key = self._client()
        try:
            client.batches.cancel(name=batch)
        except errors.APIError as error:
            raise BatchRefusedError(credentials.hidden(f"{error.code}: {error.message}", key)) from None
        finally:
            client.close()

    def _batch_body(self, logprobs: bool, request: Request) -> Any:
        from google.genai import types

        contents = [_content(turn) for turn in request.messages if turn.role != "system"]
        body = types.InlinedRequest(model=self.model, contents=list(contents), config=self._config(request, logprobs))
        return body.model_dump(mode="json", exclude_none=True)

    def _batch_answer(self, key: str | None, result: BatchResult) -> Answer:
        from google.genai import errors, types

        if result.status != 200:
            return self._failed(errors.APIError(result.status, result.body), key)
        answer = gemini_answers.answer_of(types.GenerateContentResponse.model_validate(result.body), self.model)
        return replace(answer, asked=self.accept_model or self.model)

    @property
    def _place(self) -> str:
        """Where a model is asked: whether it tells log probabilities differs between places."""
        return f"{self.project is None} {self.model} {self.base_url}"

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

    async def _tells_logprobs(self, client: "genai.Client", key: str | None, paid: list[Answer]) -> bool:
        """Whether the model takes a request for log probabilities; the Gemini API and Vertex AI differ in that.

        paid: Gets the answer, if one comes.
        """
        place = self._place
        if place not in _PROBES:
            probe = Request((Message("user", 'Answer {"label": "a"}'),), ("a", "b"), ("label",))
            try:
                async with asyncio.timeout(self.limits.timeout_s):
                    paid.append(await self._ask(client, key, True, probe))
                _PROBES[place] = True
            except RejectedError as error:
                _PROBES[place] = False
                print(f"silvertune: {self.model} tells no log probabilities ({error}); asking without: confidences "
                      "come from labeler.confidence=true or labeler.repeats", file=sys.stderr)  # fmt: skip
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
        except (aiohttp.ClientError, OSError, ValueError, gemini_answers.http_error()) as error:
            # A ValueError is an answer that is no JSON, or not of the API's form.
            raise TransientError(f"{type(error).__name__} on the way to Gemini") from None
        return replace(gemini_answers.answer_of(response, self.model), asked=self.accept_model or self.model)

    def _config(self, request: Request, logprobs: bool) -> "types.GenerateContentConfig":
        from google.genai import types

        system = [turn.content for turn in request.messages if turn.role == "system"]
        thinking = None
        if self.thinking_budget is not None:
            thinking = types.ThinkingConfig(thinking_budget=self.thinking_budget)
        elif self.thinking_level is not None:
            thinking = types.ThinkingConfig(thinking_level=types.ThinkingLevel(self.thinking_level.upper()))
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
        """What an error answer means: raised, unless it says something about the item itself."""
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
                f"{_KEY}.model={self.model}: no such model there (404: {message}); check model and location: Gemini 3 "
                "is served in global, us and eu"
            )
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            raise TransientError(f"{error.code}: {message}", gemini_answers.retry_after(error.details))
        if openai_answers.ServerError(error.code, (), message).is_of_length:
            return Answer(message, "length", self.model, 0, 0)
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
        is_there = CheckResult(f"Gemini: credentials, and {self.model} is there", True)
        return [is_there, *([] if self.accept_model else retired.check(self._service, self.model))]

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
        except (aiohttp.ClientError, OSError, ValueError, gemini_answers.http_error()) as error:
            raise TransientError(type(error).__name__) from None
        finally:
            await client.aio.aclose()


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
