"""One prompt about many texts, asked of one LLM once: keys in the answer store, and the questions that it lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from silvertune.llms import answer_store, untrusted_text
from silvertune.llms.answer_store import AnswerStore
from silvertune.llms.asking import Question
from silvertune.llms.interface import LLM
from silvertune.llms.prompts import Prompt


@dataclass(frozen=True)
class StorePlace:
    """Where the answer store is (`silvertune.llms.answer_store`). url: null is a SQLite file in the cache."""

    url: str | None
    lease_s: float
    remember_s: float

    def open(self, cache: Path, budget_usd: float | None) -> AnswerStore:
        """The store, not connected yet."""
        url = self.url or f"sqlite:///{cache / 'labels.sqlite'}"
        return AnswerStore(url, lease_s=self.lease_s, remember_s=self.remember_s, budget_usd=budget_usd)


@dataclass(frozen=True)
class Round:
    """One question about every item, asked of one LLM once.

    Attributes:
        llm: The name of the LLM.
        texts: The view of the prompt, an item each; None where the item lacks it.
        keys: Of the questions in the answer store, an item each; None where there is no text.
    """

    llm: str
    prompt: Prompt
    repeat: int
    texts: Sequence[str | None]
    keys: Sequence[str | None]

    @classmethod
    def of(
        cls, name: str, identity: Mapping[str, Any], prompt: Prompt, repeat: int, texts: Sequence[str | None]
    ) -> "Round":
        """The round of texts; `identity` is what can change the LLM's answers."""
        return cls(name, prompt, repeat, texts, _keys(identity, prompt, repeat, texts))

    @property
    def annotator(self) -> str:
        """The LLM's name, with the prompt's where a view has several."""
        return f"{self.llm}/{self.prompt.name}" if self.prompt.name else self.llm

    def text_by_key(self) -> dict[str, str]:
        """What is to be asked about; items of one text have one key."""
        pairs = zip(self.keys, self.texts, strict=True)
        return {key: text for key, text in pairs if key is not None and text is not None}

    def question(self, key: str, text: str, llm: LLM) -> Question:
        """The question about a text."""
        words = list(self.prompt.words.values())

        def key_of(served: str) -> str:
            (key,) = _keys({**llm.identity(), "accept_model": served}, self.prompt, self.repeat, [text])
            return str(key)

        return Question(
            key=key,
            render=lambda: self.prompt.request(text, self.repeat),
            signs=lambda: ", ".join(untrusted_text.signs(text, words)) or None,
            key_of=key_of,
        )


def _keys(identity: Mapping[str, Any], prompt: Prompt, repeat: int, texts: Sequence[str | None]) -> list[str | None]:
    """Digests of all that can change the answer: the LLM, the prompt, the repeat, the text."""
    base = prompt.digest.copy()
    base.update(answer_store.canonical(identity))
    base.update(f"\0{repeat}\0".encode())
    keys: list[str | None] = []
    for text in texts:
        if text is None:
            keys.append(None)
        else:
            digest = base.copy()
            digest.update(text.encode("utf-8", "surrogatepass"))
            keys.append(digest.hexdigest())
    return keys
