"""Which texts are run together, each padded to the longest of them."""

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

T = TypeVar("T")

TOKENS_AT_ONCE = 2048
"""Tokens of a batch, padding included. What a layer makes of more has left a processor's cache when the next step reads
it, and beyond 32 MB the C library has the system clear new memory for it each time: 8,192 tokens take a CPU up to 1.4
times as long."""


def in_batches(rows: Iterable[T], lengths: Iterable[int], size: float, tokens: float) -> Iterator[list[T]]:
    """Cut texts into batches.

    Args:
        rows: Any names of the texts, in order of their length.
        lengths: The number of tokens of each, in the same order, rising.
        size: Texts of a batch, at most.
        tokens: Tokens of a batch with its padding, at most; a text that is longer is a batch.

    Yields:
        The rows of each batch.
    """
    batch: list[T] = []
    for row, length in zip(rows, lengths, strict=True):
        if batch and (len(batch) == size or (len(batch) + 1) * length > tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def of_like_length(rows: np.ndarray, lengths: Iterable[int], size: int, tokens: float = math.inf) -> list[np.ndarray]:
    """Put texts of like length together, so that little is padded.

    Args:
        rows: Numbers of the texts.
        lengths: The number of tokens of each, in the same order.
        size: As `in_batches` takes it.
        tokens: The same.

    Returns:
        The rows of each batch, the shortest texts first.
    """
    length = np.array(list(lengths), dtype=int)
    order = np.argsort(length, kind="stable")
    return [np.array(batch) for batch in in_batches(rows[order], length[order], size, tokens)]
