import importlib
from pathlib import Path

import pytest


def test_the_benchmark_reads_the_same_rows_by_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    measured = importlib.import_module("answer_store").measure(rows=200, store_rows=1000, folder=tmp_path, rounds=1)
    assert (measured["rows"], measured["store_rows"]) == (200, 1000)
    assert all(measured[name] > 0 for name in ("read_of_scan", "label_of_by_key", "read_large_of_small"))
