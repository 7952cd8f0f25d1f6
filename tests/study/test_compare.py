"""`silvertune-compare`, on what a real sweep has logged."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tests import cli, forked


def compare(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return forked.run("silvertune.study.compare", folder, arguments, os.environ, timeout=120)


def parents_table(finished: Path) -> pd.DataFrame:
    client, (parent,) = cli.client(finished), cli.parents(finished, "tiny")
    return pd.read_csv(client.download_artifacts(parent.info.run_id, "comparison.csv", str(finished)))


def test_a_study_is_compared_again_as_its_sweep_did(finished: Path) -> None:
    done = compare(finished, "tiny", "--replicates", "200", "--out", "again")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (finished / "again").iterdir()}
    assert names == {"comparison.csv", "groups.csv", "comparison.html", "arms.png", "groups.png", "cost.png"}
    pd.testing.assert_frame_equal(pd.read_csv(finished / "again" / "comparison.csv"), parents_table(finished))
    page = (finished / "again" / "comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("data:image", "")
    assert "8 runs; written to again/comparison.html" in done.stdout


def test_some_arms_and_other_references(finished: Path) -> None:
    done = compare(finished, "tiny", "--arms", "confident,all", "--references", "base", "--out", "some")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(finished / "some" / "comparison.csv")
    assert table["arm"].to_list() == ["confident", "all", "base"]
    assert table["delta/base/f1"].notna().to_list() == [True, True, False]
    assert "delta/expert/f1" not in table


def test_some_arms_come_with_the_references_of_the_study(finished: Path) -> None:
    done = compare(finished, "tiny", "--arms", "confident", "--out", "few")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(finished / "few" / "comparison.csv")
    assert table["arm"].to_list() == ["confident", "expert", "all"]
    assert table["delta/expert/f1"].notna().to_list() == [True, False, True]


def test_a_query_chooses_runs(finished: Path) -> None:
    done = compare(finished, "tiny", "--runs", "tags.seed = '1'", "--out", "one")
    assert done.returncode == 0, done.stderr
    assert (pd.read_csv(finished / "one" / "comparison.csv")["seeds"] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nope",), "nope: no such experiment in sqlite:"),
        (("tiny", "--dir", "elsewhere"), "there is no such store"),
        (("tiny", "--arms", "al"), "--arms: no finished run of an arm 'al'; there are base, all, confident or expert"),
        (("tiny", "--references", "me"), "--references: no finished run of an arm 'me'"),
        (("tiny", "--runs", "tags.seed = '9'"), "no finished run matches"),
        (("tiny", "--runs", "what"), "--runs='what': "),
        (("tiny", "--replicates", "1"), "--replicates=1: want a whole number from 2"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(finished: Path, arguments: tuple[str, ...], told: str) -> None:
    done = compare(finished, *arguments)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.startswith("silvertune-compare: ")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [("evaluation.folds=2", "have other folds"), ("dataset.path=fewer.jsonl", "on different data")],
)
def test_what_is_not_comparable_is_refused(copied: Path, change: str, told: str) -> None:
    lines = (copied / "tables.jsonl").read_text().splitlines()
    (copied / "fewer.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    data = ("dataset.path=tables.jsonl",) if change.startswith("evaluation") else ()
    folds = ("evaluation.folds=3",) if change.startswith("dataset") else ()
    settings = ("labeler=expert", "filter=none", "model=none", "arm=other", "evaluation.replicates=20")
    done = cli.silvertune(copied, "tracking.experiment=tiny", *settings, *data, *folds, change)
    assert done.returncode == 0, done.stderr
    refused = compare(copied, "tiny")
    assert refused.returncode == 1
    assert told in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.soak
def test_runs_of_an_arm_with_other_settings_are_no_seeds_of_it(copied: Path) -> None:
    common = ("dataset.path=tables.jsonl", "labeler=expert", "filter=none", "tracking.experiment=mixed", "arm=mine")
    for settings in (["seed=0"], ["seed=1", "model.C=9"], ["seed=1", "evaluation.replicates=20", "model.C=8"]):
        done = cli.silvertune(copied, *common, *settings)
        assert done.returncode == 0, done.stderr
    refused = compare(copied, "mixed")
    assert refused.returncode == 1
    assert "of arm 'mine' with seeds 0 and 1 differ in more: model.C=" in refused.stderr
    chosen = compare(copied, "mixed", "--runs", "params.`model.C` = '9'", "--out", "nine")
    assert chosen.returncode == 0, chosen.stderr
    assert "1 runs; written" in chosen.stdout


def test_a_file_is_no_folder_to_write_into(finished: Path) -> None:
    refused = compare(finished, "tiny", "--out", "tables.jsonl")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "--out=tables.jsonl: can't be a folder" in refused.stderr


def test_help_is_instant() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-X", "importtime", "-m", "silvertune.study.compare", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: what else runs on the machine does not count. 0.1 s on a machine of 2024.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert not {"numpy", "pandas", "mlflow", "matplotlib"} & {line.split("|")[-1].strip() for line in
                                                             done.stderr.splitlines()}  # fmt: skip
