"""LLMs for tests: those of the doubles, with short waits, and one that needs no server."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune import votes
from silvertune.interfaces import CheckResult
from silvertune.labelers.llm import LLMLabeler, StorePlace
from silvertune.llms.interface import LLM, Answer, Ask, Limits, Price, Request
from silvertune.llms.openai_compatible import OpenAICompatible
from silvertune.schema import Task


def limits(**changed: Any) -> Limits:
    usual: dict[str, Any] = {
        "concurrency": 8, "requests_per_minute": None, "tokens_per_minute": None, "timeout_s": 5.0, "retries": 6,
        "deadline_s": 60.0, "backoff_s": 0.02, "longest_pause_s": 0.2,
    }  # fmt: skip
    return Limits(**(usual | changed))


def openai(url: str, *, price: Price | None = None, limits_: Limits | None = None, **changed: Any) -> OpenAICompatible:
    usual: dict[str, Any] = {
        "model": "double-1", "base_url": url, "family": "double", "api_key_env": None, "temperature": 0.0,
        "max_tokens": 50, "max_tokens_field": "max_tokens", "structured": True, "top_logprobs": 5, "extra_body": {},
        "price": price or Price(1.0, 2.0), "limits": limits_ or limits(),
    }  # fmt: skip
    return OpenAICompatible(**(usual | changed))


def labeler(
    task: Task,
    llm: Mapping[str, LLM],
    folder: Path,
    *,
    annotations: pd.DataFrame | None = None,
    training: pd.DataFrame | None = None,
    **changed: Any,
) -> LLMLabeler:
    usual: dict[str, Any] = {
        "views": None, "repeats": 1, "reason": False, "confidence": False, "few_shot": None, "max_item_tokens": 1000,
        "store": StorePlace(None, 60.0, 3600.0), "budget_usd": None,
    }  # fmt: skip
    nothing = votes.table([], task.classes)
    given = nothing if annotations is None else annotations
    return LLMLabeler(task, folder, given, pd.DataFrame() if training is None else training, llm=llm, **usual | changed)


def by_digest(request: Request) -> str:
    """One of the words, by the digest of the last turn."""
    digest = hashlib.sha256(request.messages[-1].content.encode()).digest()
    return json.dumps({"label": request.words[digest[0] % len(request.words)]})


@dataclass(frozen=True)
class Scripted:
    """Answers at once what `says` says, and that it is 90% sure where that is a label. requests: what it was asked."""

    says: Callable[[Request], str] = by_digest
    finish: str = "stop"
    price: Price = field(default_factory=lambda: Price(1.0, 2.0))
    limits: Limits = field(default_factory=limits)
    max_tokens: int = 50
    tells_probs: bool = True
    temperature: float = 0.0
    requests: list[Request] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"llm": "scripted", "temperature": self.temperature}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        async def ask(request: Request) -> Answer:
            self.requests.append(request)
            text = self.says(request)
            rest = 0.1 / (len(request.words) - 1)
            chosen = [word for word in request.words if json.dumps({"label": word}) == text]
            probs = {word: 0.9 if word in chosen else rest for word in request.words} if chosen else None
            return Answer(text, self.finish, "scripted-1", 100, 5, (), probs if self.tells_probs else None)  # type: ignore[arg-type]

        yield ask

    def check(self) -> list[CheckResult]:
        return [CheckResult("scripted", True)]
