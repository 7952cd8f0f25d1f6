"""What benchmarks measure is what they say; how fast it is stands in their own output."""

from pathlib import Path
from typing import Any

import numpy as np
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
