"""What the README and the pages show gives what they say: it is run, and its mistakes are made."""

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import cli
from tests.docs import blocks, data
from tests.docs.site import site

import silvertune
from silvertune.errors import UserError
from silvertune.study.result import SweepError, SweepWaitsError

README = (blocks.ROOT / "README.md").read_text(encoding="utf-8")
FAST = ["evaluation.replicates=20", "evaluation.folds=2", "tracking.save_models=false"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, as working directory, with the data that pages speak of."""
    data.write_all(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    blocks.forget_modules(tmp_path)


def page(name: str) -> str:
    """A page of the documentation, with what the site generates in it."""
    return str(site.filled_in((blocks.ROOT / "docs" / name).read_text(encoding="utf-8")))


def overrides(text: str, words: str) -> list[list[str]]:
    """The overrides of each `silvertune` command of a page that has these words in it."""
    commands = [
        command for block in blocks.blocks(text) if block.language == "sh" for command in blocks.commands(block)
    ]
    return [
        [word for word in command[1:] if word != "-m"]
        for command in commands
        if command[0] == "silvertune" and words in " ".join(command)
    ]


def test_its_study_has_its_arms(folder: Path) -> None:
    for name in ("your-data.md", "studies.md"):
        blocks.write_files(blocks.blocks(page(name)), folder)
    result = silvertune.run(["experiments=mine", "study.seeds=1", *FAST])
    assert len(result.run_ids) == 4
    assert len(cli.runs(folder, "mine")) == 4


def test_its_filter_and_that_of_the_page_keep_what_they_say(folder: Path) -> None:
    for text in (README, page("adding-a-part.md")):
        blocks.write_files(blocks.blocks(text), folder)
    commands = overrides(README + page("adding-a-part.md"), "short_text")
    assert len(commands) == 5
    for command in commands:
        if "hydra/launcher=fresh_process" in command:
            continue  # Hydra looks for plug-ins once a process; tests/test_extension.py runs it
        silvertune.run([*command, "labeler=expert", *FAST])
    kept = {run.data.tags["arm"]: run.data.metrics["labels/kept_fraction"] for run in cli.runs(folder, "silvertune")}
    assert set(kept) == {"expert/none", "expert/short_text", "expert/random_matched"}
    assert kept["expert/random_matched"] == kept["expert/short_text"]


MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    "Could not find 'filter/shrt_text'": ("", "", ["filter=shrt_text"]),
    "filter.short_text.longset: no such setting": ("", "", ["filter.short_text.longset=500"]),
    "filter.short_text.lables: my_filters.short_text needs it": ("labels, *", "lables, *", []),
    "filter.short_text: my_filters.short_text asks for gold": ("*, longest", "*, longest, gold", []),
    "want one row for each of these, indexed by item_id": (".fillna(0)", ".reset_index(drop=True)", []),
    "TypeError: Invalid comparison between dtype=int64 and str (my_filters.py:4)": (
        "", "", ["filter.short_text.longest=abc"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES)
def test_its_filter_written_wrong_is_told_as_the_page_shows(folder: Path, message: str) -> None:
    assert message in page("errors.md")
    right, wrong, more = MISTAKES[message]
    blocks.write_files(blocks.blocks(README), folder)
    module = folder / "my_filters.py"
    assert right in module.read_text()
    module.write_text(module.read_text().replace(right, wrong) if right else module.read_text())
    with pytest.raises(UserError) as failed:
        silvertune.run(["dataset.path=tables.jsonl", "labeler=expert", "filter=short_text", *more])
    told = failed.value.result.failures[0].error if isinstance(failed.value, SweepError) else str(failed.value)
    assert message in told


def test_its_labelling_by_an_llm_can_be_planned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "none")
    blocks.write_files(blocks.blocks(page("labels-by-llms.md")), folder)
    silvertune.run(["dataset=messages", "task=complaints", "labeler=gemini", "mode=plan"])
    assert "labelling all items takes at most 20 calls, 0 of them already stored" in capsys.readouterr().out
    assert not (folder / "mlruns" / "mlflow.db").exists()


def test_people_answer_in_a_spreadsheet_as_the_page_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks.write_files(blocks.blocks(page("your-data.md")), folder)
    (command,) = overrides(page("labels-by-people.md"), "budgeted_answer_sheet")
    # Seven of each of two pools, for speed.
    command = [word.replace("budget.items=50", "budget.items=7") for word in command]
    command += FAST
    silvertune.run([*command, "mode=plan"])
    assert re.search(r"at most 14 calls", capsys.readouterr().out)
    with pytest.raises(SweepWaitsError, match="wait for an answer"):
        silvertune.run(command)
    with (folder / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 7 <= len(rows) <= 14
    with (folder / "answers.csv").open("w", encoding="utf-8-sig", newline="") as file:
        sheet = csv.DictWriter(file, list(rows[0]))
        sheet.writeheader()
        sheet.writerows(row | {"label": "complaint" if "Review: broken" in row["text"] else "other"} for row in rows)
    silvertune.run(command)
    (run,) = [run for run in cli.runs(folder, "silvertune") if run.info.status == "FINISHED"]
    assert run.data.metrics["labels/human_labels"] == len(rows)
    assert 0 <= run.data.metrics["labels/audit_noise"] <= 1


def test_the_readme_says_what_was_measured_where_nobody_tuned() -> None:
    """The figure of the development tables never stands without those of others."""
    for text in (README, page("results.md"), (blocks.ROOT / "experiments" / "soe_filters.md").read_text()):
        assert ".009" in text
        for figure in (
            ".581",
            ".824",
            ".902",
            ".946",
            ".950",
            ".445",
            ".767",
            ".788",
            ".942",
            ".869",
            "-.082 to -.013",
        ):
            assert figure in text
