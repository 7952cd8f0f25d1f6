"""`silvertune-audit`: a sheet for people, estimates from their answers, and what it refuses."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from tests import cli
from tests.labelers.test_label_studio import annotation, export, read
from tests.production.conftest import COLUMNS
from tests.production.test_cascade import SURE, UNSURE

from silvertune.errors import WAITS_FOR_PEOPLE
from silvertune.production import audit, model, populations


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    content = [{"id": f"r{k}", "a": "", "b": f"{(SURE + UNSURE)[k % 7]} {k}"} for k in range(300)]
    pd.DataFrame([*content, {"id": "empty", "a": "", "b": ""}]).to_csv(path, index=False)
    return path


def status_of(*arguments: object) -> int | str | None:
    return cli.status_of(audit.main, *arguments)


def truth(item: str) -> str:
    k = int(item[1:])
    return "tea" if k % 7 in (0, 1, 2, 5) and k % 10 else "oil"


def fill(sheet: Path, answer: object = truth, more: tuple[tuple[str, str], ...] = ()) -> None:
    with sheet.open(newline="", encoding="utf-8-sig") as file:
        written = list(csv.DictReader(file))
    for row in written:
        row["label"] = row["label"] or answer(row["item_id"])  # type: ignore[operator]
    for item, label in more:
        written.append({**dict.fromkeys(written[0], ""), "item_id": item, "label": label})
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(written[0]))
        writer.writeheader()
        writer.writerows(written)


def test_a_sheet_is_drawn_answered_and_estimated(
    folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "a.csv"
    arguments = (folder, rows, "--labels", 80, "--sheet", sheet)
    assert status_of(*arguments) == WAITS_FOR_PEOPLE
    said = capsys.readouterr()
    assert said.out == "80 items are drawn from 300\n"
    assert said.err.startswith(
        f"silvertune-audit: {sheet}: 80 of 80 item(s) wait for an answer: fill in the column label"
    )
    first = sheet.read_bytes()
    assert status_of(*arguments) == WAITS_FOR_PEOPLE
    assert sheet.read_bytes() == first
    fill(sheet)
    assert status_of(*arguments) == 0
    said = capsys.readouterr().out
    assert "1 rows without text are not in the estimates" in said
    assert "plain sampling would need" in said
    assert "the next 50 answers would tell most there" in said
    estimates = pd.read_csv(f"{sheet}.estimates.csv").set_index(["measure", "class"], drop=False)
    table = populations.predict(model.from_folder(folder), COLUMNS, [(str(rows), "csv")]).table
    table = table[table["label"].notna()]
    true = pd.Series([truth(str(item)) for item in table.index], index=table.index)
    accuracy = estimates[estimates["measure"] == "accuracy"].iloc[0]
    assert accuracy["low"] <= (true == table["label"]).mean() <= accuracy["high"]
    share = estimates.loc[("share", "tea")]
    assert share["low"] <= (true == "tea").mean() <= share["high"]
    assert pd.read_csv(f"{sheet}.strata.csv")["answers"].sum() == 80


def test_more_labels_are_added_where_they_tell_most_and_answers_stay(
    folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "a.csv"
    status_of(folder, rows, "--labels", 60, "--sheet", sheet)
    fill(sheet)
    assert status_of(folder, rows, "--labels", 60, "--sheet", sheet) == 0
    assert status_of(folder, rows, "--labels", 85, "--sheet", sheet) == WAITS_FOR_PEOPLE
    assert "25 further items" in capsys.readouterr().out
    written = pd.read_csv(sheet, keep_default_na=False)
    assert len(written) == 85
    assert written["item_id"].is_unique
    assert (written["label"] != "").sum() == 60
    fill(sheet)
    assert status_of(folder, rows, "--labels", 85, "--sheet", sheet) == 0
    assert pd.read_csv(f"{sheet}.strata.csv")["answers"].sum() == 85


def test_those_who_do_not_know_are_counted(
    folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "a.csv"
    status_of(folder, rows, "--labels", 60, "--sheet", sheet)
    asked = pd.read_csv(sheet)["item_id"].tolist()
    fill(sheet, lambda item: "?" if item in asked[:3] else truth(item))
    assert status_of(folder, rows, "--labels", 60, "--sheet", sheet) == 0
    assert "57 answers; 3 answered ?" in capsys.readouterr().out
    pd.read_csv(sheet).assign(label="?").to_csv(sheet, index=False)
    said = str(status_of(folder, rows, "--labels", 60, "--sheet", sheet))
    assert said.endswith("a.csv: 0 of 60 answer(s) name a class, the others say ?; want 2 at least")


def test_rows_that_can_not_be_read_are_told(
    folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, more = tmp_path / "a.csv", tmp_path / "more.csv"
    more.write_text(rows.read_text() + '"ragged, row"\n')
    status_of(folder, more, "--labels", 60, "--sheet", sheet)
    fill(sheet)
    assert status_of(folder, more, "--labels", 60, "--sheet", sheet) == 0
    assert "1 row(s) that can't be read (the first: " in (said := capsys.readouterr().out)
    assert "are not in the estimates" in said


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ((("r1000", "tea"),), "row 62: item_id 'r1000' was not drawn"),
        ((("FIRST", "tea"),), "is there twice"),
        ((("r1000", "coffee"),), "row 62: column label: unknown label 'coffee'"),
    ],
)
def test_a_sheet_with_what_was_not_asked_is_refused(
    folder: Path, rows: Path, tmp_path: Path, more: tuple[tuple[str, str], ...], line: str
) -> None:
    sheet = tmp_path / "a.csv"
    status_of(folder, rows, "--labels", 60, "--sheet", sheet)
    first = pd.read_csv(sheet)["item_id"].iloc[0]
    fill(sheet, more=tuple((first if item == "FIRST" else item, label) for item, label in more))
    assert line in str(status_of(folder, rows, "--labels", 60, "--sheet", sheet))
    assert not Path(f"{sheet}.estimates.csv").exists()


def test_another_seed_model_or_file_needs_another_sheet(folder: Path, rows: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "a.csv"
    status_of(folder, rows, "--labels", 60, "--sheet", sheet)
    assert "was drawn with another seed" in str(status_of(folder, rows, "--sheet", sheet, "--seed", 1))
    rows.write_text(rows.read_text() + "new,,hot cup\n")
    assert "was drawn with other items" in str(status_of(folder, rows, "--sheet", sheet))
    other = tmp_path / "b.csv"
    other.write_text("item_id,label\n")
    assert "no plan of an audit beside it" in str(status_of(folder, rows, "--sheet", other))


def test_people_in_label_studio_are_asked_as_those_with_a_sheet_are(
    folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, studio = tmp_path / "a.csv", tmp_path / "studio"
    ask = ("--ask", "labeler=label_studio", f"labeler.path={studio}", "labeler.names={1: ann, bob@example.org: bob}")
    for people in (("--sheet", sheet), ask):
        assert status_of(folder, rows, "--labels", 60, *people) == WAITS_FOR_PEOPLE
    assert "60 of 60 item(s) wait for an answer" in (said := capsys.readouterr().err)
    assert "import tasks.json into a Label Studio project" in said
    tasks = read(studio / "tasks.json")
    assert all("predictions" not in task for task in tasks)  # they do not see what the model says
    fill(sheet)
    asked = [task["data"]["item_id"] for task in tasks]
    answers = {item: [annotation(truth(item), k % 2)] for k, item in enumerate(asked)}
    export(studio, answers)
    for people in (("--sheet", sheet), ask):
        assert status_of(folder, rows, "--labels", 60, *people) == 0
    for name in ("plan.json", "estimates.csv", "strata.csv"):
        assert Path(f"{studio}.{name}").read_bytes() == Path(f"{sheet}.{name}").read_bytes()

    for wrong, words in (
        ({"r1000": [annotation("tea")]}, "task 160: item_id 'r1000' was not drawn"),
        ({asked[0]: [annotation("tea", 1), annotation("tea", 2)]}, "has an answer by people/2, and one by people/ann"),
    ):
        export(studio, answers | wrong)
        said = str(status_of(folder, rows, "--labels", 60, *ask))
        assert f"{studio / 'export.json'}, task 1" in said
        assert words in said
    export(studio, answers)
    assert status_of(folder, rows, "--labels", 85, *ask) == WAITS_FOR_PEOPLE
    assert "25 of 85 item(s) wait" in (said := capsys.readouterr().err)
    assert "import tasks-2.json into" in said


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("labeler=simulated_panel",), "labeler: reads gold, and here is no dataset"),
        (("labeler=openai",), "want labeler=label_studio or labeler=answer_sheet"),
        (("labeler=label_studio", "task=soe"), "--ask=task=soe: want overrides of the labeler alone"),
        (("labeler=label_studio", "labeler.path=no/where"), "--ask labeler.path=no/where: want a path in a folder"),
    ],
)
def test_others_than_people_are_not_asked(folder: Path, rows: Path, overrides: tuple[str, ...], words: str) -> None:
    assert words in str(status_of(folder, rows, "--ask", *overrides))


def test_ids_that_stand_twice_are_refused(folder: Path, rows: Path, tmp_path: Path) -> None:
    rows.write_text(rows.read_text() + "r1,,hot cup\n")
    said = str(status_of(folder, rows, "--sheet", tmp_path / "a.csv"))
    assert "row 302 id 'r1' is there twice" in said
