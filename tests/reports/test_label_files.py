"""The report as files: the tables come back as they were, the page stands alone."""

from pathlib import Path

import pandas as pd
import pytest
from tests.reports.test_label_figures import report

from silvertune.evaluation import label_quality
from silvertune.evaluation.findings import Finding
from silvertune.reports import label_files


def test_tables_figures_findings_and_page(tmp_path: Path) -> None:
    made = report()
    label_files.write(made, [Finding("odd", "Cats < dogs.")], tmp_path, "arm/<model>/s0")
    assert (tmp_path / "findings.md").read_text() == "- Cats < dogs. (`odd`)\n"
    by_class = pd.read_csv(tmp_path / "label_quality" / "by_class.csv").set_index("class")
    pd.testing.assert_frame_equal(by_class, made.by_class, check_names=False)
    assert {path.stem for path in (tmp_path / "label_quality").iterdir()} == set(label_quality.tables(made))
    page = (tmp_path / "label_quality.html").read_text()
    assert "Cats &lt; dogs." in page
    assert "arm/&lt;model&gt;/s0" in page
    assert page.count("data:image/png;base64,") == len(list((tmp_path / "figures").iterdir()))
    assert 'src="http' not in page


def test_without_gold_and_findings_there_is_a_page(tmp_path: Path) -> None:
    label_files.write(report(gold=0), [], tmp_path, "x")
    assert "No rule found anything." in (tmp_path / "label_quality.html").read_text()
    assert not (tmp_path / "figures" / "risk_coverage.png").exists()
    assert (tmp_path / "figures" / "prevalence.png").exists()


def test_a_table_that_is_cut_short_says_of_how_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = report()
    label_files.write(made, [], tmp_path, "x")
    assert "rows; label_quality/" not in (tmp_path / "label_quality.html").read_text()
    monkeypatch.setattr(label_files, "MOST_ROWS", 1)
    label_files.write(made, [], tmp_path, "x")
    page = (tmp_path / "label_quality.html").read_text()
    assert f"The first 1 of {len(made.by_class)} rows; label_quality/by_class.csv has all." in page


def test_a_finding_leads_to_the_items_behind_it_where_there_is_a_page_with_them(tmp_path: Path) -> None:
    found = [Finding("odd", "Cats < dogs.", {"show": "dropped", "label": 'a&b"<'}), Finding("all", "All are odd.")]
    label_files.write(report(), found, tmp_path, "x", has_browser=True)
    page = (tmp_path / "label_quality.html").read_text()
    link = 'Cats &lt; dogs. <a href="labels_browser.html#show=dropped&amp;label=a%26b%22%3C">the items</a></li>'
    assert link in page
    assert "<li>All are odd.</li>" in page
    label_files.write(report(), found, tmp_path, "x")
    assert "labels_browser" not in (tmp_path / "label_quality.html").read_text()
