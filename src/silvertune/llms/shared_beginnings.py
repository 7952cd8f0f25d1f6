"""What many prompts begin with, the instructions and the examples: a model reads it once for all of them."""

import copy
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from silvertune.llms import answer_scores
from silvertune.llms.interface import Message, Request

SPECIMENS = ("", "a", "The", "0", "[", '{"', "é", "|")
"""Texts whose prompts show what all prompts with the same turns before them begin with."""
FEWEST = 32
"""A beginning of fewer tokens is read again with each prompt."""
MOST_KEPT = 8
"""So many beginnings are in memory: a prompt and view each has one."""


def alike(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The token ids that all prompts begin with."""
    same = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return tuple(tokens[0] for tokens in same)


def is_windowed(network: Any) -> bool:
    """Whether a layer looks at a window of so many tokens before it: it counts what is padded between tokens, too."""
    layer_types = getattr(network.config, "layer_types", None) or ()
    return "sliding_attention" in layer_types or bool(getattr(network.config, "sliding_window", None))


@dataclass(frozen=True)
class Beginning:
    """Tokens that a model has read.

    Attributes:
        tokens: Their ids.
        cache: Keys and values of them, for one row; transformers' `DynamicCache`.
    """

    tokens: tuple[int, ...]
    cache: Any

    def repeated(self, rows: int) -> Any:
        """A cache of its own for `rows` prompts that go on from here."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


class SharedBeginnings:
    """The beginnings of prompts that one model has read.

    Args:
        network: A causal language model of transformers.
        tokenizer: Its tokenizer.
    """

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self._network, self._tokenizer = network, tokenizer
        self._by_turns: OrderedDict[tuple[Message, ...], Beginning | None] = OrderedDict()

    def of(self, request: Request, tokens: list[int]) -> Beginning | None:
        """The beginning that a request's prompt shares with all requests of the same turns before the last one.

        Args:
            request: What is asked.
            tokens: The token ids of its prompt.

        Returns:
            None where it is short, where the prompt goes on in the middle of a token, or where the model keeps other
            things than keys and values.
        """
        turns = request.messages[:-1]
        if turns not in self._by_turns:
            self._by_turns[turns] = self._read(request)
            if len(self._by_turns) > MOST_KEPT:
                self._by_turns.popitem(last=False)
        self._by_turns.move_to_end(turns)
        beginning = self._by_turns[turns]
        if beginning is None or tuple(tokens[: len(beginning.tokens)]) != beginning.tokens:
            return None
        return beginning if len(tokens) > len(beginning.tokens) else None

    def _read(self, request: Request) -> Beginning | None:
        import torch
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        asked = [
            replace(request, messages=(*request.messages[:-1], replace(request.messages[-1], content=text)))
            for text in SPECIMENS
        ]
        prompts = [
            answer_scores.prompt_tokens(answer_scores.prompt(one, self._tokenizer), self._tokenizer) for one in asked
        ]
        shared = alike(prompts)
        if len(shared) < FEWEST:
            return None
        with torch.inference_mode():
            _, cache = answer_scores.begin(self._network, shared, 1)
        plain = (DynamicLayer, DynamicSlidingWindowLayer)
        if not all(type(layer) in plain for layer in getattr(cache, "layers", [None])):
            return None
        return Beginning(shared, cache)
