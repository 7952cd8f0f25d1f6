from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pandas as pd
import pytest

from silvertune.evidence.cache import cached, content_of

INDEX = pd.Index(["x", "y"], name="item_id", dtype="str")
FRAME = pd.DataFrame({"a": [0.1, 0.2], "b": np.float32([1, 2])}, index=INDEX)


def test_it_is_built_once_for_what_decides_it(tmp_path: Path) -> None:
    built: list[str] = []

    def get(*deciding: str) -> pd.DataFrame:
        return cached(tmp_path / "cache", "it", list(deciding), lambda: built.append("".join(deciding)) or FRAME)

    for _ in range(3):
        pd.testing.assert_frame_equal(get("p", "q"), FRAME)
    get("pq")
    get("q", "p")
    assert built == ["pq", "pq", "qp"]


def test_many_at_once_build_it_once(tmp_path: Path) -> None:
    built: list[int] = []
    together = Barrier(6)

    def get(_: int) -> pd.DataFrame:
        together.wait()
        return cached(tmp_path, "it", ["same"], lambda: built.append(1) or FRAME)

    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(get, range(6)):
            pd.testing.assert_frame_equal(found, FRAME)
    assert len(built) == 1


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        cached(tmp_path, "it", ["same"], lambda: pd.DataFrame({"a": [1 / 0]}))
    assert not list(tmp_path.glob("*.parquet"))
    pd.testing.assert_frame_equal(cached(tmp_path, "it", ["same"], lambda: FRAME), FRAME)


def test_a_file_that_can_not_be_read_is_built_anew(tmp_path: Path) -> None:
    cached(tmp_path, "it", ["same"], lambda: FRAME)
    (file,) = tmp_path.glob("*.parquet")
    file.write_bytes(b"half of it")
    pd.testing.assert_frame_equal(cached(tmp_path, "it", ["same"], lambda: FRAME), FRAME)
    assert len(pd.read_parquet(file)) == 2


def test_the_content_of_a_table_is_its_values_and_not_its_order() -> None:
    frame = pd.DataFrame({"text": ["one", None], "group_id": ["g", "h"]}, index=["x", "y"])
    assert content_of(frame) == content_of(frame.iloc[::-1])
    for other in (
        frame.rename(index={"x": "z"}),
        frame.rename(columns={"text": "json"}),
        frame.assign(text=["one", "None"]),
        frame.assign(text=["one", ""]),
        frame.iloc[:1],
    ):
        assert content_of(other) != content_of(frame)
