"""What the sweep's own run says: the best arm by its own rule, and a table that Markdown shows as it is."""

import pandas as pd
import pytest
from tests.reports.test_tables import row

from silvertune.reports import study_note


def table(**f1_by_arm: float) -> pd.DataFrame:
    rows = [
        row(arm, simulated="simulated" in arm, delta=None if arm == "expert" else f1 - 0.9) | {"test/f1": f1}
        for arm, f1 in f1_by_arm.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("f1_by_arm", "with_gold", "best"),
    [
        ({"all": 0.5, "filtered": 0.7, "expert": 0.9}, set(), "filtered"),
        ({"hybrid_simulated": 0.8, "filtered": 0.7, "expert": 0.9}, set(), "filtered"),
        ({"oracle": 0.8, "filtered": 0.7, "expert": 0.9}, {"oracle"}, "filtered"),
        ({"filtered": float("nan"), "all": 0.5}, set(), "all"),
        ({"expert": 0.9}, set(), "expert"),
        ({"hybrid_simulated": 0.9}, set(), None),
        ({"filtered": float("nan")}, set(), None),
    ],
)
def test_the_best_arm_has_the_highest_f1_of_those_that_could_be_used(
    f1_by_arm: dict[str, float], with_gold: set[str], best: str | None
) -> None:
    found = study_note.best_arm(table(**f1_by_arm), ["expert"], with_gold)
    assert (None if found is None else found["arm"]) == best


def test_its_figures_are_metrics() -> None:
    best = study_note.best_arm(table(filtered=0.7, expert=0.9), ["expert", "crowd"], set())
    assert best is not None
    assert study_note.metrics(best, ["expert", "crowd"]) == pytest.approx(
        {
            "best/f1": 0.7, "best/f1_low": 0.804, "best/f1_high": 1.0,
            "best/delta/expert/f1": -0.2, "best/delta/expert/f1_low": -0.325, "best/delta/expert/f1_high": -0.075,
        }
    )  # fmt: skip


def test_the_note_has_the_best_arm_and_a_row_an_arm() -> None:
    arms = table(**{"a|b_c": 0.7, "hybrid_simulated": 0.8, "expert": 0.9})
    note = study_note.markdown(arms, ["expert"], study_note.best_arm(arms, ["expert"], set()))
    assert note.startswith("Best arm: **a\\|b\\_c** with m, F1 0.700 (0.804, 1.000); it was chosen by this figure")
    rows = [line for line in note.splitlines() if line.startswith("|")]
    assert rows[0] == "| arm | F1 | Δ expert | kept % | noise before | noise after |"
    assert rows[2].startswith("| a\\|b\\_c | .700 (.804, 1.000) | -.200 (-.325, -.075) | 62 | .200 |  |")
    assert len(rows) == 5
    assert "\\* simulated" not in note
    assert "* simulated annotators gave these labels." in note


def test_of_many_arms_the_note_has_the_first_and_says_of_how_many() -> None:
    arms = table(**{f"arm{k:03d}" * 5: 0.5 for k in range(100)})
    note = study_note.markdown(arms, [], study_note.best_arm(arms, [], set()))
    assert len(note) <= study_note.LONGEST
    shown = sum(line.startswith("| arm") for line in note.splitlines()) - 1
    assert 10 < shown < 100
    assert f"The first {shown} of 100 arms; comparison.html has all." in note


def test_without_a_usable_arm_it_says_so() -> None:
    assert study_note.markdown(table(x_simulated=0.5), [], None).startswith("No arm without simulated labels or gold")
