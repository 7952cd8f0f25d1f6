"""Items as the examples that Gemini is tuned on: the questions that an LLM labels with, each with its answer."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd
from typing import Any

import pandas as pd

from silvertune.errors import UserError
from silvertune.llms.prompts import Prompt


@dataclass(frozen=True)
class Copies:
    """How often an item stands among the examples: Gemini's tuning knows neither weights nor soft labels.

    Attributes:
        weights: `refuse` items of different weights, or `repeat`: see `most`. An item of weight 0 is left out.
        soft_labels: Repeat an item with each class's answer, in the proportions of its `prob:<class>`.
        most: So often stands an item of the greatest weight and of a certain label, where items are repeated; others in
            proportion, rounded, and at least once where their weight is above 0.
    """

    weights: str
    soft_labels: bool
    most: int

    def counted(self, rows: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, int]]:
        """Class -> copies with its answer, of each row.

        Args:
            rows: With `label` and `weight`, and `prob:<class>` for soft labels.
            classes: The task's.

        Raises:
            UserError: The weights differ, and are not to be repeated.
        """
        weights = rows["weight"].astype(float)
        heaviest = float(weights.max()) if len(weights) and weights.max() > 0 else 1.0
        if self.weights == "refuse":
            positive = weights[weights > 0]
            if positive.nunique() > 1:
                raise UserError(
                    f"model.weights=refuse: Gemini's tuning knows no weights, and those of the labels go from "
                    f"{positive.min():g} to {positive.max():g}: choose a filter without weights, or "
                    "model.weights=repeat"
                )
            return [{label: int(weight > 0)} for label, weight in zip(rows["label"], weights, strict=True)]
        copies = []
        for (_, row), weight in zip(rows.iterrows(), weights, strict=True):
            shares = {row["label"]: 1.0}
            if self.soft_labels:
                shares = {name: float(row[f"prob:{name}"]) for name in classes}
            counts = {name: round(self.most * share * weight / heaviest) for name, share in shares.items()}
            if weight > 0 and not any(counts.values()):
                counts[max(shares, key=lambda name: shares[name])] = 1
            copies.append(counts)
        return _without_common_factor(copies)


def _without_common_factor(copies: list[dict[str, int]]) -> list[dict[str, int]]:
    """Items of one weight stand once, and not `most` times."""
    common = gcd(*(number for counts in copies for number in counts.values())) or 1
    return [{name: number // common for name, number in counts.items()} for counts in copies]


@dataclass(frozen=True)
class _Asked:
    """A prompt, known by its digest: it can't be hashed itself."""

    digest: str
    prompt: Prompt = field(compare=False)


@lru_cache(maxsize=4096)
def _line(asked: _Asked, text: str, label: str) -> bytes:
    """One example as a line of JSON: the question about the text, and the answer that says the label."""
    turns = asked.prompt.request(text).messages
    system = "\n".join(turn.content for turn in turns if turn.role == "system")
    contents = [_turn("model" if turn.role == "assistant" else turn.role, turn.content) for turn in turns]
    example: dict[str, Any] = {
        "systemInstruction": _turn("system", system),
        "contents": [
            *(turn for turn in contents if turn["role"] != "system"),
            _turn("model", asked.prompt.answer(label)),
        ],
    }
    return json.dumps(example, ensure_ascii=False).encode() + b"\n"


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def lines(
    rows: pd.DataFrame, prompts: Mapping[str, Prompt], copies: Copies, classes: Sequence[str], shuffled_by: int | None
) -> list[bytes]:
    """The examples of items: one for each view that an item has.

    Args:
        rows: Items with `label`, `weight` and perhaps `prob:<class>`.
        prompts: View -> the question about it.
        copies: How often each item stands.
        classes: The task's.
        shuffled_by: The seed of their order; None: as the rows stand.

    Returns:
        One line of JSON an example, each with its line break.
    """
    asked = {view: _Asked(prompt.digest.hexdigest(), prompt) for view, prompt in prompts.items()}
    counted = copies.counted(rows, classes)
    examples: list[bytes] = []
    for view, question in asked.items():
        for text, counts in zip(rows[view], counted, strict=True):
            if isinstance(text, str):
                for label, number in counts.items():
                    examples += [_line(question, text, label)] * number
    if shuffled_by is not None:
        random.Random(shuffled_by).shuffle(examples)
    return examples
