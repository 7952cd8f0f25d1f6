"""What Anthropic's Messages API sends back."""

import json
from collections.abc import Mapping
from typing import Any

from silvertune.llms.endings import ending
from silvertune.llms.interface import Answer, TransientError

_SENT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_UNPAID = ("enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached",
           "linked_organization_billing_unavailable", "organization_on_hold")  # fmt: skip


def answer_of(body: Any) -> Answer:
    """What a message says: its text, or the input of the one tool that it calls. Thoughts are no text.

    Args:
        body: The JSON of a message.

    Raises:
        TransientError: It says nothing, or is not as the API's should be. It carries the tokens that are paid for.
    """
    sent, received = tokens_paid(body)
    if not isinstance(body, Mapping) or not isinstance(body.get("content"), list):
        raise TransientError(f"an answer that is not as the API's should be: {str(body)[:160]!r}", None, sent, received)
    blocks = [block for block in body["content"] if isinstance(block, Mapping)]
    text = "".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")
    calls = [block.get("input") for block in blocks if block.get("type") == "tool_use"]
    if not text and len(calls) == 1:
        text = json.dumps(calls[0], ensure_ascii=False)
    finish = ending(body.get("stop_reason"))
    if finish == "error":
        raise TransientError(f"the provider ended the answer: {_why(body)}", None, sent, received)
    if not text and finish == "stop":
        raise TransientError("an empty answer", None, sent, received)
    return Answer(
        text=text or _why(body),
        finish=finish,
        model=str(body.get("model") or ""),
        tokens_in=sent or None,  # none are told where none are counted
        tokens_out=received or (None if text else 0),
    )


def tokens_paid(body: Any) -> tuple[int, int]:
    """Tokens sent, those of a cache included, and received; 0 where they are not told."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    usage = usage if isinstance(usage, Mapping) else {}
    return sum(_count(usage, name) for name in _SENT), _count(usage, "output_tokens")


def is_unpaid(body: Any) -> bool:
    """Whether an error says that nothing more is answered until somebody pays, or until the next month."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return False
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, Mapping) else None
    return error.get("type") == "billing_error" or code in _UNPAID or "credit balance" in str(error.get("message"))


def _why(body: Mapping[str, Any]) -> str:
    """Why an answer without a text ended."""
    details = body.get("stop_details")
    explanation = details.get("explanation") or details.get("category") if isinstance(details, Mapping) else None
    return ": ".join(str(part) for part in (body.get("stop_reason"), explanation) if part)


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0
