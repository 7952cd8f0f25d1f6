"""States of a decoder's frozen layers: of prompts, and of the answers that may follow; computed once and kept on disk.

What many prompts begin with (the instructions, the examples) is read once for all of them: each prompt goes on from its
keys and values, and its states are not kept with each.
"""

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from silvertune import progress_bar
from silvertune.encoders.batches import in_batches
from silvertune.encoders.hidden_states import HALF, Store, key_of
from silvertune.errors import UserError
from silvertune.llms import answer_scores
from silvertune.llms.shared_beginnings import Beginning, is_windowed
from silvertune.models import memory

if TYPE_CHECKING:
    import torch

SCALE = 64.0
"""States are kept divided by this: some tokens of a decoder have states beyond the largest half-precision number."""
TOKENS = 4096
"""Padded tokens that the frozen layers read at once."""

Tokens = tuple[int, ...]


def longest_prefix(prompt: Tokens, prefixes: Sequence[Tokens]) -> Tokens:
    """The longest of some prefixes that a prompt goes on from; empty where it begins with none."""
    fitting = (prefix for prefix in prefixes if len(prefix) < len(prompt) and prompt[: len(prefix)] == prefix)
    return max(fitting, key=len, default=())


@dataclass(frozen=True)
class PromptStates:
    """What the frozen layers make of prompts and of the endings after them.

    Attributes:
        network: A causal language model of transformers.
        layer: How many of its first layers are frozen, from 1.
        endings: Token ids of each answer's ending.
        prefixes: Token ids that many prompts begin with.
        folder: Where the states are kept.
        name: Of the network's weights and their precision, a part of the file's name.
        cache_gb: States beyond this size on disk are not kept but computed again each time.
    """

    network: Any
    layer: int
    endings: tuple[Tokens, ...]
    prefixes: tuple[Tokens, ...]
    folder: Path
    name: str
    cache_gb: float
    _prefixes_read: dict[Tokens, tuple[Beginning, np.ndarray]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def store(self) -> Store:
        """The states on disk: of each prompt those after its prefix, then those of the endings."""
        return Store(
            self.folder / f"prompts-{self.name}-{key_of(repr(self.endings))[:8]}-layer{self.layer}", self.width
        )

    @property
    def width(self) -> int:
        """How many numbers a token's state has."""
        return int(self.network.config.hidden_size)

    def of(self, prompts: Sequence[Tokens]) -> "StatesOfPrompts":
        """The states of prompts: read from disk; computed and kept where they are not there.

        Args:
            prompts: Token ids of each.

        Raises:
            UserError: A state is too large for half precision.
        """
        store, prompt_by_key = self.store, {self._key(prompt): prompt for prompt in prompts}
        with store.locked():
            missing = store.missing(list(prompt_by_key))
            left_out = self._keep([prompt_by_key[key] for key in sorted(missing)]) if missing else []
        if left_out:
            print(
                f"silvertune: model.cache_gb={self.cache_gb:g}: the states of {len(left_out)} of {len(prompt_by_key)} "
                "prompts find no room and are computed again each time",
                file=sys.stderr,
            )
        kept = sorted(set(prompt_by_key) - {self._key(prompt) for prompt in left_out})
        return StatesOfPrompts(self, prompts, dict(zip(kept, store.read(kept), strict=True)))

    def computed(self, prompts: Sequence[Tokens]) -> list[np.ndarray]:
        """States of prompts that have the same prefix, as they are kept, each (rows, width) float16."""
        import torch

        from silvertune.encoders.layers import hidden_states

        prefix = self._prefix(prompts[0])
        ids, is_token = answer_scores.left_padded([prompt[len(prefix) :] for prompt in prompts], self.network.device)
        mask = torch.cat([is_token.new_ones(len(prompts), len(prefix)), is_token], dim=1)
        with torch.inference_mode():
            cache = self._read(prefix)[0].repeated(len(prompts))
            inputs = {
                "input_ids": ids,
                "attention_mask": mask,
                "position_ids": answer_scores.positions(mask)[:, len(prefix) :],
                "past_key_values": cache,
                "use_cache": True,
            }
            states = hidden_states(self.network, self.layer, inputs)
            rows = [[states[place, -int(length) :]] for place, length in enumerate(is_token.sum(dim=1))]
            if max(map(len, self.endings)) > 1:
                inputs = answer_scores.continued(mask, self.endings, cache)
                ends = hidden_states(self.network, self.layer, inputs)
                for parts, of_prompt in zip(rows, ends.split(len(self.endings)), strict=True):  # type: ignore[no-untyped-call]
                    parts += [of_prompt[place, : len(ending) - 1] for place, ending in enumerate(self.endings)]
            return [self._half(torch.cat(parts)) for parts in rows]

    def prefix_states(self, prompt: Tokens) -> np.ndarray:
        """The states of the prefix that a prompt begins with, (tokens, width) float16."""
        prefix = self._prefix(prompt)
        if not prefix:
            return np.empty((0, self.width), dtype=HALF)
        return self._read(prefix)[1]

    def batches(self, prompts: Sequence[Tokens]) -> list[list[Tokens]]:
        """Prompts in batches of one prefix and of like length.

        In a batch the shorter ones are padded between the prefix and what follows. A layer that looks at a window of
        so many tokens before it counts padding too: with such layers the prompts of a batch have the same length.
        """
        of_one_length = is_windowed(self.network)

        def alike(prompt: Tokens) -> tuple[object, ...]:
            return (self._prefix(prompt), len(prompt) if of_one_length else 0)

        ordered = sorted(prompts, key=lambda prompt: (*alike(prompt), len(prompt), prompt))
        batches: list[list[Tokens]] = []
        for kind, group in itertools.groupby(ordered, alike):
            of_kind = list(group)
            lengths = [len(prompt) - len(kind[0]) for prompt in of_kind]  # type: ignore[arg-type]
            batches += in_batches(of_kind, lengths, math.inf, TOKENS)
        return batches

    def _keep(self, prompts: Sequence[Tokens]) -> list[Tokens]:
        """Compute and keep states; returned are the prompts whose states find no room."""
        store, batches, left_out = self.store, self.batches(prompts), []
        with progress_bar.shown(f"running {self.layer} layers on {len(prompts)} prompts", len(batches)) as advance:
            for batch in batches:
                size = sum(self._rows(prompt) for prompt in batch) * self.width * HALF.itemsize
                if store.size() + size <= self.cache_gb * 1e9:
                    states, _ = memory.in_parts(partial(self._of_rows, batch), np.arange(len(batch)), 1)
                    keys = [self._key(prompt) for prompt in batch]
                    store.add(dict(zip(keys, itertools.chain(*states), strict=True)))
                else:
                    left_out += batch
                advance("")
        return left_out

    def _of_rows(self, batch: Sequence[Tokens], rows: np.ndarray, share: float) -> list[np.ndarray]:
        return self.computed([batch[row] for row in rows])

    def _key(self, prompt: Tokens) -> str:
        """Of the states of a prompt after its prefix."""
        return key_of(repr((len(self._prefix(prompt)), prompt)))

    def _rows(self, prompt: Tokens) -> int:
        """How many rows are kept of a prompt."""
        return len(prompt) - len(self._prefix(prompt)) + sum(len(ending) - 1 for ending in self.endings)

    def _prefix(self, prompt: Tokens) -> Tokens:
        """The longest of the prefixes that the prompt goes on from; empty where it begins with none."""
        return longest_prefix(prompt, self.prefixes)

    def _read(self, prefix: Tokens) -> tuple[Beginning, np.ndarray]:
        """A prefix as the frozen layers have read it, and its states."""
        import torch
        from transformers import DynamicCache

        from silvertune.encoders.layers import hidden_states

        if prefix not in self._prefixes_read:
            cache, states = DynamicCache(config=self.network.config), np.empty((0, self.width), dtype=HALF)
            if prefix:
                ids, mask = answer_scores.left_padded([prefix], self.network.device)
                inputs: dict[str, Any] = {
                    "input_ids": ids,
                    "attention_mask": mask,
                    "position_ids": answer_scores.positions(mask),
                    "past_key_values": cache,
                    "use_cache": True,
                }
                with torch.inference_mode():
                    states = self._half(hidden_states(self.network, self.layer, inputs)[0])
            self._prefixes_read[prefix] = Beginning(prefix, cache), states
        return self._prefixes_read[prefix]

    def _half(self, states: "torch.Tensor") -> np.ndarray:
        kept: np.ndarray = (states.float() / SCALE).half().cpu().numpy()
        if not np.isfinite(kept).all():
            raise UserError(
                f"model.cached=true: {type(self.network).__name__} has states that are too large to be kept in half "
                "precision; want model.cached=false"
            )
        return kept


@dataclass(frozen=True)
class StatesOfPrompts:
    """The states of some prompts, ready for `silvertune.encoders.layers.given_below`.

    Attributes:
        source: Computes those that are not kept.
        prompts: Token ids of each.
        kept: The states on disk by their key, memory-mapped.
    """

    source: PromptStates
    prompts: Sequence[Tokens]
    kept: Mapping[str, np.ndarray]

    def of(self, rows: np.ndarray, *, cache: bool, begun: int = 0) -> "list[torch.Tensor]":
        """The states that `silvertune.llms.answer_scores.scores` needs for its calls of the network.

        Args:
            rows: Which prompts.
            cache: As there.
            begun: How many of the first tokens, which are the same in all prompts, are read in a call of their own.

        Returns:
            First those of the tokens that are read in a call of their own, if any, in one row. Then, with `cache`,
            those of the prompts, padded on the left, and those of the endings' tokens but for the last, a row for each
            prompt and ending, padded on the right; else those of both together, padded on the left.
        """
        import torch

        pad = torch.nn.utils.rnn.pad_sequence
        prompts, endings = [], []
        for row in rows:
            of_prompt, of_endings = self._parts(self.prompts[row])
            prompts.append(of_prompt)
            endings += of_endings
        many = len(self.source.endings)
        if not cache:
            rows_of_endings = [torch.cat([prompts[number // many], ending]) for number, ending in enumerate(endings)]
            return [pad(rows_of_endings, batch_first=True, padding_side="left")]
        padded = [pad([prompt[begun:] for prompt in prompts], batch_first=True, padding_side="left")]
        beginning = [prompts[0][None, :begun]] if begun else []
        return [*beginning, *padded, *([pad(endings, batch_first=True)] if max(map(len, endings)) else [])]

    def _parts(self, prompt: Tokens) -> "tuple[torch.Tensor, list[torch.Tensor]]":
        """The states of a prompt, and of each ending after it, as float32."""
        import torch

        source = self.source
        rows = self.kept.get(source._key(prompt))
        if rows is None:
            (rows,) = source.computed([prompt])
        numbers = torch.from_numpy(np.concatenate([source.prefix_states(prompt), rows])).float() * SCALE
        ends = np.cumsum([len(prompt), *(len(ending) - 1 for ending in source.endings)])
        return numbers[: ends[0]], [numbers[start:end] for start, end in itertools.pairwise(ends)]
