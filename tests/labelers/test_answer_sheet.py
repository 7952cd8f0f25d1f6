import csv
import datetime
from pathlib import Path

import openpyxl
import pytest
from tests import made

from silvertune.interfaces import Estimate
from silvertune.labelers.answer_sheet import AnswerSheet
from silvertune.schema import Task


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
    with made.refused(f"{path}, row 3:", "another text of item 'i001'", "as it was written out"):
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
        ("item_id,label\ni0,SOE\n", ["row 2", "column label: unknown label 'SOE'; want ?, other or soe"]),
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


DIGITS = Task(name="digits", classes=["0", "1"], positive="1")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ids", [["7", "8"], ["7.0", "8.0"], ["007", "008"]], ids=str)
def test_what_a_spreadsheet_makes_of_ids_labels_and_commas_is_understood(
    tmp_path: Path, ids: list[str], separator: str
) -> None:
    path, items = tmp_path / "answers.csv", made.items(3).set_axis(["007", "008", "010"])
    lines = [separator.join(row) for row in (("item_id", "label"), (ids[0], "1.0"), (ids[1], " 0"))]
    path.write_bytes("\r\n".join([*lines, ""]).encode())
    labeler = AnswerSheet(DIGITS, items.index, path=str(path), annotator="ann", cost_usd=0.0, views=["text"])
    assert labeler.label(items.iloc[:2])["label"].tolist() == ["1", "0"]
    with made.refused("1 of 3 item(s) wait"):
        labeler.label(items)
    assert path.read_text(encoding="utf-8-sig").splitlines() == [*lines, f"010{separator}"]


@pytest.mark.parametrize("name", ["answers.csv", "answers.xlsx"])
def test_empty_rows_are_no_answers_and_count_as_rows(tmp_path: Path, name: str) -> None:
    lines = [["item_id", "label"], ["i000", "soe"], [], ["", " "], ["i001", "other"], ["", ""]]

    def save() -> None:
        if name.endswith(".csv"):
            (tmp_path / name).write_text("".join(";".join(line) + "\n" for line in lines))
        else:
            book = openpyxl.Workbook()
            for line in lines:
                book.worksheets[0].append(line)
            book.save(tmp_path / name)

    save()
    assert sheet(tmp_path / name).label(made.items(2))["label"].tolist() == ["soe", "other"]
    lines[4][1] = "nothing of the kind"
    save()
    with made.refused(f"{name}, row 5: column label"):
        sheet(tmp_path / name)


def test_a_row_for_another_item_of_the_dataset_is_not_taken_for_one_with_the_same_number(tmp_path: Path) -> None:
    path, items = tmp_path / "answers.csv", made.items(2).set_axis(["8", "08"])
    path.write_text("item_id,label\n08,soe\n")
    with made.refused("1 of 1 item(s) wait"):
        AnswerSheet(made.SOE, items.index, path=str(path), annotator="a", cost_usd=0.0, views=None).label(
            items.iloc[:1]
        )


def test_labels_in_another_unicode_form_are_the_same_labels(tmp_path: Path) -> None:
    path, task = tmp_path / "answers.csv", Task(name="avis", classes=["\u00e9loge", "autre"])
    path.write_text("item_id,label\ni000,e\u0301loge\n", encoding="utf-8")
    sheet = AnswerSheet(task, path=str(path), annotator="a", cost_usd=0.0, views=None)
    assert sheet.label(made.items(1))["label"].tolist() == ["\u00e9loge"]


def test_several_people_answer_in_rows_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    lines = ["item_id,label,annotator", "i000,soe,ann", "i000,other,bob", "i001,?,", "i002,,bob"]
    path.write_text("\n".join(lines))
    votes = sheet(path).label(made.items(2))
    assert votes["annotator"].tolist() == ["ann/ann", "ann/bob", "ann"]
    assert votes["label"].tolist() == ["soe", "other", None]
    with made.refused("1 of 3 item(s) wait"):
        sheet(path).label(made.items(3))
    path.write_text("\n".join([*lines, "i000,soe,bob"]))
    with made.refused("row 6", "item_id 'i000' is there twice by ann/bob"):
        sheet(path)


