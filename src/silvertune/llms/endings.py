"""Why an answer ended, from the words of providers and proxies for it: there are more of them than any list has."""

import re
from typing import Literal

Ending = Literal["stop", "length", "refused", "error"]
_SIGNS: dict[Ending, str] = {
    "refused": "filter|refus|safety|recitation|blocklist|blocked|prohibited|spii|guardrail|sensitive|toxic|moderat"
    "|policy|flagged|modelarmor|language",
    "length": "length|contextwindow|errorlimit|truncat|token.*(?:max|limit|exceed)|(?:max|limit|exceed).*token",
    "error": "error|fail|malformed|abort|cancel|timeout|timelimit|insufficient|overload|interrupt|unavailable",
}
"""Ending -> what stands in its words, letters only and in lower case; the first that fits counts."""


def ending(reason: object) -> Ending:
    """The reason that a provider gives for the end of an answer, in whatever spelling, as one of ours.

    Args:
        reason: Its word, such as `content_filter` or `FINISH_REASON_MAX_TOKENS`; none is an answer that is whole.
    """
    word = re.sub("[^a-z]", "", str(reason or "").lower()).removeprefix("finishreason")
    return next((ending for ending, signs in _SIGNS.items() if re.search(signs, word)), "stop")
