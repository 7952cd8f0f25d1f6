"""Servers that speak OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp, LiteLLM and their like."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from silvertune.errors import check_number
from silvertune.interfaces import CheckResult
from silvertune.llms import batch_http, credentials, http, openai_answers, retired
from silvertune.llms.interface import (
    Answer,
    Ask,
    Batches,
    BatchResult,
    Limits,
    Price,
    RejectedError,
    Request,
    TransientError,
    UnusableError,
)
from silvertune.llms.openai_answers import ServerError
from silvertune.llms.openai_batches import OpenAIBatches
from silvertune.llms.optional_members import OptionalMembers, SuspectError, probed

if TYPE_CHECKING:
    import aiohttp

_KEY = "labeler.llm.<name>"
_OPTIONAL = {
    "response_format": ("response_format", "json_schema"),
    "logprobs": ("logprobs", "top_logprobs", "not JSON compliant"),  # vLLM, of a log probability of -inf
    "seed": ("seed",),
    "temperature": ("temperature",),
    "reasoning_effort": ("reasoning_effort", "reasoning effort"),
}
"""Members of a request that a server may refuse, and by which words it names them there."""


_MOST_SEARCHED = 100_000
"""Characters of an error that may name a member."""


@dataclass(frozen=True)
class OpenAICompatible:
    """A model behind a base URL.

    Attributes:
        model: As the server calls it; name a dated version where there is one.
        base_url: Up to and with `/v1`.
        family: What service it is; answers of one family and model are the same whatever the address.
        api_key_env: The NAME of the environment variable that holds the key; null: the server wants none.
        max_tokens: The most tokens of an answer, sent as `max_tokens_field` (OpenAI: max_completion_tokens, which
            counts hidden reasoning too; most others: max_tokens).
        structured: Ask for JSON by the schema of the answer.
        top_logprobs: How many alternatives to each token to ask for; null: none. A server that refuses one of these
            is asked without it, and it is said once.
        extra_body: Further members of the request, as the server has them.
        reasoning_effort: How much a model thinks before it answers: none, low, medium, high and what else it knows;
            null: as it does by itself. Where OpenAI's models think, they take no temperature and tell no
            probabilities, and the thoughts count towards `max_tokens`.
        accept_model: The model that may answer in place of `model`, where a provider reroutes it or a proxy calls it
            otherwise; null: none.
        batch: Ask by batches, at half the price and within a day; OpenAI has them.
        batch_poll_s: Seconds between two looks at a batch.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset(
        {"limits", "base_url", "api_key_env", "batch", "batch_poll_s"}
    )

    model: str
    base_url: str
    family: str
    api_key_env: str | None
    temperature: float | None
    max_tokens: int
    max_tokens_field: str
    structured: bool
    top_logprobs: int | None
    extra_body: Mapping[str, Any]
    price: Price
    limits: Limits
    reasoning_effort: str | None = None
    accept_model: str | None = None
    batch: bool = False
    batch_poll_s: float = 30.0

    def __post_init__(self) -> None:
        credentials.check_name(self.api_key_env, f"{_KEY}.api_key_env")
        http.check_address(self.base_url)
        check_number(f"{_KEY}.batch_poll_s", self.batch_poll_s, above=True)

    def identity(self) -> dict[str, Any]:
        """What can change its answers."""
        names = ("family", "model", "temperature", "max_tokens", "structured", "extra_body")
        later = {"reasoning_effort": self.reasoning_effort, "accept_model": self.accept_model}
        return {
            "llm": "openai_compatible",
            **{name: getattr(self, name) for name in names},
            **{name: value for name, value in later.items() if value is not None},
        }

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """What sends requests, over connections that are kept open. Raises UnusableError without the key."""
        async with self._connected() as members:
            yield members.ask

    @asynccontextmanager
    async def batches(self) -> AsyncIterator[Batches]:
        """OpenAI's batches, after one question that is asked singly. Raises UnusableError where that fails."""
        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        async with self._connected() as members:
            probe = await probed(members.ask, self.model, self.limits)

        def answer(result: BatchResult) -> Answer:
            return self._read(result.status, {}, result.body, frozenset(_OPTIONAL), key)

        body = partial(self._body, without=frozenset(members.without))
        yield OpenAIBatches(self.base_url, key, body, answer, probe)

    @property
    def notes(self) -> tuple[str, ...]:
        """When the model ends, unless another may answer in its place: see `silvertune.llms.interface.LLMTraits`."""
        return () if self.accept_model else retired.notes(self.family, self.model)

    def cancel_batch(self, batch: str) -> None:
        """Ask OpenAI to end a batch: see `silvertune.llms.interface.BatchedLLM`."""
        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{self.base_url.rstrip('/')}/batches/{batch}/cancel"
        batch_http.text(url, headers, "POST", secret=key)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[OptionalMembers]:
        if self.accept_model is None:
            retired.refuse(self.family, self.model, f"{_KEY}.model")
        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        settings = {
            "temperature": f"{_KEY}.temperature={self.temperature}: {self.model} takes none; want null",
            "reasoning_effort": f"{_KEY}.reasoning_effort={self.reasoning_effort}: {self.model} does not take it; want "
            "null or another",
        }
        async with http.session(self.base_url, headers) as session:

            async def post(request: Request, without: frozenset[str]) -> Answer:
                return await self._post(session, request, without, key)

            yield OptionalMembers(self.model, post, settings)

    async def _post(
        self, session: "aiohttp.ClientSession", request: Request, without: frozenset[str], key: str | None
    ) -> Answer:
        body = json.dumps(self._body(request, without), ensure_ascii=False).encode()
        status, headers, text = await http.send(
            session, "POST", f"{self.base_url.rstrip('/')}/chat/completions", data=body
        )
        return self._read(status, headers, openai_answers.body_of(text), without, key)

    def _read(
        self, status: int, headers: Mapping[str, str], body: Any, without: frozenset[str], key: str | None
    ) -> Answer:
        """What an answer's status and body mean."""
        try:
            if failure := openai_answers.error_of(status, body):
                return self._failed(failure, headers, str(body)[:_MOST_SEARCHED], without, key)
            return replace(openai_answers.answer_of(body), asked=self.accept_model or self.model)
        except TransientError as error:
            words = credentials.hidden(str(error), key)
            raise TransientError(words, error.retry_after, *openai_answers.tokens_paid(body)) from None

    def _body(self, request: Request, without: frozenset[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
            self.max_tokens_field: self.max_tokens,
        }
        optional = self._optional(without)
        if "temperature" in optional:
            body["temperature"] = self.temperature
        if request.repeat and "seed" in optional:
            body["seed"] = request.repeat
        if "response_format" in optional:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if "logprobs" in optional:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        if "reasoning_effort" in optional:
            body["reasoning_effort"] = self.reasoning_effort
        return body | dict(self.extra_body)

    def _optional(self, without: frozenset[str]) -> set[str]:
        """The optional members that are sent."""
        is_wanted = {
            "response_format": self.structured, "logprobs": bool(self.top_logprobs), "seed": True,
            "temperature": self.temperature is not None, "reasoning_effort": self.reasoning_effort is not None,
        }  # fmt: skip
        return {member for member, wanted in is_wanted.items() if wanted} - without

    def _failed(
        self, error: ServerError, headers: Mapping[str, str], text: str, without: frozenset[str], key: str | None
    ) -> Answer:
        """What an error answer means: raised, unless it says something about the item itself."""
        status, message = error.status, credentials.hidden(error.message, key)
        if error.is_of_quota:
            raise UnusableError(
                f"{_KEY}: the account's quota is used up ({status}: {message}); add credit, or wait until it renews"
            )
        if status in (401, 403) and not error.is_refusal:
            # The server's own words are left out: many repeat the key.
            codes = "".join(f", {credentials.hidden(code, key)}" for code in error.codes if not code.isdigit())
            raise UnusableError(
                f"{_KEY}.api_key_env={self.api_key_env}: the server refused the key ({status}{codes}); check that it "
                f"is valid and may use {self.model}"
            )
        if status == 404 or status in (301, 302, 307, 308, 405):
            raise UnusableError(
                f"{_KEY}.model={self.model}, base_url={self.base_url}: not there ({status}: {message}); check both"
            )
        if status in (408, 409, 425, 429) or status >= 500:
            failure: Exception = TransientError(f"{status}: {message}", openai_answers.retry_after(headers))
        else:
            failure = RejectedError(f"{status}: {message}")
        if status in (400, 422, 500, 501):  # llama-cpp-python answers 500 to a response_format that it does not know
            for member, names in _OPTIONAL.items():
                if member in self._optional(without) and any(name in text for name in names):
                    raise SuspectError(member, failure)
        if error.is_refusal:
            return Answer(message, "refused", self.model, 0, 0)
        if error.is_of_length:
            return Answer(message, "length", self.model, 0, 0)
        raise failure

    def check(self) -> list[CheckResult]:
        """Package, key, address and model; nothing is generated."""
        import importlib.util

        if importlib.util.find_spec("aiohttp") is None:
            return [CheckResult("package aiohttp", False, "pip install 'silvertune[openai]'")]
        try:
            credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
            results = [CheckResult(f"key in {self.api_key_env}" if self.api_key_env else "no key wanted", True)]
            names = asyncio.run(self._models())
        except UnusableError as error:
            return [CheckResult(f"{self.base_url}", False, str(error))]
        except (TransientError, TimeoutError) as error:
            mend = f"{error or 'no answer within 20 s'}: is the server up, and is base_url right?"
            return [*results, CheckResult(f"{self.base_url} answers", False, mend)]
        results.append(CheckResult(f"{self.base_url} answers", True))
        if names:
            model_names = ", ".join(sorted(names)[:8])
            results.append(CheckResult(f"model {self.model}", self.model in names, f"it has {model_names}"))
        return [*results, *([] if self.accept_model else retired.check(self.family, self.model))]

    async def _models(self) -> list[str]:
        """The models that the server lists; none where it has no list."""
        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with http.session(self.base_url, headers) as session, asyncio.timeout(20):
            status, _, content = await http.send(session, "GET", f"{self.base_url.rstrip('/')}/models")
        if status in (401, 403):
            self._failed(ServerError(status, (), ""), {}, "", frozenset(), key)
        try:
            return [str(entry["id"]) for entry in json.loads(content)["data"]] if status == 200 else []
        except (ValueError, KeyError, TypeError):
            return []
