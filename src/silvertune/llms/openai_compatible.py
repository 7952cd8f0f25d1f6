"""Servers that speak OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp, LiteLLM and their like."""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from silvertune.errors import UserError
from silvertune.interfaces import CheckResult
from silvertune.llms import credentials, untrusted_text
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
    import aiohttp

_KEY = "labeler.llm.<name>"
_OPTIONAL = {"response_format": ("response_format", "json_schema"), "logprobs": ("logprobs", "top_logprobs"),
             "seed": ("seed",)}  # fmt: skip
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
_FINISHES: dict[Literal["length", "refused", "error"], tuple[str, ...]] = {
    "length": ("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length",
               "model_context_window_exceeded"),
    "refused": ("content_filter", "content_filtered", "refusal", "refused", "safety", "recitation", "blocklist",
                "prohibited_content", "spii", "guardrail_intervened", "sensitive"),
    "error": ("error", "failed", "malformed_function_call", "network_error"),
}  # fmt: skip
"""Why an answer ended -> the words of providers and proxies for it, in lower case."""


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
                            raise RejectedError(error.words) from None

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
        if status == 200:
            try:
                body = json.loads(text)
                if body.get("choices") or not body.get("error"):
                    return _answer(body)
            except (TransientError, UnusableError):
                raise
            except Exception as error:  # an unforeseen form costs its item, not the run
                raise TransientError(f"an answer that is not as the API's should be ({type(error).__name__})") from None
            status = _status(body["error"])
        return self._failed(status, headers, credentials.hidden(text, key), without)

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

    def _failed(self, status: int, headers: Mapping[str, str], text: str, without: frozenset[str]) -> Answer:
        """What an error answer means: raised, unless it says something about the item itself."""
        code, message = _error(text)
        if status in (401, 403):
            # The server's own words are left out: many repeat the key.
            raise UnusableError(
                f"{_KEY}.api_key_env={self.api_key_env}: the server refused the key ({status}); check that it is "
                f"valid and may use {self.model}"
            )
        if status == 402 or code in ("insufficient_quota", "billing_hard_limit_reached"):
            raise UnusableError(
                f"{_KEY}: the account's quota is used up ({status} {code}); add credit, or wait until it renews"
            )
        if status == 404 or status in (301, 302, 307, 308, 405):
            raise UnusableError(
                f"{_KEY}.model={self.model}, base_url={self.base_url}: not there ({status}: {message}); check both"
            )
        if status in (400, 422, 500, 501):  # llama-cpp-python answers 500 to a response_format that it does not know
            for member, names in _OPTIONAL.items():
                if member not in without and any(name in text for name in names):
                    raise _SuspectError(member, f"{status}: {message}")
        if status in (408, 409, 425, 429) or status >= 500:
            raise TransientError(f"{status}: {message}", _retry_after(headers))
        if code in ("content_filter", "content_policy_violation"):
            return Answer(message, "refused", self.model, 0, 0)
        if code == "context_length_exceeded":
            return Answer(message, "length", self.model, 0, 0)
        raise RejectedError(f"{status}: {message}")

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
            self._failed(status, {}, "", frozenset())
        try:
            return [str(entry["id"]) for entry in json.loads(content)["data"]] if status == 200 else []
        except (ValueError, KeyError, TypeError):
            return []


class _SuspectError(Exception):
    """An error that names an optional member of the request: the server may not take it, or it quotes the request.

    Attributes:
        member: The member that it names.
        words: The server's words.
    """

    def __init__(self, member: str, words: str) -> None:
        super().__init__(words)
        self.member, self.words = member, words


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address (`HTTPS_PROXY`, `NO_PROXY` and their like).

    Not by aiohttp's `trust_env`: that looks it up in a thread for each request, and where `~/.netrc` has credentials
    for the host it refuses every request that carries a key.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _status(error: Any) -> int:
    """The status that an error body in an answer of status 200 stands for; 502 where it tells none."""
    code = str(error.get("code")) if isinstance(error, Mapping) else ""
    return int(code) if code.isdigit() and 400 <= int(code) < 600 else 502


def _words(error: Any) -> str:
    message = error.get("message") or error if isinstance(error, Mapping) else error
    return " ".join(str(message).split())[:200]


def _answer(body: Mapping[str, Any]) -> Answer:
    """What a completion says. Raises whatever it does where it is not as the API's should be."""
    if not body["choices"]:
        raise TransientError("an answer without a choice")
    choice = body["choices"][0]
    finish = _finish(choice)
    if choice.get("error") or finish == "error":
        raise TransientError(f"the provider ended the answer with an error: {_words(choice.get('error') or 'error')}")
    message, usage = choice["message"], body.get("usage") or {}
    # Some servers put all that a reasoning model says into the field of its thoughts.
    text = _text(message.get("content")) or _text(message.get("reasoning_content") or message.get("reasoning"))
    return Answer(
        text=_text(message.get("refusal")) or text,
        finish="refused" if message.get("refusal") else finish,
        model=str(body.get("model") or ""),
        tokens_in=int(usage.get("prompt_tokens") or 0),
        tokens_out=int(usage.get("completion_tokens") or 0),
        tokens=_tokens((choice.get("logprobs") or {}).get("content") or ()),
    )


def _finish(choice: Mapping[str, Any]) -> Literal["stop", "length", "refused", "error"]:
    """The provider's word for why the answer ended, in whatever spelling, as one of ours."""
    reason = str(choice.get("finish_reason") or "stop").lower()
    return next((finish for finish, reasons in _FINISHES.items() if reason in reasons), "stop")


def _text(content: Any) -> str:
    """The text of a message: a string, or the text parts of a list of parts. Thoughts and images are no text."""
    if isinstance(content, list):
        parts = [part if isinstance(part, Mapping) else {"type": "text", "text": part} for part in content]
        return "".join(_text(part.get("text")) for part in parts if part.get("type") in ("text", "output_text"))
    return content if isinstance(content, str) else ""


def _tokens(entries: Sequence[Mapping[str, Any]]) -> tuple[Token, ...]:
    """The generated tokens; none where a log probability is missing, as then no distribution is told."""
    listed = [(entry, [entry, *(entry.get("top_logprobs") or ())]) for entry in entries]
    if any(one.get("logprob") is None for _, alternatives in listed for one in alternatives):
        return ()
    return tuple(
        Token(_bytes(entry), {_bytes(one): float(one["logprob"]) for one in reversed(alternatives)})
        for entry, alternatives in listed
    )


def _bytes(token: Mapping[str, Any]) -> bytes:
    """A token's bytes: the text of a part of a character is a stand-in that each server writes in its own way."""
    return bytes(token["bytes"]) if token.get("bytes") else str(token["token"]).encode("utf-8", "surrogatepass")


def _error(text: str) -> tuple[str, str]:
    """The code and the message of an error, whatever shape the server gives it."""
    try:
        body = json.loads(text)
    except ValueError:
        return "", " ".join(re.sub(r"<[^>]*>", " ", text).split())[:200]
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return "", str(error)[:200]
    message = error.get("message") or error.get("detail") or error
    return str(error.get("code") or error.get("type") or ""), " ".join(str(message).split())[:200]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from `retry-after-ms`, or `Retry-After` as seconds or a date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 1e-3), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(float(value) * unit, 0.0)
        except ValueError:
            pass
        try:
            return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except ValueError:
            pass
    return None
