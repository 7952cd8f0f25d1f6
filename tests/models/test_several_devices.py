"""Tuning in several processes, on CPUs here: what they learn together, and what is told where one of them fails."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import tiny_causal
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune.errors import UserError
from silvertune.models import several_devices


@dataclass(frozen=True)
class Failing:
    """A student one of whose processes fails, while the others wait for it."""

    how: str
    device: str | None = "cpu"
    devices: int = 2

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Any:
        group = several_devices.group()
        if group.rank == 1:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"refused": UserError("model.rank=0: want more"), "wrong": ZeroDivisionError("by nothing")}[self.how]
        group.of_first(lambda: None)
        group.of_first(lambda: None)


def test_two_processes_learn_what_one_does_but_for_rounding(tmp_path: Path) -> None:
    folder, validation = tiny_causal.causal_lm(tmp_path / "network"), training().iloc[:7]
    predictors = []
    for devices in (1, 2):
        settings: Any = {"views": ["text"], "epochs": 2, "batch_size": 5, "learning_rate": 1e-3, "devices": devices}
        student = tiny_causal.student(folder, tmp_path / "cache", **settings)
        predictors.append(student.fit(training(), validation, seed=1))
    alone, together = predictors
    for one, other in zip(alone.history, together.history, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    probs, others = (predictor.predict_proba(ITEMS).to_numpy() for predictor in predictors)
    np.testing.assert_allclose(others, probs, rtol=0, atol=1e-5)
    assert together.sample == alone.sample
    together.save(tmp_path / "saved")  # which loads it and compares


@pytest.mark.soak
@pytest.mark.parametrize(
    ("how", "error", "told"),
    [
        ("refused", UserError, "model.rank=0: want more"),
        ("killed", UserError, "model.devices=2: process 1 of tuning was killed by signal 9"),
        ("wrong", RuntimeError, "ZeroDivisionError: by nothing"),
    ],
)
def test_what_one_process_meets_is_told_and_no_process_is_left(how: str, error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        several_devices.tune(Failing(how), training(), NOTHING, 0)


def test_the_shares_of_a_batch_are_the_batch() -> None:
    rows = np.arange(5)
    shares = [several_devices.Group(rank, 3).share(rows) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(rows)
    assert [len(share) for share in shares] == [2, 2, 1]
    assert [len(several_devices.Group(rank, 3).share(rows[:1])) for rank in range(3)] == [1, 0, 0]


def test_a_process_by_itself_is_a_group_of_one() -> None:
    group = several_devices.group()
    assert group.of_first(lambda: "made") == "made"
    assert group.add_up([], 0.5, 1.0) == 0.5


def test_more_devices_than_there_are_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    several_devices.check(2, torch.device("cuda"), None)
    with pytest.raises(UserError, match=r"model\.devices=3: this machine has 2 GPUs"):
        several_devices.check(3, torch.device("cuda"), None)
    with pytest.raises(UserError, match=r"model\.device=cuda:1: is one GPU, and model\.devices=2"):
        several_devices.check(2, torch.device("cuda:1"), "cuda:1")
    with pytest.raises(UserError, match=r"model\.devices=2: mps can't be shared"):
        several_devices.check(2, torch.device("mps"), "mps")
    several_devices.check(3, torch.device("cpu"), None)
