"""What benchmarks measure is what they say; how fast it is stands in their own output."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def filters(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import filters

    return filters


def test_iterated_is_measured_against_a_plain_fit(
    filters: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(filters, "PROTOCOLS", 3)
    monkeypatch.setattr(filters, "ROUNDS_OF_ITERATED", 1)
    ratios = filters.iterated_ratios()
    assert set(ratios) == {"iterated_per_fit", "iterated_per_sklearn_fit"}
    assert all(0 < ratio < 100 for ratio in ratios.values())
    assert "kept" in capsys.readouterr().out


def test_the_bare_bootstrap_computes_the_same_numbers(filters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import bootstrap

    monkeypatch.setattr(bootstrap, "REPLICATES", 200)
    monkeypatch.setattr(bootstrap, "ARMS", 1)
    predictions = bootstrap.made_predictions()
    (ours,), (bare,) = bootstrap.ours(predictions), bootstrap.bare(predictions)
    assert set(ours) == set(bare)
    for name, values in bare.items():
        assert np.allclose(ours[name], values, equal_nan=True), name


def test_the_exponent_of_growth_is_that_of_the_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scale

    def took(cpu: float) -> dict[str, Any]:
        return {
            "wall": 9 * cpu,
            "cpu": cpu,
            "most_mb": 500.0,
            "cpu_seconds": {"filter": cpu**2},
            "peak_mb": {"filter": 4.0},
        }

    last = {"first_half_mb": 300.0, "second_half_mb": 310.0}
    results = {n: {"none": took(n / 100), "predict_all": took(n**2 / 1e6) | last} for n in (1_000, 10_000)}
    summary = scale.summary(results)
    assert summary["exponents"] == {"1000-10000": {"none": 1.0, "predict_all": 2.0}}
    assert summary["exponents_of_the_filter"] == {"1000-10000": {"none": 2.0, "predict_all": 4.0}}
    assert summary["predict_half_mb"] == [300, 310]
    assert summary["cpu_seconds"]["10000"]["none"] == 100.0


def test_texts_of_the_scale_benchmark_are_the_same_every_time_and_some_votes_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scale

    for name in ("one", "other"):
        scale.write_data(tmp_path / name, 2_000)
    items, again = (pd.read_parquet(tmp_path / name / "items.parquet") for name in ("one", "other"))
    pd.testing.assert_frame_equal(items, again)
    votes = pd.read_parquet(tmp_path / "one" / "votes.parquet")
    gold = votes["item_id"].map(items.set_index("id")["gold"])
    assert (votes["label"] != gold).mean() == pytest.approx(scale.WRONG, abs=0.02)
    assert votes.loc[votes["label"] != gold, "confidence"].mean() < votes["confidence"].mean() - 0.05
