"""Texts that an encoder can't read: to its tokenizer they are unknown tokens, and so one like the other."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

MOST = 0.2
"""With a larger share of unknown tokens, what is left says too little."""
TEXTS = 200
"""So many of the texts are looked at."""
_TOLD: set[str] = set()


def tell(texts: Sequence[str], tokenizer: Any, setting: str) -> None:
    """Print a line on stderr, once a process and encoder, where much of the texts is unknown to the tokenizer.

    Args:
        texts: As the encoder reads them.
        tokenizer: The encoder's. One of bytes has no unknown token.
        setting: The config key that chooses the encoder, with its value.
    """
    if setting in _TOLD or not texts or tokenizer.unk_token_id is None:
        return
    some = list(texts[:: -(-len(texts) // TEXTS)])
    unknown = share(tokenizer(some, add_special_tokens=False, truncation=True, max_length=512)["input_ids"], tokenizer)
    if unknown > MOST:
        _TOLD.add(setting)
        print(
            f"silvertune: {setting}: {unknown:.0%} of the tokens of these texts are unknown to it, so that it can't "
            "tell them apart; want an encoder of their language or script",
            file=sys.stderr,
        )


def share(ids_by_text: Iterable[Sequence[int]], tokenizer: Any) -> float:
    """The share of unknown tokens, 0-1; 0 where there are none at all."""
    ids = [number for text in ids_by_text for number in text]
    return ids.count(tokenizer.unk_token_id) / len(ids) if ids else 0.0
