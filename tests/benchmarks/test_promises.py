"""The promises of the cascade and of the audit, kept in simulations."""

from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def promises(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import promises

    return promises


@pytest.mark.parametrize("scenario", ["calibrated", "just below the bound everywhere"])
def test_the_cascades_bound_is_broken_as_seldom_as_promised(promises: Any, scenario: str) -> None:
    breaks, _ = promises.broken(promises.RISKS[scenario], 200)
    assert breaks <= 14  # 7%


def test_the_audits_intervals_hold_and_are_narrower_than_plain_ones(promises: Any) -> None:
    table = promises.covered(promises.AUDITED["even classes"], 100)
    assert table["covered"].between(0.88, 1.0).all()
    assert (table["narrower"] > 1).all()
    assert table.at["share yes", "narrower"] > 1.2


@pytest.mark.soak
def test_the_cascades_bound_is_kept_in_every_scenario(promises: Any) -> None:
    for risk in promises.RISKS.values():
        assert promises.broken(risk, 200)[0] <= 14
    for within in promises.GROUPED.values():
        assert promises.broken(promises.RISKS["overconfident"], 200, n=1500, within=within)[0] <= 14


@pytest.mark.soak
def test_the_audits_intervals_cover_in_every_scenario(promises: Any) -> None:
    for name, shares in promises.AUDITED.items():
        table = promises.covered(shares, 500)
        of_all = table.drop(index=["precision yes", "recall yes"]) if name == "rare class" else table
        assert of_all["covered"].between(0.93, 0.97).all(), (name, table)
        assert (table["covered"] >= 0.93).all()  # of a rare class's few answers the intervals are cautious
        assert (table["narrower"] > 1).all()
