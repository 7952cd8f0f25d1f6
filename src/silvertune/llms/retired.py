"""Models that their providers have ended or will end: when, and what to ask in their place.

Read on 29 Nov 2026, of Google, OpenAI and Anthropic alone; other servers keep models as long as they like.
"""

import re
import sys
from dataclasses import dataclass
from datetime import date
from functools import cache

from silvertune.interfaces import CheckResult
from silvertune.llms.interface import UnusableError

_LUNA, _LITE = "gpt-6-luna", "gemini-3.5-flash-lite"
_ENDS = (
    ("gemini|vertex", r"(text|chat|code)-bison.*|gemini-(1\.\d.*|pro|pro-vision)", date(2025, 9, 24), _LITE),
    ("gemini|vertex", r"gemini-2\.0-.*", date(2026, 6, 1), _LITE),
    ("vertex", r"gemini-2\.5-pro.*", date(2026, 10, 20), "gemini-3.8-flash"),
    ("vertex", r"gemini-2\.5-.*", date(2026, 10, 20), _LITE),
    # The Gemini API does not refuse these two: other models answer, at their own prices.
    ("gemini", r"gemini-2\.5-pro", date(2026, 12, 1), "gemini-3.8-flash"),
    ("gemini", r"gemini-2\.5-flash", date(2026, 12, 1), _LITE),
    ("openai", r"gpt-3\.5-turbo.*|gpt-4|gpt-4-(\d|turbo).*|gpt-4\.1-nano.*|o1.*|o3-mini.*|o4-mini.*",
     date(2026, 10, 23), _LUNA),
    ("openai", r"gpt-5|gpt-5-(\d|mini|nano|pro).*|o3.*", date(2026, 12, 11), _LUNA),
    ("openai", r"gpt-4o|gpt-4o-(\d|mini).*|gpt-4\.1.*", date(2027, 1, 14), _LUNA),
    ("openai", r"gpt-5\.1.*", date(2027, 4, 1), _LUNA),
    ("anthropic", r"claude-(instant|2|3-).*", date(2026, 4, 20), "claude-haiku-5-5"),
)  # fmt: skip
"""Services, the whole of a model's name as a pattern, the day from which it is not served, what is asked instead."""


@dataclass(frozen=True)
class Ending:
    """The end of a model.

    Attributes:
        on: The first day on which it does not answer.
        instead: The model that does the same work today.
    """

    on: date
    instead: str


def ending(service: str, model: str) -> Ending | None:
    """When a service ends a model, as far as that was announced.

    Args:
        service: `gemini` (the Gemini API), `vertex`, `openai` or `anthropic`; others end nothing.
        model: Its name, with or without a path before it.
    """
    name = model.rpartition("/")[2]
    for services, pattern, on, instead in _ENDS:
        if service in services.split("|") and re.fullmatch(pattern, name):
            return Ending(on, instead)
    return None


def refuse(service: str, model: str, key: str) -> None:
    """Stop before a model is asked that is not served any more, and say once of one that will not be.

    Args:
        service: See `ending`.
        model: Its name.
        key: The model's setting, for the message.

    Raises:
        UnusableError: The model has ended.
    """
    end = ending(service, model)
    if end is None:
        return
    if end.on <= date.today():
        raise UnusableError(f"{key}={model}: its provider has ended it on {end.on}; want {end.instead} or another")
    _say(f"silvertune: {model} is served until {end.on}; then {end.instead} does its work")


def check(service: str, model: str) -> list[CheckResult]:
    """The end of a model, for `mode=check`."""
    end = ending(service, model)
    if end is None:
        return []
    if end.on <= date.today():
        return [CheckResult(f"{model} is served", False, f"it has ended on {end.on}; want {end.instead} or another")]
    return [CheckResult(f"{model} is served until {end.on}; {end.instead} does its work then", True)]


def notes(service: str, model: str) -> tuple[str, ...]:
    """The end of a model in at most one line, for `mode=plan`."""
    end = ending(service, model)
    if end is None:
        return ()
    when = "was ended" if end.on <= date.today() else "will be ended"
    return (f"{model} {when} by its provider on {end.on}; want {end.instead} or another",)


@cache
def _say(line: str) -> None:
    """Once a process."""
    print(line, file=sys.stderr)
