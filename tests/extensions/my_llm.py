import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from silvertune.interfaces import CheckResult
from silvertune.llms.interface import Answer, Ask, Limits, Price, Request


@dataclass(frozen=True)
class RuleLLM:
    """Simulates an LLM: answers with the first word if `cue` stands in the question, else with the second.

    Attributes:
        cue: The text to look for.
        max_tokens: The most tokens that an answer may have.
        limits: How hard it may be asked.
        price: Dollars per million tokens.
    """

    cue: str
    max_tokens: int
    limits: Limits
    price: Price

    def identity(self) -> dict[str, Any]:
        """What can change its answers."""
        return {"family": "rule", "cue": self.cue}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """What answers requests."""

        async def ask(request: Request) -> Answer:
            question = request.messages[-1].content
            word = request.words[0 if self.cue in question.lower() else 1]
            return Answer(json.dumps({"label": word}), "stop", "rule", len(question.split()), 5)

        yield ask

    def check(self) -> list[CheckResult]:
        """Nothing can be missing."""
        return [CheckResult("nothing to reach", True)]
