import numpy as np
import pytest
from tests import made

from silvertune.models import memory


def limited(most: int, calls: list[list[int]]) -> object:
    def run(rows: np.ndarray, share: float) -> float:
        calls.append(rows.tolist())
        if len(rows) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return share

    return run


def test_a_batch_is_run_in_as_many_parts_as_asked() -> None:
    calls: list[list[int]] = []
    shares, parts = memory.in_parts(limited(9, calls), np.arange(5), 2)  # type: ignore[arg-type]
    assert (calls, parts) == ([[0, 1, 2], [3, 4]], 2)
    assert shares == pytest.approx([0.6, 0.4])
    calls.clear()
    memory.in_parts(limited(9, calls), np.arange(2), 4)  # type: ignore[arg-type]
    assert calls == [[0], [1]]


def test_where_memory_does_not_do_the_parts_are_halved_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[list[int]] = []
    restarts: list[int] = []
    shares, parts = memory.in_parts(limited(2, calls), np.arange(8), 1, before=lambda: restarts.append(1))  # type: ignore[arg-type]
    assert parts == 4
    assert sum(shares) == pytest.approx(1.0)
    assert calls[-4:] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert len(restarts) == 3
    assert "out of memory with 8 texts at once: goes on with 4" in capsys.readouterr().err


def test_a_single_text_that_memory_does_not_do_for_is_told_in_one_line() -> None:
    with made.refused("model.batch_size", "the memory does not do for one text", "model.max_tokens"):
        memory.in_parts(limited(0, []), np.arange(3), 1)  # type: ignore[arg-type]


def test_another_error_is_not_taken_for_want_of_memory() -> None:
    def run(rows: np.ndarray, share: float) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        memory.in_parts(run, np.arange(3), 1)
