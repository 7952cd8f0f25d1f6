"""Texts that an encoder can't read: to its tokenizer they are unknown tokens, and so one like the other."""

import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

MOST = 0.2
"""With a larger share of unknown tokens, what is left says too little."""
FEWEST_TEXTS, TEXTS = 20, 200
"""So many texts are looked at before anything is said, and at most: a batch may be a few odd ones."""
_UNKNOWN_AND_ALL: dict[str, dict[str, tuple[int, int]]] = {}
"""The encoder's setting -> text -> its number of unknown tokens, and of all."""
_TOLD: set[str] = set()


def tell(texts: Sequence[str], tokenizer: Any, setting: str) -> None:
    """Print a line on stderr, once a process and encoder, where much of the texts is unknown to the tokenizer.

    Args:
        texts: As the encoder reads them.
        tokenizer: The encoder's. One of bytes has no unknown token.
        setting: The config key that chooses the encoder, with its value.
    """
    counts = _UNKNOWN_AND_ALL.setdefault(setting, {})
    if setting in _TOLD or len(counts) >= TEXTS or not texts or tokenizer.unk_token_id is None:
        return
    spread = texts[:: -(-len(texts) // TEXTS)]
    new_texts = list(islice((text for text in dict.fromkeys(spread) if text not in counts), TEXTS - len(counts)))
    if not new_texts:
        return
    ids_by_text = tokenizer(new_texts, add_special_tokens=False, truncation=True, max_length=512)["input_ids"]
    for text, ids in zip(new_texts, ids_by_text, strict=True):
        counts[text] = (ids.count(tokenizer.unk_token_id), len(ids))
    unknown, total = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    if len(counts) >= FEWEST_TEXTS and unknown > MOST * total:
        _TOLD.add(setting)
        print(
            f"silvertune: {setting}: {unknown / total:.0%} of the tokens of these texts are unknown to it, so that it "
            "can't tell them apart; want an encoder of their language or script",
            file=sys.stderr,
        )
