"""What servers that speak OpenAI's chat completions send back, in whatever shape they put it."""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from silvertune.llms.endings import Ending, ending
from silvertune.llms.interface import Answer, Token, TransientError

_SAID = ("content", "reasoning_content", "reasoning", "thinking")
_SENT, _RECEIVED = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_QUOTA = re.compile(
    "insufficient.*(?:quota|balance|credit|fund)|currentquota|billing|arrear|overdue|freetieronly|payment|^402$"
)
_REFUSAL = re.compile("contentfilter|contentpolicy|moderation|inspection|sensitive|invalidprompt|responsibleai|safety")
_TOO_LONG = re.compile("context.*(?:length|size|window)|stringabovemaxlength")
"""What stands in a provider's codes of errors, letters and digits only and in lower case."""
_FLAGGED = re.compile("flagged|moderation", re.IGNORECASE)
_TOO_LONG_WORDS = re.compile(
    "context (?:length|size|window|limit)|(?:prompt|input|request) (?:is )?too long|too many (?:input |prompt )?tokens"
    "|maximum (?:number of )?(?:input |prompt )?(?:length|tokens)",
    re.IGNORECASE,
)
_LIMIT_OF_THE_ANSWER = re.compile("max_(?:completion_|output_|new_)?tokens is too (?:large|high)", re.IGNORECASE)
_EVENTS = re.compile(r"\s*(?:data|event|id|retry)?:")
"""The beginning of server-sent events; a line without a name is a comment."""
_MOST_READ = 100_000
"""Characters of an error or a page: the rest of it says nothing."""


@dataclass(frozen=True)
class ServerError:
    """What a server says went wrong.

    Attributes:
        status: The HTTP status, or the one that the body names where the answer came as 200.
        codes: The provider's codes and types of the error.
        message: Its words, at most 200 characters.
    """

    status: int
    codes: tuple[str, ...]
    message: str

    @property
    def is_of_quota(self) -> bool:
        """Whether nothing more will be answered until somebody pays."""
        return self.status == 402 or self._has(_QUOTA)

    @property
    def is_refusal(self) -> bool:
        """Whether the provider does not want to read or to answer this text."""
        return self._has(_REFUSAL) or (self.status == 403 and _FLAGGED.search(self.message) is not None)

    @property
    def is_of_length(self) -> bool:
        """Whether this text is too long for the model. A status that is tried again is another matter."""
        if self.status not in (400, 413, 422, 500) or _LIMIT_OF_THE_ANSWER.search(self.message):
            return False
        return self.status == 413 or self._has(_TOO_LONG) or _TOO_LONG_WORDS.search(self.message) is not None

    def _has(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(re.sub("[^a-z0-9]", "", code.lower())) for code in self.codes)


def body_of(text: str) -> Any:
    """The JSON of an answer; where it is none, the beginning of its text without tags.

    Some servers stream what was not asked for as a stream, or have an object in place of the list of choices.
    """
    try:
        body = _streamed(text) if _EVENTS.match(text) else json.loads(text)
        if isinstance(body, Mapping) and isinstance(choices := body.get("choices"), Mapping):
            return {
                **body,
                "choices": list(choices.values()) if all(str(name).isdigit() for name in choices) else [choices],
            }
        return body
    except (ValueError, RecursionError, AttributeError, TypeError):
        return " ".join(re.sub(r"<[^<>]*>", " ", text[:_MOST_READ]).split())


