"""What servers that speak OpenAI's chat completions send back, in whatever shape they put it."""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from silvertune.llms.interface import Answer, Token, TransientError

_FINISHES: dict[Literal["length", "refused", "error"], tuple[str, ...]] = {
    "length": ("length", "maxtokens", "maxlength", "maxoutputtokens", "maxcompletiontokens", "modellength",
               "modelcontextwindowexceeded", "tokenlimit", "errorlimit"),
    "refused": ("contentfilter", "contentfiltered", "refusal", "refused", "safety", "imagesafety", "recitation",
                "blocklist", "prohibitedcontent", "spii", "guardrailintervened", "sensitive", "errortoxic"),
    "error": ("error", "failed", "malformedfunctioncall", "networkerror", "abort", "aborted", "cancelled"),
}  # fmt: skip
"""Why an answer ended -> the words of providers and proxies for it, letters only and in lower case."""
_SENT, _RECEIVED = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "402")


@dataclass(frozen=True)
class ServerError:
    """What a server says went wrong.

    Attributes:
        status: The HTTP status, or the one that the body names where the answer came as 200.
        code: The provider's code or type of the error; empty where it names none.
        message: Its words, at most 200 characters.
    """

    status: int
    code: str
    message: str

    @property
    def is_of_quota(self) -> bool:
        """Whether nothing more will be answered until somebody pays."""
        return self.status == 402 or self.code in _QUOTA


def body_of(text: str) -> Any:
    """The JSON of an answer; where it is none, its text without tags."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(re.sub(r"<[^>]*>", " ", text).split())


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
        error = _choice_error(body["choices"])
    else:
        error = _innermost(body)
    if error is None:
        return None
    code = str(error.get("code") or error.get("type") or error.get("status") or "")
    message = error.get("message") or error.get("detail") or error.get("msg") or error
    return ServerError(status if status != 200 else _status(error), code, " ".join(str(message).split())[:200])


def _choice_error(choices: Any) -> Mapping[str, Any] | None:
    choice = choices[0] if isinstance(choices, list) else None
    if not isinstance(choice, Mapping) or not (choice.get("error") or _finish(choice) == "error"):
        return None
    error = _innermost({"error": choice.get("error")}) or {}
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
    usage = _usage(body)
    return _count(usage, *_SENT) or 0, _count(usage, *_RECEIVED) or 0


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
    said = (_text(message.get(name)) for name in ("content", "reasoning_content", "reasoning", "thinking"))
    content = next(said) or _called(message) or next((thought for thought in said if thought), "")
    return Answer(
        text=refusal or content,
        finish="refused" if refusal else _finish(choice),  # type: ignore[arg-type]  # an error is told before
        model=str(body.get("model") or ""),
        tokens_in=_count(usage, *_SENT),
        tokens_out=_count(usage, *_RECEIVED),
        tokens=_tokens(choice.get("logprobs")),
    )


def _finish(choice: Mapping[str, Any]) -> Literal["stop", "length", "refused", "error"]:
    """The provider's word for why the answer ended, in whatever spelling, as one of ours."""
    reason = re.sub("[^a-z]", "", str(choice.get("finish_reason") or "stop").lower()).removeprefix("finishreason")
    return next((finish for finish, reasons in _FINISHES.items() if reason in reasons), "stop")


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
