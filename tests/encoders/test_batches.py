"""Which texts are run together."""

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from silvertune.encoders import batches as module


@given(
    lengths=st.lists(st.integers(1, 30), max_size=40).map(sorted),
    size=st.integers(1, 9),
    tokens=st.one_of(st.integers(1, 60), st.just(math.inf)),
)
def test_a_batch_has_as_many_texts_as_it_may(lengths: list[int], size: int, tokens: float) -> None:
    batches = list(module.in_batches(range(len(lengths)), lengths, size, tokens))
    assert [row for batch in batches for row in batch] == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert len(batch) == 1 or len(batch) * lengths[batch[-1]] <= tokens
    for batch, following in itertools.pairwise(batches):
        assert len(batch) == size or (len(batch) + 1) * lengths[following[0]] > tokens


def test_texts_of_like_length_are_together_in_the_order_in_which_they_came() -> None:
    found = module.of_like_length(np.array([7, 8, 9, 3]), [5, 2, 5, 2], 2)
    assert [batch.tolist() for batch in found] == [[8, 3], [7, 9]]
    assert module.of_like_length(np.array([], dtype=int), [], 2) == []
