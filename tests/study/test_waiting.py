"""A run that waits for people is no failure: the others are finished, and the same command goes on."""

import csv
import re
from pathlib import Path

from tests import cli

STUDY = """# @package _global_
defaults:
  - override /evaluation: holdout
study:
  arms:
    machine: [labeler=recorded, 'labeler.annotators=[machine]', filter=none]
    people: [labeler=recorded, 'labeler.annotators=[machine]', filter=none, fallback=budgeted_answer_sheet]
  references: [machine]
evaluation: {replicates: 50}
on_error: stop
dataset:
  path: tables.jsonl
  annotations:
    machine: {column: machine, confidence: sure, values: {0: other, 1: soe}}
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def answer(path: Path, n_answers: int) -> None:
    rows = rows_of(path)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for number, row in enumerate(rows):
            label = "soe" if row["item_id"][-1] in "012" else "other"
            writer.writerow(row | {"label": label if number < n_answers else ""})


def assert_planned(folder: Path, words: str) -> None:
    plan = cli.silvertune(folder, "experiments=tiny", "mode=plan")
    assert plan.returncode == 0, plan.stderr
    assert f"people/tfidf_logreg/s0: {words}" in plan.stdout


def test_a_study_with_an_arm_that_waits_for_people_goes_on_when_they_have_answered(tmp_path: Path) -> None:
    cli.write_tables(tmp_path)
    cli.write_study(tmp_path, STUDY)
    command = ("experiments=tiny",)
    for n_answers in (1, 2):
        waits = cli.silvertune(tmp_path, *command)
        assert waits.returncode == 75, waits.stderr
        assert "1 of 2 run(s) wait for people; the same command goes on" in waits.stderr
        assert "WAITING people/tfidf_logreg/s0: answers.csv: " in waits.stderr
        assert "failed" not in waits.stderr
        assert re.search("people/tfidf_logreg/s0 +.+ waits for people", waits.stdout)
        (parent,) = cli.parents(tmp_path, "tiny")
        assert (parent.info.status, parent.data.tags["silvertune.state"]) == ("SCHEDULED", "waiting")
        statuses = {run.data.tags["arm"]: run for run in cli.runs(tmp_path, "tiny")}
        assert len(cli.runs(tmp_path, "tiny")) == 2
        assert statuses["machine"].info.status == "FINISHED"
        assert statuses["people"].info.status == "SCHEDULED"
        assert statuses["people"].data.tags["silvertune.state"] == "waiting"
        assert "wait for an answer" in statuses["people"].data.tags["waits_for"]
        assert "error" not in statuses["people"].data.tags
        answer(tmp_path / "answers.csv", n_answers)
    n_items = len(rows_of(tmp_path / "answers.csv"))
    assert_planned(tmp_path, f"waits for people: {n_items - 2} of {n_items} answer(s) are missing in answers.csv")
    answer(tmp_path / "answers.csv", 100)
    done = cli.silvertune(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    (parent,) = cli.parents(tmp_path, "tiny")
    assert (parent.info.status, parent.data.tags["silvertune.state"]) == ("FINISHED", "")
    assert [run.info.status for run in cli.runs(tmp_path, "tiny")] == ["FINISHED", "FINISHED"]
    assert "people" in done.stdout


def test_a_failure_beside_a_run_that_waits_is_still_a_failure(tmp_path: Path) -> None:
    cli.write_tables(tmp_path)
    arm = (
        "  broken: [labeler=recorded, 'labeler.annotators=[machine]', filter=confidence, filter.confidence.at_least=1]"
    )
    cli.write_study(tmp_path, STUDY.replace("  references:", f"  {arm}\n  references:").replace("on_error: stop\n", ""))
    broken = cli.silvertune(tmp_path, "experiments=tiny")
    assert broken.returncode == 1, broken.stderr
    assert "1 of 3 run(s) wait for people" in broken.stderr
    assert "1 failed" in broken.stderr
    (parent,) = cli.parents(tmp_path, "tiny")
    assert parent.info.status == "FAILED"
