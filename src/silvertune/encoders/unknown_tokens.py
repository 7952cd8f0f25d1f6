"""Texts that an encoder can't read: to its tokenizer they are unknown tokens, and so one like the other."""

import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from silvertune.encoders.hidden_states import key_of, rows_of

MOST = 0.2
"""With a larger share of unknown tokens, what is left says too little."""
FEWEST_TEXTS, TEXTS = 20, 200
"""So many texts are looked at before anything is said, and at most: a batch may be a few odd ones."""
Counts = Mapping[str, tuple[int, int]]
"""Text -> its number of unknown tokens, and of all."""
_UNKNOWN_AND_ALL: dict[str, dict[str, tuple[int, int]]] = {}
"""The encoder's setting -> `Counts`."""
_TOLD: set[str] = set()


def counts(texts: Sequence[str], tokenizer: Any) -> Counts:
    """Count the tokens of texts.

    Args:
        texts: As the encoder reads them.
        tokenizer: The encoder's. One of bytes has no unknown token.
    """
    if tokenizer.unk_token_id is None:
        return dict.fromkeys(texts, (0, 0))
    ids_by_text = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=512)["input_ids"]
    unknown = tokenizer.unk_token_id
    return {text: (ids.count(unknown), len(ids)) for text, ids in zip(texts, ids_by_text, strict=True)}


def kept_counts(texts: Sequence[str], tokenizer: Callable[[], Any], database: sqlite3.Connection) -> Counts:
    """Count the tokens of texts, of each once for all processes: a tokenizer takes longer to load than vectors.

    Args:
        texts: As the encoder reads them.
        tokenizer: Loads the encoder's.
        database: Keeps what belongs to the encoder's content.
    """
    database.execute("CREATE TABLE IF NOT EXISTS tokens (key TEXT PRIMARY KEY, n_unknown INTEGER, n_all INTEGER)")
    text_by_key = {key_of(text): text for text in texts}
    kept = {text_by_key[key]: (unknown, total) for key, unknown, total in rows_of(database, "tokens", [*text_by_key])}
    if new_texts := [text for text in texts if text not in kept]:
        new_counts = counts(new_texts, tokenizer())
        with database:
            rows = [(key_of(text), *numbers) for text, numbers in new_counts.items()]
            database.executemany("INSERT OR IGNORE INTO tokens VALUES (?, ?, ?)", rows)
        kept |= new_counts
    return kept


def tell(texts: Sequence[str], count: Callable[[Sequence[str]], Counts], setting: str) -> None:
    """Print a line on stderr, once a process and encoder, where much of the texts is unknown to the tokenizer.

    Args:
        texts: As the encoder reads them.
        count: Counts the tokens of some of them.
        setting: The config key that chooses the encoder, with its value.
    """
    seen = _UNKNOWN_AND_ALL.setdefault(setting, {})
    if setting in _TOLD or len(seen) >= TEXTS or not texts:
        return
    spread = texts[:: -(-len(texts) // TEXTS)]
    new_texts = list(islice((text for text in dict.fromkeys(spread) if text not in seen), TEXTS - len(seen)))
    if not new_texts:
        return
    seen |= count(new_texts)
    unknown, total = (sum(numbers) for numbers in zip(*seen.values(), strict=True))
    if len(seen) >= FEWEST_TEXTS and unknown > MOST * total:
        _TOLD.add(setting)
        print(
            f"silvertune: {setting}: {unknown / total:.0%} of the tokens of these texts are unknown to it, so that it "
            "can't tell them apart; want an encoder of their language or script",
            file=sys.stderr,
        )
