"""An empty job of the benchmark of sweeps is a whole run, and what it is held against logs as much."""

import os
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import sweeps

    return sweeps


def test_an_empty_job_has_parameters_metrics_and_three_artifacts(
    sweeps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(os.getcwd())
    seconds, experiment, n_params = sweeps.ours(tmp_path, 4)
    assert len(seconds) == 3
    assert all(0 < value < 10 for value in seconds)
    assert experiment == "1"
    assert n_params >= 60
    assert f"{n_params} parameters, 25 metrics, 3 artifacts" in capsys.readouterr().out
    assert len(sweeps.bare(tmp_path, 2, n_params)) == 2
    assert len(sweeps.empty_hydra(tmp_path, 3)) == 2
