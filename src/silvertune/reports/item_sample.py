"""Which items a page shows where a run has more than it can hold: some at random, and some of every kind of doubt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

COPIES = "copies"
"""The mark of items that are copies of others: they are drawn together."""


@dataclass(frozen=True)
class Sample:
    """The items that a page shows.

    Attributes:
        positions: Their positions among all items, ascending.
        is_random: Whether each of them belongs to the random part.
        quota: So many items of each kind of doubt were drawn, where there are as many; 0 where all items are shown.
    """

    positions: np.ndarray
    is_random: np.ndarray
    quota: int


def drawn(
    marks: pd.DataFrame, labels: pd.Series, kinds: Sequence[str], copies: pd.Series | None, n_items: int
) -> Sample:
    """Draw items: half of them at random, the others from each kind of doubt, and from each label of a kind alike.

    They are drawn by a digest of their ids, so that the random parts of all arms of a study share their items.

    Args:
        marks: A column of bool for each mark, indexed by item_id (`silvertune.evaluation.item_marks`).
        labels: The label of each item (may be null), indexed alike.
        kinds: The marks whose items are drawn.
        copies: The text that copies have in common, indexed alike; None where nobody looks for copies.
        n_items: How many items to draw.

    Returns:
        The sample; all items where there are no more.
    """
    if len(marks) <= n_items:
        return Sample(np.arange(len(marks)), np.ones(len(marks), dtype=bool), 0)
    order = np.argsort(_digests(marks.index.to_numpy(dtype=object)), kind="stable")
    codes = pd.factorize(labels.to_numpy(dtype=object), use_na_sentinel=False)[0]
    present = [kind for kind in kinds if marks[kind].any()]
    n_random = n_items - n_items // 2 if present else n_items
    quota = (n_items - n_random) // len(present) if present else 0
    is_shown = np.zeros(len(marks), dtype=bool)
    is_shown[order[:n_random]] = True
    for kind in present:
        of_kind = order[marks[kind].to_numpy(dtype=bool)[order]]
        if kind == COPIES and copies is not None:
            place = _digests(copies.to_numpy(dtype=object)[of_kind])
        else:
            place = pd.Series(codes[of_kind]).groupby(codes[of_kind]).cumcount().to_numpy()
        is_shown[of_kind[np.argsort(place, kind="stable")[:quota]]] = True
    # What is drawn twice leaves room for more of the random part.
    others = order[~is_shown[order]]
    more = others[: n_items - int(is_shown.sum())]
    is_shown[more] = True
    last = n_random if not len(more) else int(np.flatnonzero(order == more[-1])[0]) + 1
    is_random = np.zeros(len(marks), dtype=bool)
    is_random[order[:last]] = True
    positions = np.flatnonzero(is_shown)
    return Sample(positions, is_random[positions], quota)


def _digests(texts: np.ndarray) -> np.ndarray:
    return pd.util.hash_array(texts, hash_key="silvertune-items", categorize=False)
