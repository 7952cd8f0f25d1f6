"""Servers that speak OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp, LiteLLM and their like."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from silvertune.errors import UserError
from silvertune.interfaces import CheckResult
from silvertune.llms import credentials, openai_answers, untrusted_text
from silvertune.llms.interface import (
    Answer,
    Ask,
    Limits,
    Message,
    Price,
    RejectedError,
    Request,
    TransientError,
    UnusableError,
)
from silvertune.llms.openai_answers import ServerError

if TYPE_CHECKING:
    import aiohttp

_KEY = "labeler.llm.<name>"
_OPTIONAL = {
    "response_format": ("response_format", "json_schema"),
    "logprobs": ("logprobs", "top_logprobs", "not JSON compliant"),  # vLLM, of a log probability of -inf
    "seed": ("seed",),
}
"""Members of a request that a server may do without, and by which words it names them where it refuses."""
_PROBE = Request(
    (
        Message(
            "system", 'Say whether a text is a or b. Answer with one JSON object: {"label": "a"} or {"label": "b"}.'
        ),
        Message("user", untrusted_text.delimited("a short text")),
    ),
    ("a", "b"),
    ("label",),
    repeat=1,
)
"""A question like those about items, whose words no item chose: by it a server shows which members it takes."""


@dataclass(frozen=True)
class OpenAICompatible:
    """A model behind a base URL.

    Talks over aiohttp and not over the `openai` package, whose transport gets fewer answers a second out of one core
    (benchmarks/labeling.py).

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
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"limits", "base_url", "api_key_env"})

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

    def __post_init__(self) -> None:
        credentials.check_name(self.api_key_env, f"{_KEY}.api_key_env")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{_KEY}.base_url: want an address such as https://api.openai.com/v1")
        if parts.username or parts.password or parts.query:
            raise UserError(f"{_KEY}.base_url: has a user, a password or a query in it; keys go by {_KEY}.api_key_env")

    def identity(self) -> dict[str, Any]:
        """What can change its answers."""
        names = ("family", "model", "temperature", "max_tokens", "structured", "extra_body")
        return {"llm": "openai_compatible", **{name: getattr(self, name) for name in names}}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """What sends requests, over connections that are kept open. Raises UnusableError without the key."""
        import aiohttp

        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        without: set[str] = set()
        taken: set[str] = set()
        probing = asyncio.Lock()
        async with aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=None),
            proxy=_proxy(self.base_url),
        ) as session:

            async def ask(request: Request) -> Answer:
                while True:
                    sent = frozenset(without)
                    try:
                        return await self._post(session, request, sent, key)
                    except _SuspectError as error:
                        async with probing:
                            if error.member not in without | taken:
                                refused = await self._refuses(session, error.member, frozenset(without), key)
                                (without if refused else taken).add(error.member)
                                if refused:
                                    print(f"silvertune: {self.model} does not take {error.member}; asking without it",
                                          file=sys.stderr)  # fmt: skip
                        if error.member in sent or error.member in taken:
                            raise error.failure from None

            yield ask

    async def _refuses(
        self, session: "aiohttp.ClientSession", member: str, without: frozenset[str], key: str | None
    ) -> bool:
        """Whether the server refuses a member of the request: of a question of ours, whose words no item chose."""
        try:
            await self._post(session, _PROBE, without, key)
        except _SuspectError:
            pass
        except RejectedError:
            return False
        else:
            return False
        try:
            await self._post(session, _PROBE, without | {member}, key)
        except RejectedError:
            return False
        except _SuspectError as error:
            return error.member != member  # it names another member now, which is probed next
        return True

    async def _post(
        self, session: "aiohttp.ClientSession", request: Request, without: frozenset[str], key: str | None
    ) -> Answer:
        import aiohttp

        body = json.dumps(self._body(request, without), ensure_ascii=False).encode()
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            async with session.post(url, data=body, allow_redirects=False) as response:
                status, headers, content = response.status, response.headers, await response.read()
        except aiohttp.InvalidURL:
            raise UnusableError(f"{_KEY}.base_url: is no address") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"{type(error).__name__} on the way to {_KEY}.base_url") from None
        text = content.decode(errors="replace")
        answer = openai_answers.body_of(text)
        try:
            if failure := openai_answers.error_of(status, answer):
                return self._failed(failure, headers, credentials.hidden(text, key), without, key)
            return openai_answers.answer_of(answer)
        except TransientError as error:
            error.tokens_in, error.tokens_out = openai_answers.tokens_paid(answer)
            raise

    def _body(self, request: Request, without: frozenset[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
            self.max_tokens_field: self.max_tokens,
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if request.repeat and "seed" not in without:
            body["seed"] = request.repeat
        if self.structured and "response_format" not in without:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.top_logprobs and "logprobs" not in without:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return body | dict(self.extra_body)

    def _failed(
        self, error: ServerError, headers: Mapping[str, str], text: str, without: frozenset[str], key: str | None
    ) -> Answer:
        """What an error answer means: raised, unless it says something about the item itself."""
        status, code, message = error.status, error.code, credentials.hidden(error.message, key)
        if status in (401, 403):
            # The server's own words are left out: many repeat the key.
            raise UnusableError(
                f"{_KEY}.api_key_env={self.api_key_env}: the server refused the key ({status}); check that it is "
                f"valid and may use {self.model}"
            )
        if error.is_of_quota:
            raise UnusableError(
                f"{_KEY}: the account's quota is used up ({status}: {message}); add credit, or wait until it renews"
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
                if member not in without and any(name in text for name in names):
                    raise _SuspectError(member, failure)
        if code in ("content_filter", "content_policy_violation"):
            return Answer(message, "refused", self.model, 0, 0)
        if code == "context_length_exceeded":
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
        return results

    async def _models(self) -> list[str]:
        """The models that the server lists; none where it has no list."""
        import aiohttp

        key = credentials.from_environment(self.api_key_env, f"{_KEY}.api_key_env")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        session = aiohttp.ClientSession(headers=headers, proxy=_proxy(self.base_url))
        async with session, asyncio.timeout(20):
            try:
                async with session.get(f"{self.base_url.rstrip('/')}/models", allow_redirects=False) as response:
                    status, content = response.status, await response.read()
            except (aiohttp.ClientError, OSError) as error:
                raise TransientError(f"{type(error).__name__}") from None
        if status in (401, 403):
            self._failed(ServerError(status, "", ""), {}, "", frozenset(), key)
        try:
            return [str(entry["id"]) for entry in json.loads(content)["data"]] if status == 200 else []
        except (ValueError, KeyError, TypeError):
            return []


class _SuspectError(Exception):
    """An error that names an optional member of the request: the server may not take it, or it quotes the request.

    Attributes:
        member: The member that it names.
        failure: What the error is where the server takes the member.
    """

    def __init__(self, member: str, failure: Exception) -> None:
        super().__init__(str(failure))
        self.member, self.failure = member, failure


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address (`HTTPS_PROXY`, `NO_PROXY` and their like).

    Not by aiohttp's `trust_env`: that looks it up in a thread for each request, and where `~/.netrc` has credentials
    for the host it refuses every request that carries a key.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
