"""The benchmark of tuning compares what it says."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("tuning")


def test_training_and_test_are_apart_by_protocol(tuning: Any) -> None:
    train, test, task = tuning.data(3, 2)
    assert (train["group_id"].nunique(), test["group_id"].nunique()) == (3, 2)
    assert not set(train["group_id"]) & set(test["group_id"])
    assert set(train["label"]) == set(task.classes)


def test_every_student_has_a_configuration(tuning: Any) -> None:
    assert {
        name for name in tuning.MODELS.values() if not (ROOT / "conf" / "model" / f"{name}.yaml").is_file()
    } == set()


def test_differences_of_f1_are_paired_over_protocols(
    tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "REPLICATES", 200)
    _, test, _ = tuning.data(1, 6)
    table = test.assign(gold=test["label"], fold=0)[["label", "gold", "group_id", "fold"]]
    wrong = np.arange(len(table)) % 10 == 0
    table.assign(label=np.where(wrong, "other", table["label"])).to_parquet(tmp_path / "trainer.parquet")
    table.to_parquet(tmp_path / "top_layer_first.parquet")
    by_arm = tuning.compared(tmp_path, ["trainer", "top_layer_first"])
    missed = (wrong & (table["label"] == "soe")).sum()
    positive = (table["label"] == "soe").sum()
    f1 = 2 * (positive - missed) / (2 * positive - missed)
    assert missed > 0
    assert by_arm.at["trainer", "test/f1"] == pytest.approx(f1)
    row = by_arm.loc["top_layer_first"]
    assert row["delta/trainer/f1"] == pytest.approx(1 - f1)
    assert row["delta/trainer/f1_low"] < 1 - f1 < row["delta/trainer/f1_high"]
