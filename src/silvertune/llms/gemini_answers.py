"""What Gemini sends back."""

import re
from typing import TYPE_CHECKING, Any

from silvertune.llms.endings import ending
from silvertune.llms.interface import Answer, Token, TransientError

if TYPE_CHECKING:
    from google.genai import types


def answer_of(response: "types.GenerateContentResponse", model: str) -> Answer:
    """What a response says. Raises TransientError where it says nothing.

    Args:
        response: The response.
        model: The model's name, where the response has none.
    """
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
    finish = ending(reason)
    if finish == "error":
        raise TransientError(f"Google ended the answer: {reason}", None, tokens_in or 0, tokens_out or 0)
    if not text and reason == "STOP":
        raise TransientError("an empty candidate", None, tokens_in or 0, tokens_out or 0)
    return Answer(
        text=text or reason,
        finish=finish,
        model=said,
        tokens_in=tokens_in or None,  # none are told where none are counted
        tokens_out=tokens_out or (None if text else tokens_out),
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


def retry_after(details: Any) -> float | None:
    """Seconds, from the RetryInfo that Google puts into an error's details."""
    match = re.search(r"retryDelay['\"]?\s*:\s*['\"]?([\d.]+)s", str(details))
    return float(match[1]) if match else None


def http_error() -> type[Exception]:
    """What google-genai's transport raises where it does not talk over aiohttp."""
    try:
        import httpx
    except ImportError:
        return OSError
    return httpx.HTTPError
