"""A finished study as tables and figures: they are those that the sweep logged."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tests import cli, made

import silvertune
from silvertune.study.loaded import LoadedStudy
from silvertune.study.result import SweepResult
from silvertune.tracking import store


@pytest.fixture
def loaded(finished: Path) -> LoadedStudy:
    return silvertune.load_study("tiny", uri=cli.client(finished).tracking_uri)


def test_the_arms_are_the_table_that_the_sweep_logged(finished: Path, loaded: LoadedStudy) -> None:
    client, (parent,) = cli.client(finished), cli.parents(finished, "tiny")
    logged = pd.read_csv(client.download_artifacts(parent.info.run_id, "comparison.csv", str(finished)))
    pd.testing.assert_frame_equal(loaded.arms, logged.fillna({"variant": ""}), check_dtype=False)
    assert loaded.run_id == parent.info.run_id
    assert len(loaded.run_ids) == 8
    assert list(loaded.arms["arm"]) == ["base", "all", "confident", "expert"]


def test_each_difference_is_a_row(loaded: LoadedStudy) -> None:
    differences, arms = loaded.differences, loaded.arms.set_index("arm")
    assert loaded.references == ["expert", "all"]
    assert set(differences["reference"]) == {"expert", "all"}
    for row in differences.to_dict("records"):
        assert row["arm"] != row["reference"]
        assert row["f1"] == arms.loc[row["arm"], f"delta/{row['reference']}/f1"]
        assert row["low"] <= row["f1"] <= row["high"]
        assert 0 <= row["p"] <= row["p_holm"] <= 1


def test_tables_of_the_runs_say_of_which_arm_and_seed_they_are(loaded: LoadedStudy) -> None:
    few = loaded.only("confident", seeds=[1])
    assert list(few.run_ids) == ["confident/tfidf_logreg/s1"]
    predictions = few.predictions
    assert set(predictions["arm"]) == {"confident"}
    assert set(predictions["seed"]) == {1}
    assert {"item_id", "label", "gold"} <= set(predictions)
    assert {"item_id", "annotator", "view", "label", "stage"} <= set(few.votes)
    assert {"item_id", "keep", "reason", "fold"} <= set(few.decisions)
    assert list(few.arms["arm"]) == ["confident"]
    both = loaded.only("confident").predictions
    assert len(both) == 2 * len(predictions)
    with made.refused("arms='al'", "base, all, confident or expert"):
        loaded.only("al")
    with made.refused("seeds=[7]: no run of these arms has such a seed; there are 0 or 1"):
        loaded.only("all", seeds=[7])


def test_a_table_is_the_callers_own(loaded: LoadedStudy) -> None:
    table = loaded.arms
    table["arm"] = "x"
    assert "x" not in set(loaded.arms["arm"])


def test_figures_and_the_study_show_themselves_in_a_notebook(loaded: LoadedStudy) -> None:
    assert {"arms", "groups"} <= set(loaded.figures)
    assert loaded.figures["arms"]._repr_png_().startswith(b"\x89PNG")
    assert repr(loaded) == f"tiny: 8 runs, sweep {loaded.run_id}"
    page = loaded._repr_html_()
    assert page.startswith("<h3>tiny: 8 runs</h3>")
    assert "confident" in page
    assert page.count("data:image/png;base64,") == 1


def test_a_production_run_shows_itself_without_a_table(loaded: LoadedStudy) -> None:
    production = replace(loaded, run_id=next(iter(loaded.run_ids.values())), name="<mine>")  # has no comparison
    assert production._repr_html_().startswith("<p>&lt;mine&gt;: 8 runs, sweep ")
    with made.refused("has no comparison.csv; its runs were not compared"):
        _ = production.arms


def test_a_study_is_found_by_its_run_its_folder_and_its_result(
    finished: Path, loaded: LoadedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = cli.client(finished).tracking_uri
    assert silvertune.load_study(loaded.run_id, uri=uri).run_ids == loaded.run_ids
    assert silvertune.load_study(SweepResult(uri, "tiny", loaded.run_id)).run_ids == loaded.run_ids


def test_an_experiment_is_its_newest_sweep_that_compared_runs_whatever_was_tuned_for_production_since(
    finished: Path, loaded: LoadedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = cli.client(finished).get_run(next(iter(loaded.run_ids.values())))  # has no comparison either
    real = store.runs
    monkeypatch.setattr(store, "runs", lambda *arguments: [*real(*arguments), later])
    assert silvertune.load_study("tiny", uri=cli.client(finished).tracking_uri).run_id == loaded.run_id


@pytest.mark.parametrize(
    ("name", "told"),
    [("nope", "nope: no such experiment"), ("0" * 32, "can't be used"), ("Default", "no sweep in this experiment")],
)
def test_what_is_not_there_is_told(finished: Path, name: str, told: str) -> None:
    with made.refused(told):
        silvertune.load_study(name, uri=cli.client(finished).tracking_uri)


def test_a_run_that_is_no_sweeps_own_is_refused(finished: Path, loaded: LoadedStudy) -> None:
    with made.refused("nothing of run", "no sweep's own run"):
        silvertune.load_study(next(iter(loaded.run_ids.values())), uri=cli.client(finished).tracking_uri)


def test_a_folder_without_a_store_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("tiny", "0" * 32):
        with made.refused("there is no such store"):
            silvertune.load_study(name, dir=str(tmp_path))
