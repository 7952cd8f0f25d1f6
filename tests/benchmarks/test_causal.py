"""The benchmark of causal language models compares what it says."""

import importlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from tests import tiny_causal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def causal(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("causal")


def test_training_and_test_are_balanced_and_apart_by_protocol(causal: Any) -> None:
    train, test, task = causal.data(10, 20)
    assert train["label"].value_counts().to_dict() == {"soe": 5, "other": 5}
    assert test["label"].value_counts().to_dict() == {"soe": 10, "other": 10}
    assert not set(train["group_id"]) & set(test["group_id"])
    assert test["group_id"].nunique() > 5
    assert set(train["label"]) == set(task.classes)


def test_every_variant_is_measured_and_kept_states_give_the_same(causal: Any, tmp_path: Path) -> None:
    folder = tiny_causal.causal_lm(tmp_path / "lm")
    times = {}
    for variant in causal.VARIANTS:
        arguments = Namespace(
            texts=4, test_texts=12, epochs=1, max_tokens=400, layers=1, learning_rate=1e-3, device="cpu",
            model=str(folder), cache=str(tmp_path / ("cache" if variant in ("first", "later") else variant)),
            predictions=str(tmp_path / f"{variant}.parquet"),
        )  # fmt: skip
        times[variant] = causal.measure(variant, arguments)
    assert times["plain"]["kept_mb"] == times["whole"]["kept_mb"] == 0.0
    assert times["first"]["kept_mb"] == times["later"]["kept_mb"] > 0
    for variant in ("whole", "later"):
        assert times[variant]["loss"] == pytest.approx(times["plain"]["loss"], abs=1e-2)
    causal.REPLICATES = 50
    table = causal.compared(tmp_path)
    assert table["test/f1"].notna().all()
