"""Runs a batch in parts, in smaller ones where the memory does not do for them."""

import sys
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from silvertune.errors import UserError

T = TypeVar("T")


def in_parts(
    run: Callable[[np.ndarray, float], T], rows: np.ndarray, parts: int, before: Callable[[], object] = lambda: None
) -> tuple[list[T], int]:
    """Run a batch in parts; where the memory does not do, in twice as many, from the start, and say so.

    Args:
        run: Runs some of the rows; it gets their share (0-1) of the batch as well.
        rows: The batch; of an empty one nothing is run.
        parts: How many parts, from 1; no part is empty.
        before: Called before the first part, also when it is run again.

    Returns:
        The result of each part in order, and the number of parts that did.

    Raises:
        UserError: The memory does not do for one row.
    """
    while True:
        before()
        try:
            pieces = np.array_split(rows, min(parts, len(rows))) if len(rows) else []
            return [run(piece, len(piece) / len(rows)) for piece in pieces], parts
        except (RuntimeError, MemoryError) as error:
            if not is_exhausted(error):
                raise
            reason = str(error).splitlines()[0]
        largest = -(-len(rows) // parts)
        if largest <= 1:
            raise UserError(
                f"model.batch_size: the memory does not do for one text ({reason}); want a smaller model.max_tokens, "
                "model.gradient_checkpointing=true, or a smaller model"
            )
        parts *= 2
        print(
            f"silvertune: out of memory with {largest} texts at once: goes on with {-(-len(rows) // parts)}",
            file=sys.stderr,
        )


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in message or "not enough memory" in message
