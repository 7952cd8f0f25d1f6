"""What is done with the text of an item takes linear time: anybody may have written it."""

import time
from collections.abc import Callable

import pytest

from silvertune.datasets import tables
from silvertune.llms import answers, truncation
from silvertune.llms.interface import Answer, Message, Request
from silvertune.llms.untrusted_text import cleaned, signs

SIZE = 1_000_000
SHAPES = {
    "blank lines": "\n", "blanks": " ", "tabs and line breaks": "\t\n", "no-break blanks": "\u00a0", "dashes": "-",
    "hashes": "#", "hashes and blanks": "# ", "quotes": '"', "quotes and blanks": "\" '", "tags that open": "<",
    "tags with blanks": "< ", "brackets": "[", "brackets and capitals": "[INST", "orders": "ignore ", "verbs": "say ",
    "verbs and words": "answer a b c ", "roles": "system ", "nested JSON": '{"label":', "zero-width": "\u200b",
    "piles of marks": "\u0301\u0323", "backslashes": "\\", "escapes": "\\u0301", "fences": "```json\n",
    "think": "<think>", "ends of thinking": '</think>{"label": "', "closing tags": "</",
    "fences that close": "```\n```json\n",
    "answers": "<answer>", "stops": "<|im_end|>", "rows of cells": "a | b\n", "one word": "a", "class words": "classif",
}  # fmt: skip


def fit(text: str) -> None:
    truncation.fit(text, 1000)


def read(text: str) -> None:
    answers.read(Answer(text, "stop", "m", 1, 1), Request((Message("user", "?"),), ("YES", "NO"), ("label",)))


def table(text: str) -> None:
    tables.fields([["a", "b"], [text, ""]], page_text=text, caption=text, footnotes=text, captions=False)


READERS: dict[str, Callable[[str], object]] = {
    "signs": lambda text: signs(text, ("YES", "NO")),
    "cleaned": cleaned,
    "fit": fit,
    "read": read,
    "table": table,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_megabyte_takes_linear_time(reader: str, shape: str) -> None:
    def seconds(size: int) -> float:
        text = (SHAPES[shape] * (size // len(SHAPES[shape]) + 1))[:size]
        started = time.perf_counter()
        READERS[reader](text)
        return time.perf_counter() - started

    long = seconds(SIZE)
    # On a slow machine: eight times the text takes eight times as long, and 64 times where time grows with the square.
    assert long < 1.0 or long < 20 * seconds(SIZE // 8)
