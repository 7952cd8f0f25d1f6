"""Anthropic's Claude models, by their Messages API."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from silvertune.errors import UserError, check_number, either
from silvertune.interfaces import CheckResult
from silvertune.llms import anthropic_answers, batch_http, credentials, http, openai_answers, retired
from silvertune.llms.anthropic_batches import AnthropicBatches
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
from silvertune.llms.optional_members import OptionalMembers, SuspectError, probed

if TYPE_CHECKING:
    import aiohttp

_KEY = "labeler.llm.<name>"
_VERSION = "2026-10-21"
"""Of the API. It takes no temperature."""
_THINKING = ("disabled", "adaptive")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_OPTIONAL = {"format": ("output_config.format", "output_format", "json_schema"),
             "thinking": ("thinking",), "effort": ("effort",)}  # fmt: skip
"""Members of a request that a model may refuse, and by which words the API names them there."""


@dataclass(frozen=True)
class Anthropic:
    """A Claude model.

    It has no setting of temperature, which today's models refuse, and tells no log probabilities: confidences come
    from `labeler.confidence` or `labeler.repeats`.

    Attributes:
        model: Its name; one with a date where there is one.
        accept_model: The model that may answer in place of `model`; null: none.
        base_url: Up to and with `/v1`.
        api_key_env: The NAME of the environment variable that holds the key.
        max_tokens: The most tokens of an answer, its thoughts included.
        thinking: `disabled`, `adaptive` (as much as the model finds right) or null (as the model does by itself).
        effort: How thorough it is: low, medium, high, xhigh or max; null: as the model does by itself.
        structured: Ask for JSON by the schema of the answer. A model that refuses it is asked without it, and it is
            said once.
        batch: Ask by message batches, at half the price and within a day.
        batch_poll_s: Seconds between two looks at a batch.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset(
        {"limits", "base_url", "api_key_env", "batch", "batch_poll_s"}
    )

    model: str
    accept_model: str | None
    base_url: str
    api_key_env: str | None
    max_tokens: int
    thinking: str | None
    effort: str | None
    structured: bool
    batch: bool
    batch_poll_s: float
    price: Price
    limits: Limits

    def __post_init__(self) -> None:
        credentials.check_name(self.api_key_env, f"{_KEY}.api_key_env")
        http.check_address(self.base_url)
        check_number(f"{_KEY}.batch_poll_s", self.batch_poll_s, above=True)
        if self.thinking not in (None, *_THINKING):
            raise UserError(f"{_KEY}.thinking={self.thinking}: want {either(_THINKING)}, or null")
        if self.effort not in (None, *_EFFORTS):
            raise UserError(f"{_KEY}.effort={self.effort}: want {either(_EFFORTS)}, or null")

    def identity(self) -> dict[str, Any]:
        """What can change its answers."""
        names = ("model", "max_tokens", "thinking", "effort", "structured")
        accepted = {} if self.accept_model is None else {"accept_model": self.accept_model}
        return {"llm": "anthropic", **{name: getattr(self, name) for name in names}, **accepted}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """What sends requests, over connections that are kept open. Raises UnusableError without the key."""
        async with self._connected() as members:
            yield members.ask

    @asynccontextmanager
    async def batches(self) -> AsyncIterator[Batches]:
        """Message batches, after one question that is asked singly. Raises UnusableError where that fails."""
        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        async with self._connected() as members:
            probe = await probed(members.ask, self.model, self.limits)

        def answer(result: BatchResult) -> Answer:
            return self._read(result.status, {}, result.body, frozenset(_OPTIONAL), key)

        body = partial(self._body, without=frozenset(members.without))
        yield AnthropicBatches(self.base_url, self._headers(key), key, body, answer, probe)

    @property
    def notes(self) -> tuple[str, ...]:
        """When the model ends, unless another may answer in its place: see `silvertune.llms.interface.LLMTraits`."""
        return () if self.accept_model else retired.notes("anthropic", self.model)

    def cancel_batch(self, batch: str) -> None:
        """Ask Anthropic to end a batch: see `silvertune.llms.interface.BatchedLLM`."""
        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        url = f"{self.base_url.rstrip('/')}/messages/batches/{batch}/cancel"
        batch_http.text(url, self._headers(key), "POST", secret=key)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[OptionalMembers]:
        if self.accept_model is None:
            retired.refuse("anthropic", self.model, f"{_KEY}.model")
        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        settings = {
            "thinking": f"{_KEY}.thinking={self.thinking}: {self.model} does not take it; want null, a low effort and "
            "a larger max_tokens",
            "effort": f"{_KEY}.effort={self.effort}: {self.model} does not take it; want null or another",
        }
        async with http.session(self.base_url, self._headers(key)) as session:

            async def post(request: Request, without: frozenset[str]) -> Answer:
                return await self._post(session, request, without, key)

            yield OptionalMembers(self.model, post, settings)

    def _headers(self, key: str | None) -> dict[str, str]:
        return {"content-type": "application/json", "anthropic-version": _VERSION} | ({"x-api-key": key} if key else {})

    async def _post(
        self, session: "aiohttp.ClientSession", request: Request, without: frozenset[str], key: str | None
    ) -> Answer:
        data = json.dumps(self._body(request, without), ensure_ascii=False).encode()
        status, headers, text = await http.send(session, "POST", f"{self.base_url.rstrip('/')}/messages", data=data)
        return self._read(status, headers, openai_answers.body_of(text), without, key)

    def _read(
        self, status: int, headers: Mapping[str, str], body: Any, without: frozenset[str], key: str | None
    ) -> Answer:
        """What an answer's status and body mean."""
        if status != 200:
            return self._failed(status, headers, body, without, key)
        try:
            return replace(anthropic_answers.answer_of(body), asked=self.accept_model or self.model)
        except TransientError as error:
            words = credentials.hidden(str(error), key)
            raise TransientError(words, error.retry_after, error.tokens_in, error.tokens_out) from None

    def _body(self, request: Request, without: frozenset[str]) -> dict[str, Any]:
        """The body of a request, without some optional members."""
        optional = self._optional(without)
        system = "\n".join(turn.content for turn in request.messages if turn.role == "system")
        config: dict[str, Any] = {}
        if "format" in optional:
            config["format"] = {"type": "json_schema", "schema": request.schema}
        if "effort" in optional:
            config["effort"] = self.effort
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "messages": [
                {"role": turn.role, "content": turn.content} for turn in request.messages if turn.role != "system"
            ],
            **({"system": system} if system else {}),
            **({"thinking": {"type": self.thinking}} if "thinking" in optional else {}),
            **({"output_config": config} if config else {}),
        }

    def _optional(self, without: frozenset[str]) -> set[str]:
        """The optional members that are sent."""
        is_wanted = {
            "format": self.structured, "thinking": self.thinking is not None, "effort": self.effort is not None
        }  # fmt: skip
        return {member for member, wanted in is_wanted.items() if wanted} - without

    def _failed(
        self, status: int, headers: Mapping[str, str], body: Any, without: frozenset[str], key: str | None
    ) -> Answer:
        """What an error answer means: raised, unless it says something about the item itself."""
        error = openai_answers.error_of(status, body) or openai_answers.ServerError(status, (), str(body)[:200])
        message = credentials.hidden(error.message, key)
        self._stop_where_nothing_more_is_answered(status, body, message)
        if status in (408, 409, 425, 429) or status >= 500:  # 529: overloaded
            raise TransientError(f"{status}: {message}", openai_answers.retry_after(headers))
        if error.is_of_length:
            return Answer(message, "length", self.model, 0, 0)
        failure = RejectedError(f"{status}: {message}")
        if status == 400:
            for member in self._optional(without):
                if any(name in message for name in _OPTIONAL[member]):
                    raise SuspectError(member, failure)
        raise failure

    def _stop_where_nothing_more_is_answered(self, status: int, body: Any, message: str) -> None:
        if anthropic_answers.is_unpaid(body):
            raise UnusableError(
                f"{_KEY}: the account's credit or its limit is used up ({status}: {message}); add credit, or wait "
                "until it renews"
            )
        if status in (401, 403):
            # The server's own words are left out: they may repeat the key.
            raise UnusableError(
                f"{_KEY}.api_key_env={self.api_key_env}: the server refused the key ({status}); check that it is "
                f"valid and may use {self.model}"
            )
        if status == 404 or status in (301, 302, 307, 308, 405):
            raise UnusableError(
                f"{_KEY}.model={self.model}, base_url={self.base_url}: not there ({status}: {message}); check both"
            )

    def check(self) -> list[CheckResult]:
        """Package, key, address and model, and how long the model is served; nothing is generated."""
        if importlib.util.find_spec("aiohttp") is None:
            return [CheckResult("package aiohttp", False, "pip install 'silvertune[anthropic]'")]
        try:
            key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
            lifecycle = asyncio.run(self._lifecycle(key))
        except UnusableError as error:
            return [CheckResult(f"Anthropic: {self.model}", False, str(error))]
        except (RejectedError, TransientError, TimeoutError) as error:
            mend = f"{error or 'no answer within 20 s'}: is the network up?"
            return [CheckResult(f"Anthropic: {self.model}", False, mend)]
        results = [CheckResult(f"Anthropic: the key, and {self.model} is there", True)]
        if lifecycle == "deprecated":
            results.append(CheckResult(f"{self.model} is served: it will end, as Anthropic says", True))
        return [*results, *retired.check("anthropic", self.model)]

    async def _lifecycle(self, key: str | None) -> str:
        """`active` or `deprecated`, as the API's list of models has it; empty where it does not say."""
        url = f"{self.base_url.rstrip('/')}/models/{self.model}"
        async with http.session(self.base_url, self._headers(key)) as session, asyncio.timeout(20):
            status, headers, text = await http.send(session, "GET", url)
        body = openai_answers.body_of(text)
        if status != 200:
            self._failed(status, headers, body, frozenset(_OPTIONAL), key)
        return str(body.get("lifecycle") or "") if isinstance(body, Mapping) else ""