def test_an_answer_about_an_item_that_the_dataset_does_not_have_is_told(tmp_path: Path) -> None:
    path, items = tmp_path / "answers.csv", made.items(3)
    path.write_text("item_id,label\ni000,soe\ni0002,soe\n")
    labeler = AnswerSheet(made.SOE, items.index, path=str(path), annotator="a", cost_usd=0.0, views=None)
    with made.refused(f"{path}, row 3", "no item 'i0002'", "such as 'i000'"):
        labeler.label(items.iloc[:1])


class TestWorkbook:
    def filled(self, path: Path, column: int, values: list[object]) -> None:
        """What people do: write into a column, in Excel."""
        book = openpyxl.load_workbook(path)
        for row, value in enumerate(values, start=2):
            book.worksheets[0].cell(row, column).value = value
        book.save(path)

    def test_items_go_out_and_answers_come_back(self, tmp_path: Path) -> None:
        path, items = tmp_path / "answers.xlsx", made.items(3)
        items.loc["i000", "text"] = '=1+1 "quoted"\nline'
        items.loc["i001", "text"] = None
        with made.refused("2 of 2 item(s) wait", "column label"):
            sheet(path).label(items.iloc[:2])
        table = openpyxl.load_workbook(path).active
        assert [cell.value for cell in table[1]] == ["item_id", "group_id", "json", "text", "label"]
        assert [cell.value for cell in table[2]][3:] == ['=1+1 "quoted"\nline', None]
        assert table["D2"].data_type == "s"
        self.filled(path, 5, ["soe", "?"])
        with made.refused("1 of 3 item(s) wait"):
            sheet(path).label(items)
        self.filled(path, 5, ["soe", "?", " other"])
        votes = sheet(path).label(items)
        assert votes["label"].tolist() == ["soe", None, "other"]
        self.filled(path, 4, ["another text"])
        with made.refused(f"{path}, row 2", "another text of item 'i000'"):
            sheet(path).label(items)

    def test_what_excel_makes_of_ids_and_labels_is_understood_or_told(self, tmp_path: Path) -> None:
        path, items = tmp_path / "answers.xlsx", made.items(2).set_axis(["007", "1-2"])
        labeler = AnswerSheet(DIGITS, items.index, path=str(path), annotator="ann", cost_usd=0.0, views=["text"])
        with made.refused("2 of 2 item(s) wait"):
            labeler.label(items)
        self.filled(path, 4, [1, 0.0])
        self.filled(path, 1, [7])
        assert labeler.label(items)["label"].tolist() == ["1", "0"]
        self.filled(path, 1, [7, datetime.datetime(2026, 2, 1)])
        with made.refused("row 3", "no item '2026-02-01 00:00:00'"):
            labeler.label(items)

    def test_further_sheets_are_of_other_people(self, tmp_path: Path) -> None:
        path, items = tmp_path / "answers.xlsx", made.items(1)
        with made.refused("wait"):
            sheet(path, views=["text"]).label(items)
        self.filled(path, 4, ["soe"])
        book = openpyxl.load_workbook(path)
        for name, label in (("bob", "other"), ("eve", "?")):
            copy = book.copy_worksheet(book.worksheets[0])
            copy.title = name
            copy["D2"] = label
        book.create_sheet("empty")
        book.save(path)
        votes = sheet(path).label(items)
        assert list(zip(votes["annotator"], votes["label"], strict=True)) == [
            ("ann", "soe"), ("ann/bob", "other"), ("ann/eve", None),
        ]  # fmt: skip

    def test_what_no_workbook_can_hold_is_told_and_nothing_is_written(self, tmp_path: Path) -> None:
        path, items = tmp_path / "answers.xlsx", made.items(1)
        for text, told in (("x" * 40_000, "40000 characters"), ("\x01", "can't hold")):
            items.loc["i000", "text"] = text
            with made.refused(str(path), "row 2", told, "csv"):
                sheet(path).label(items)
            assert not path.exists()
        path.write_text("item_id,label\n")
        with made.refused(str(path), "Excel workbook"):
            sheet(path)
