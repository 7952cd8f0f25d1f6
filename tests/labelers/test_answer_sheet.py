import csv
from pathlib import Path

import pytest
from tests import made

from silvertune.interfaces import Estimate
from silvertune.labelers.answer_sheet import AnswerSheet


def sheet(path: Path, **changes: object) -> AnswerSheet:
    return AnswerSheet(made.SOE, path=str(path), **({"annotator": "ann", "cost_usd": 0.5, "views": None} | changes))  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def answer(path: Path, **answers: str) -> None:
    """What people do: write into the column `label`."""
    there = rows(path)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(there[0]))
        writer.writeheader()
        writer.writerows(row | {"label": answers.get(row["item_id"], row["label"])} for row in there)


def test_items_go_out_as_csv_and_answers_come_back(tmp_path: Path) -> None:
    items, path = made.items(3), tmp_path / "new folder" / "answers.csv"
    items.loc["i001", "text"] = 'a, "quoted"\nline'
    with made.refused(str(path), "3 of 3 item(s) wait", "column label (other, soe or ?)", "again"):
        sheet(path).label(items)
    assert [row["item_id"] for row in rows(path)] == ["i000", "i001", "i002"]
    assert rows(path)[1]["text"] == 'a, "quoted"\nline'
    assert {row["label"] for row in rows(path)} == {""}
    answer(path, i000="soe", i001="?")
    with made.refused("1 of 3 item(s) wait"):
        sheet(path).label(items)
    answer(path, i002=" other ")
    votes = sheet(path).label(items)
    assert votes["label"].tolist() == ["soe", None, "other"]
    assert votes["status"].tolist() == ["ok", "abstained", "ok"]
    assert set(votes["annotator"]) == {"ann"}
    assert votes["cost_usd"].tolist() == [0.5] * 3
    assert sheet(path).estimate(items) == {"ann": Estimate()}


def test_further_items_are_added_and_answers_stay(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with made.refused("wait"):
        sheet(path).label(made.items(2))
    answer(path, i000="soe")
    with made.refused("3 of 4 item(s) wait"):
        sheet(path).label(made.items(4))
    assert {row["item_id"]: row["label"] for row in rows(path)} == {"i000": "soe", "i001": "", "i002": "", "i003": ""}
    assert sheet(path).label(made.items(1))["label"].tolist() == ["soe"]
    assert sheet(path).estimate(made.items(4))["ann"].dollars == 1.5


def test_an_answer_to_another_text_is_refused(tmp_path: Path) -> None:
    path, items = tmp_path / "answers.csv", made.items(2)
    items.loc["i001", "json"] = None
    with made.refused("wait"):
        sheet(path).label(items)
    answer(path, i000="soe", i001="other")
    spaced = items.assign(text=items["text"].str.replace(" ", "\r\n", n=1))
    assert sheet(path).label(spaced)["label"].tolist() == ["soe", "other"]
    items.loc["i001", "text"] = "of another data set"
    with made.refused(f"{path}, row 3:", "another text of item 'i001'", "labeler.path"):
        sheet(path).label(items)
    assert sheet(path).label(items.iloc[:1])["label"].tolist() == ["soe"]


def test_people_may_be_shown_some_views_only_and_no_label(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with made.refused("wait"):
        sheet(path, views=["text"]).label(made.items(1))
    assert list(rows(path)[0]) == ["item_id", "group_id", "text", "label"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("item_id,label\ni0,SOE\n", ["row 2", "label 'SOE' is no class; want other, soe or ?"]),
        ("item_id,label\ni0,soe\ni0,soe\n", ["row 3", "item_id 'i0' is there twice"]),
        ("item_id,label\n,soe\n", ["row 2", "has no item_id"]),
        ("item,label\ni0,soe\n", ["has no column 'item_id'"]),
        ("", ["has no column 'item_id'"]),
    ],
)
def test_a_file_that_is_none_is_told_with_its_row(tmp_path: Path, text: str, told: list[str]) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with made.refused(str(path), *told):
        sheet(path)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_bytes(b"item_id,label\n\xff\xfe,soe\n")
    with made.refused(str(path), "UTF-8"):
        sheet(path)
