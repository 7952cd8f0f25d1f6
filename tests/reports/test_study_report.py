"""The page of a study stays small however many groups there are."""

from pathlib import Path

import pandas as pd
import pytest
from tests.reports.test_tables import TABLE

from silvertune.evaluation.comparison import Comparison
from silvertune.reports import figures, study_report


def by_group(n: int) -> pd.DataFrame:
    names = [f"g{number:04d}" for number in range(n)]
    measured = {"n": 5.0, "n_positive": 3.0, "precision": 0.5, "recall": 0.5, "f1": 0.5, "accuracy": 0.5}
    return pd.concat(
        [
            pd.DataFrame({"group_id": names, **measured, "arm": arm, "model": "m", "variant": "", "simulated": False})
            for arm in ("all", "expert")
        ],
        ignore_index=True,
    )


@pytest.mark.parametrize(("groups", "shown"), [(6, 6), (7, 6)])
def test_the_page_shows_a_sample_of_many_groups_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int, shown: int
) -> None:
    monkeypatch.setattr(study_report, "MOST_GROUPS", 6)
    styles = figures.styles(list(TABLE["arm"]))
    table = TABLE.assign(**{"labels/human_labels": 0.0, "labels/cost_usd": 0.0})
    study_report.write(tmp_path, Comparison(table, by_group=by_group(groups)), [], "pets", styles)
    page = (tmp_path / "comparison.html").read_text()
    assert sum(f"<td>g{number:04d}</td>" in page for number in range(groups)) == shown
    assert ("the first 6 of 7 groups; groups.csv has all" in page) == (groups > shown)
    assert pd.read_csv(tmp_path / "groups.csv")["group_id"].nunique() == groups