def _streamed(text: str) -> Any:
    """The completion that server-sent events are the parts of; an error, where one of them is an error."""
    lines = (line.strip().removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
    parts = [part for line in lines if line and line != "[DONE]" and isinstance(part := json.loads(line), Mapping)]
    body: dict[str, Any] = {}
    message: dict[str, str] = {}
    choice: dict[str, Any] = {"message": message}
    tokens: list[Any] = []
    for part in parts:
        if not part.get("choices") and _innermost(part):
            return part
        body |= {name: value for name, value in part.items() if name != "choices" and value is not None}
        for piece in part.get("choices") or ():
            said = piece.get("delta") or piece.get("message") or {"content": piece.get("text")}
            for name in (*_SAID, "refusal"):
                if isinstance(said.get(name), str):
                    message[name] = message.get(name, "") + said[name]
            choice["finish_reason"] = piece.get("finish_reason") or choice.get("finish_reason")
            tokens += (piece.get("logprobs") or {}).get("content") or ()
    return {**body, "choices": [{**choice, "logprobs": {"content": tokens}}] if message else []}


def error_of(status: int, body: Any) -> ServerError | None:
    """The error that an answer is; None where it is none.

    Args:
        status: The HTTP status.
        body: See `body_of`.
    """
    error: Mapping[str, Any] | None
    if status != 200:
        error = _innermost(body) or {"message": str(body)}
    elif isinstance(body, Mapping) and body.get("choices"):
        error = _choice_error(body)
    else:
        error = _innermost(body)
    if error is None:
        return None
    codes = tuple(str(error[name]) for name in ("code", "type", "status") if error.get(name))
    message = next((error[name] for name in ("message", "detail", "msg") if name in error), error)
    words = " ".join(str(message)[:_MOST_READ].split())[:200]
    return ServerError(status if status != 200 else _status(error), codes, words or "no word about it")


def _choice_error(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The error that stands in a choice, or beside a choice that says nothing."""
    choice = body["choices"][0] if isinstance(body["choices"], list) else None
    if not isinstance(choice, Mapping):
        return None
    inner = choice.get("error")
    if not inner and _finish(choice) != "error":
        message = choice.get("message")
        said = isinstance(message, Mapping) and any(message.get(name) for name in (*_SAID, "tool_calls", "refusal"))
        return None if said or choice.get("text") else _innermost({"error": body.get("error")})
    error = _innermost({"error": inner}) or {}
    return {**error, "message": f"the provider ended the answer with an error: {error.get('message') or 'error'}"}


def _innermost(body: Any, depth: int = 5) -> Mapping[str, Any] | None:
    """The object that tells of an error: servers wrap it into lists and into one another."""
    if isinstance(body, list):
        errors = [error for part in body[:5] if (error := _innermost(part, depth - 1))] if depth else []
        return errors[0] if errors else None
    if not isinstance(body, Mapping):
        return None
    for name in ("error", "errors", "detail"):
        inner = body.get(name)
        if not inner or isinstance(inner, bool) or not depth:
            continue
        if isinstance(inner, str):
            # Beside a message of its own, it is a code.
            return body if isinstance(body.get("message"), str) else {**body, "message": inner}
        error = _innermost(inner, depth - 1) or {"message": str(inner)}
        return {**{name: body[name] for name in ("code", "type", "status") if body.get(name)}, **error}
    return body if isinstance(body.get("message") or body.get("msg"), str) else None


def _status(error: Mapping[str, Any]) -> int:
    """The status that an error in an answer of status 200 stands for; 502 where it tells none."""
    for name in ("code", "status", "status_code"):
        text = str(error.get(name)).strip()
        if text.isdigit() and 400 <= int(text) < 600:
            return int(text)
    return 502


def answer_of(body: Any) -> Answer:
    """What a completion says. Raises TransientError where it is not as the API's should be."""
    if isinstance(body, str):
        raise TransientError(f"an answer that is not as the API's should be: {body[:160]!r}")
    try:
        return _answer(body)
    except TransientError:
        raise
    except Exception as error:  # an unforeseen form costs its item, not the run
        raise TransientError(f"an answer that is not as the API's should be ({type(error).__name__})") from None


def tokens_paid(body: Any) -> tuple[int, int]:
    """Tokens sent and received that a body tells of, though it is no answer."""
    sent, received = _tokens_told(_usage(body))
    return sent or 0, received or 0


def _usage(body: Any) -> Mapping[str, Any]:
    usage = body.get("usage") if isinstance(body, Mapping) else None
    return usage if isinstance(usage, Mapping) else {}


def _answer(body: Any) -> Answer:
    if not body["choices"]:
        raise TransientError("an answer without a choice")
    choice = body["choices"][0]
    message, usage = choice.get("message") or {"content": choice["text"]}, _usage(body)
    refusal = _text(message.get("refusal")) or _refusal_part(message.get("content"))
    # Some servers put all that a reasoning model says into the field of its thoughts, or into the call of a tool.
    said = (_text(message.get(name)) for name in _SAID)
    content = next(said) or _called(message) or next((thought for thought in said if thought), "")
    sent, received = _tokens_told(usage)
    # A server that reports no tokens of a text does not count them.
    return Answer(
        text=refusal or content,
        finish="refused" if refusal else _finish(choice),  # type: ignore[arg-type]  # an error is told before
        model=model if isinstance(model := body.get("model"), str) else "",
        tokens_in=sent or None,
        tokens_out=received or (None if refusal or content else received),
        tokens=_tokens(choice.get("logprobs")),
    )


def _tokens_told(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens sent and received. Some servers leave the thoughts out of the answer's, and have them in the total."""
    sent, received, total = _count(usage, *_SENT), _count(usage, *_RECEIVED), _count(usage, "total_tokens")
    if sent is None or received is None or total is None:
        return sent, received
    return sent, max(received, total - sent)


def _finish(choice: Mapping[str, Any]) -> Ending:
    return ending(choice.get("finish_reason"))


def _text(content: Any) -> str:
    """The text of a message: a string, or its text parts. Thoughts and images are no text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    if isinstance(content, Mapping) and content.get("type", "text") in ("text", "output_text"):
        return "" if content.get("thought") else _text(content.get("text") or content.get("value"))
    return ""


def _refusal_part(content: Any) -> str:
    parts = content if isinstance(content, list) else []
    return "".join(_text(part.get("refusal")) for part in parts if isinstance(part, Mapping))


def _called(message: Mapping[str, Any]) -> str:
    """The arguments of the one function that an answer calls in place of a text."""
    calls = message.get("tool_calls") or [{"function": message.get("function_call")}]
    function = calls[0].get("function") if isinstance(calls, list) and len(calls) == 1 else None
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, Mapping) else _text(arguments)


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    """A number of tokens; None where it is not told."""
    for name in names:
        try:
            value = float(usage[name])
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(value) and value >= 0:
            return int(value)
    return None


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    """The generated tokens; none where their log probabilities can't be read: they cost the label nothing."""
    try:
        entries: Sequence[Mapping[str, Any]] = logprobs["content"] or ()
        return tuple(_token(entry) for entry in entries)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()


def _token(entry: Mapping[str, Any]) -> Token:
    alternatives = [entry, *(entry.get("top_logprobs") or ())]
    return Token(_bytes(entry), {_bytes(one): float(one["logprob"]) for one in reversed(alternatives)})


def _bytes(token: Mapping[str, Any]) -> bytes:
    """A token's bytes: the text of a part of a character is a stand-in that each server writes in its own way."""
    return bytes(token["bytes"]) if token.get("bytes") else str(token["token"]).encode("utf-8", "surrogatepass")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from `retry-after-ms`, or `Retry-After` as seconds or a date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 1e-3), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if not math.isnan(seconds):
            return max(seconds, 0.0)
    return None
