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
    breaks, _ = promises.broken(promises.CASES[scenario], 200)
    assert breaks <= 14  # 7%


def test_the_audits_intervals_hold_and_are_narrower_than_plain_ones(promises: Any) -> None:
    table = promises.covered(promises.AUDITED["even classes"], 100)
    assert table["covered"].between(0.88, 1.0).all()
    assert (table["narrower"] > 1).all()
    assert table.at["share yes", "narrower"] > 1.2


@pytest.mark.soak
def test_the_cascades_bound_is_kept_in_every_scenario(promises: Any) -> None:
    for name, case in {**promises.CASES, **promises.FRESH_CASES}.items():
        assert promises.broken(case, 200)[0] <= 14, name


@pytest.mark.soak
def test_the_audits_intervals_cover_in_every_scenario(promises: Any) -> None:
    for name, scenario in {**promises.AUDITED, **promises.FRESH, **promises.LAST}.items():
        table = promises.covered(scenario, 500)
        assert (table["covered"] >= 0.92).all(), (name, table)  # .95 with its chance in 500 draws
        assert 0.93 <= table["covered"].mean() <= 0.98, (name, table)  # few answers about something rare: cautious
        assert (table["narrower"] >= 0.96).all(), (name, table)
