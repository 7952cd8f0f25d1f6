"""Why an answer ended is known whatever a provider calls it."""

import pytest

from silvertune.llms.endings import ending


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["length", "length_limit", "max_tokens_reached", "token_limit_reached", "MAX_TOKENS", "max_output_tokens",
          "context_length_exceeded", "model_context_window_exceeded", "ERROR_LIMIT", "truncated"], "length"),
        (["content-filter", "safety_filter", "RECITATION", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "MODEL_ARMOR", "SPII",
          "policy_violation", "moderation", "blocked", "ERROR_TOXIC", "refusal", "guardrail_intervened"], "refused"),
        (["error", "insufficient_system_resource", "engine_overloaded", "timeout", "MALFORMED_FUNCTION_CALL",
          "aborted", "cancelled", "interrupted"], "error"),
        (["stop", "STOP", "end_turn", "stop_sequence", "eos_token", "tool_calls", "OTHER", "", None, 2], "stop"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_ending_is_known_by_what_stands_in_its_word(reasons: list[object], expected: str) -> None:
    assert {reason: ending(reason) for reason in reasons} == dict.fromkeys(reasons, expected)
