import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import made

from silvertune import votes
from silvertune.errors import UserError
from silvertune.labelers.recorded import Recorded
from silvertune.schema import Task

ITEMS = made.items(4)
STANCE = Task(name="stance", classes=["Against", "Favor", "None"])


def annotations(task: Task) -> pd.DataFrame:
    """Three people on four items: ann does not know i000, bob knows neither i000 nor i001, cy saw i002 only."""
    said: dict[str, dict[str, str | None]] = {
        "expert": {"i000": "soe", "i001": "soe", "i002": "other", "i003": "other"},
        "non_expert/ann": {"i000": None, "i001": "soe", "i002": "soe"},
        "non_expert/bob": {"i000": None, "i001": None, "i002": "other"},
        "cy": {"i002": "soe"},
    }
    rows = [
        {"item_id": item, "annotator": who, "view": "item", "label": label}
        for who, labels in said.items()
        for item, label in labels.items()
    ]
    return votes.table(rows, task.classes)


def labeler(
    task: Task,
    annotators: Sequence[str] | None,
    *,
    defer_to: str | None = None,
    path: Path | None = None,
    first_only: bool = False,
) -> Recorded:
    return Recorded(
        task,
        annotations(task),
        annotators=annotators,
        path=None if path is None else str(path),
        defer_to=defer_to,
        first_only=first_only,
    )


def told(table: pd.DataFrame) -> list[tuple[str, str, str | None]]:
    return list(zip(table["item_id"], table["annotator"], table["label"], strict=True))


def test_votes_come_in_the_order_of_the_items_and_then_of_the_annotators(task: Task) -> None:
    table = labeler(task, ["cy", "expert"]).label(ITEMS.loc[["i002", "i000"]])
    assert told(table) == [("i002", "cy", "soe"), ("i002", "expert", "other"), ("i000", "expert", "soe")]
    other = labeler(task, ["expert", "cy"]).label(ITEMS.loc[["i002"]])
    assert told(other) == [("i002", "expert", "other"), ("i002", "cy", "soe")]


def test_items_that_nobody_voted_on_have_no_votes(task: Task) -> None:
    assert set(labeler(task, ["cy"]).label(ITEMS)["item_id"]) == {"i002"}


def test_a_pattern_stands_for_all_that_match_it_and_nobody_votes_twice(task: Task) -> None:
    assert set(labeler(task, ["non_expert/*"]).label(ITEMS)["annotator"]) == {"non_expert/ann", "non_expert/bob"}
    table = labeler(task, ["non_expert/bob", "*"]).label(ITEMS.loc[["i002"]])
    assert table["annotator"].tolist() == ["non_expert/bob", "expert", "non_expert/ann", "cy"]


def test_a_name_that_nobody_has_is_refused_with_those_there_are(task: Task) -> None:
    with made.refused("labeler.annotators=exprt", "dataset.annotations", "there is expert, non_expert/ann"):
        labeler(task, ["expert", "exprt"])


def test_a_pattern_that_nobody_matches_is_refused(task: Task) -> None:
    with made.refused("labeler.annotators=llm/*"):
        labeler(task, ["llm/*"])


def test_a_dataset_without_annotations_is_told(task: Task) -> None:
    with made.refused("labeler.annotators=*", "the dataset names nobody"):
        Recorded(task, annotations(task).iloc[:0], annotators=["*"], path=None, defer_to=None, first_only=False)


def test_a_name_with_brackets_is_a_name(task: Task) -> None:
    table = votes.table([{"item_id": "i000", "annotator": "llm[1]", "view": "item", "label": "soe"}], task.classes)
    assert (
        len(Recorded(task, table, annotators=["llm[1]"], path=None, defer_to=None, first_only=False).label(ITEMS)) == 1
    )


# -------------------------------------------------------------------------------------------------------- defer_to


def test_who_does_not_know_asks_the_expert(task: Task) -> None:
    table = labeler(task, ["non_expert/ann"], defer_to="expert").label(ITEMS)
    assert told(table) == [
        ("i000", "non_expert/ann", None),
        ("i000", "expert", "soe"),
        ("i001", "non_expert/ann", "soe"),
        ("i002", "non_expert/ann", "soe"),
    ]


def test_the_expert_is_asked_once_however_many_do_not_know(task: Task) -> None:
    table = labeler(task, ["non_expert/*"], defer_to="expert").label(ITEMS.loc[["i000"]])
    assert table["annotator"].tolist() == ["non_expert/ann", "non_expert/bob", "expert"]


def test_without_anyone_to_ask_an_abstention_stays_one(task: Task) -> None:
    table = labeler(task, ["non_expert/ann"]).label(ITEMS.loc[["i000"]])
    assert told(table) == [("i000", "non_expert/ann", None)]
    assert table["status"].tolist() == ["abstained"]


def test_an_expert_who_votes_anyway_is_not_doubled(task: Task) -> None:
    table = labeler(task, ["expert", "non_expert/ann"], defer_to="expert").label(ITEMS.loc[["i000"]])
    assert table["annotator"].tolist() == ["expert", "non_expert/ann"]


def test_only_abstentions_are_deferred_and_no_other_failures(task: Task) -> None:
    table = annotations(task)
    table.loc[table["annotator"] == "non_expert/ann", "status"] = table["status"].replace("abstained", "refused")
    found = Recorded(task, table, annotators=["non_expert/ann"], path=None, defer_to="expert", first_only=False).label(
        ITEMS
    )
    assert set(found["annotator"]) == {"non_expert/ann"}


def test_an_expert_who_is_not_there_is_missed_only_where_somebody_would_ask(task: Task) -> None:
    with made.refused("labeler.defer_to=boss", "1 abstention(s)", "there is expert"):
        labeler(task, ["non_expert/ann"], defer_to="boss")
    assert len(labeler(task, ["cy"], defer_to="boss").label(ITEMS)) == 1


# ------------------------------------------------------------------------------------------------------ votes files


def write(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("\n".join(json.dumps(row) for row in frame.astype(object).to_dict("records")) + "\n")
    return path


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_votes_file_gives_what_was_written_to_it(task: Task, tmp_path: Path, ending: str) -> None:
    items = made.items(6)
    written = made.votes(items, made.gold(6), task, null=0.3, annotator="llm/one")
    assert written["label"].isna().any()
    table = labeler(task, ["llm/*"], path=write(written, tmp_path / f"votes{ending}")).label(items)
    pd.testing.assert_frame_equal(table, written, check_dtype=False)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_votes_file_needs_no_more_than_items_annotators_and_labels(task: Task, tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"item_id": ["i000", "i001"], "annotator": "llm", "label": ["soe", None]})
    table = labeler(task, ["llm"], path=write(frame, tmp_path / f"votes{ending}")).label(ITEMS)
    assert told(table) == [("i000", "llm", "soe"), ("i001", "llm", None)]
    assert table["status"].tolist() == ["ok", "abstained"]
    assert set(table["view"]) == {"item"}


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_item_ids_that_look_like_numbers_stay_words(task: Task, tmp_path: Path, ending: str) -> None:
    ids = ["007", "12"] if ending == ".csv" else [7, 12]
    frame = pd.DataFrame({"item_id": ids, "annotator": "llm", "label": "soe"})
    items = ITEMS.head(2).set_axis([str(item) for item in ids])
    table = labeler(task, ["llm"], path=write(frame, tmp_path / f"votes{ending}")).label(items)
    assert table["item_id"].tolist() == list(items.index)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_class_called_none_is_a_label(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"item_id": ["i000", "i001"], "annotator": "llm", "label": ["None", "Favor"]})
    table = labeler_of(STANCE, write(frame, tmp_path / f"votes{ending}")).label(ITEMS)
    assert table["label"].tolist() == ["None", "Favor"]


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_annotators_may_be_numbers(task: Task, tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"item_id": ["i000", "i001"], "annotator": [1, 2], "label": "soe"})
    table = labeler_of(task, write(frame, tmp_path / f"votes{ending}")).label(ITEMS)
    assert table["annotator"].tolist() == ["1", "2"]


def labeler_of(task: Task, path: Path) -> Recorded:
    return Recorded(
        task, votes.table([], task.classes), annotators=["*"], path=str(path), defer_to=None, first_only=False
    )


def test_a_votes_file_may_know_more_items_than_the_dataset(task: Task, tmp_path: Path) -> None:
    frame = pd.DataFrame({"item_id": ["i000", "elsewhere"], "annotator": "llm", "label": "soe"})
    assert labeler_of(task, write(frame, tmp_path / "v.csv")).label(ITEMS)["item_id"].tolist() == ["i000"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("votes.txt", "", "want a .jsonl, .csv or .parquet file"),
        ("votes.parquet", "not a parquet file", "not a Parquet file"),
        ("votes.jsonl", '{"item_id": "i000"', "not JSON"),
        ("votes.csv", "", "no rows in it"),
        ("votes.csv", "item_id,label\ni000,soe\n", "'annotator'"),
        ("votes.csv", "item_id,annotator,label\ni000,llm,SOE\n", "unknown label 'SOE'; want other or soe"),
        ("votes.csv", "item_id,annotator,label\ni000,llm,soe\ni000,llm,soe\n", "twice"),
        ("votes.csv", "item_id,annotator,label,confidence\ni000,llm,soe,87\n", "a confidence outside 0-1"),
    ],
)
def test_a_votes_file_that_is_none_is_told_in_one_line(
    task: Task, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with made.refused("labeler.path", str(tmp_path / name), said):
        labeler_of(task, tmp_path / name)


def test_a_votes_file_that_is_not_there_is_told_in_one_line(task: Task, tmp_path: Path) -> None:
    with made.refused(f"labeler.path={tmp_path / 'gone.csv'}: can't be read"):
        labeler_of(task, tmp_path / "gone.csv")


def test_whose_labels_they_are_must_be_said(task: Task) -> None:
    for annotators in (None, []):
        with made.refused(f"labeler.annotators={annotators}: say whose labels; there is expert"):
            labeler(task, annotators)
    with made.refused("the dataset names nobody", "annotations: {llm: {column: llm_label}}"):
        Recorded(task, votes.table([], task.classes), annotators=None, path=None, defer_to=None, first_only=False)


def test_a_name_that_is_no_list_is_a_name(task: Task) -> None:
    assert set(labeler(task, "expert").label(ITEMS)["annotator"]) == {"expert"}


@pytest.mark.parametrize("named", [7, [7], ["7"]], ids=str)
def test_a_whole_number_names_an_annotator(task: Task, tmp_path: Path, named: Any) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"item_id": "a", "annotator": 7, "label": "soe"}\n')
    assert labeler(task, named, path=path).annotators == ["7"]


def test_what_yaml_reads_as_no_name_names_no_annotator(task: Task) -> None:
    with made.refused("labeler.annotators=false: yaml reads NO"):
        labeler(task, [False])  # type: ignore[list-item]


# ----------------------------------------------------------------------------------------- votes files as they come

ENDINGS = ["votes.parquet", "votes.csv", "votes.jsonl", "votes.json", "votes.tsv"]
DIGITS = Task(name="digits", classes=["0", "1"], positive="1")


def save(rows: list[dict[str, object]], path: Path) -> Path:
    """A votes file whose column types are those that pandas gives it."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".json":
        path.write_text(frame.to_json(orient="records"))
    elif path.suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    else:
        write(frame, path)
    return path


def of_file(path: Path, task: Task, item_ids: list[str]) -> Recorded:
    index = pd.Index(item_ids, dtype=object)
    return Recorded(
        task,
        votes.table([], task.classes),
        index,
        annotators=["*"],
        path=str(path),
        defer_to=None,
        first_only=False,
    )


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0], ["0", "1"], [0.0, 1.0, None], [False, True]], ids=str)
@pytest.mark.parametrize("name", ENDINGS)
def test_labels_are_read_alike_from_every_kind_of_file(tmp_path: Path, name: str, labels: list[object]) -> None:
    rows: list[dict[str, object]] = [
        {"item_id": number, "annotator": "gpt", "label": label} for number, label in enumerate(labels)
    ]
    table = of_file(save(rows, tmp_path / name), DIGITS, ["0", "1", "2"]).votes
    assert table["label"].to_list() == ["0", "1", None][: len(labels)]
    assert table["item_id"].to_list() == ["0", "1", "2"][: len(labels)]


@pytest.mark.parametrize(
    "ids", [[7, 8], [7.0, 8.0], ["7", "8"], ["7.0", "8.0"], [" 007", "008 "], ["007", "008"]], ids=str
)
@pytest.mark.parametrize("name", ENDINGS)
def test_ids_are_spelled_as_the_dataset_spells_them(
    task: Task, tmp_path: Path, name: str, ids: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, object]] = [{"item_id": item, "annotator": "gpt", "label": "soe"} for item in ids]
    assert of_file(save(rows, tmp_path / name), task, ["007", "008"]).votes["item_id"].to_list() == ["007", "008"]
    assert ("is taken for '007'" in capsys.readouterr().err) == (str(ids[0]).strip() != "007")


def test_ids_and_annotators_in_another_unicode_form_are_the_same(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spellings = ["\u00e1", "a\u0301"]
    rows: list[dict[str, object]] = [
        {"item_id": f"{text}{number}", "annotator": text, "label": "soe"} for number, text in enumerate(spellings)
    ]
    path = save(rows, tmp_path / "votes.jsonl")
    recorded = Recorded(
        task,
        votes.table([], task.classes),
        pd.Index(["\u00e10", "\u00e11"]),
        annotators=spellings[1],
        path=str(path),
        defer_to=None,
        first_only=False,
    )
    assert recorded.annotators == ["\u00e1"]
    assert recorded.votes["item_id"].to_list() == ["\u00e10", "\u00e11"]
    assert r"'a\u03011' is taken for '\xe11'" in capsys.readouterr().err


def test_votes_on_no_item_are_counted_and_said(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [{"item_id": item, "annotator": "gpt", "label": "soe"} for item in ("a", "b", "x")]
    table = of_file(save(rows, tmp_path / "votes.csv"), task, ["a", "b"]).votes
    assert table["item_id"].to_list() == ["a", "b"]
    assert "1 of 3 vote(s) left out: the dataset has no item 'x' (its ids are such as 'a')" in capsys.readouterr().err


def test_votes_on_no_item_at_all_are_refused_with_an_id_of_each_side(task: Task, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"item_id": "doc-1", "annotator": "gpt", "label": "soe"}]
    with made.refused("labeler.path=", "no vote is about an item", "'doc-1'", "'1'"):
        of_file(save(rows, tmp_path / "votes.csv"), task, ["1", "2"])


@pytest.mark.parametrize("column", ["item_id", "annotator"])
@pytest.mark.parametrize("name", ENDINGS)
def test_a_vote_of_nobody_or_on_nothing_is_refused_with_its_row(
    task: Task, tmp_path: Path, name: str, column: str
) -> None:
    rows: list[dict[str, object]] = [{"item_id": item, "annotator": "gpt", "label": "soe"} for item in ("a", "b")]
    rows[1][column] = None
    with made.refused(name, f"the vote has no {column}"):
        of_file(save(rows, tmp_path / name), task, ["a", "b"])


def test_probabilities_of_a_class_in_another_unicode_form_are_read(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(
        json.dumps({"item_id": "a", "annotator": "gpt", "label": "x", "prob:x": 0.75, "prob:e\u0301": 0.25})
    )
    table = of_file(path, Task(name="t", classes=["x", "\u00e9"], positive=None), ["a"]).votes
    assert table[["prob:x", "prob:\u00e9"]].to_numpy().tolist() == [[0.75, 0.25]]


def test_probabilities_that_contradict_their_label_are_counted_and_said(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = task.classes
    rows: list[dict[str, object]] = [
        {"item_id": "a", "annotator": "gpt", "label": first, f"prob:{first}": 0.5, f"prob:{second}": 0.5},
        {"item_id": "no item", "annotator": "gpt", "label": first, f"prob:{first}": 0.5, f"prob:{second}": 0.5},
        {"item_id": "b", "annotator": "gpt", "label": None, f"prob:{first}": 0.1, f"prob:{second}": 0.9},
        {"item_id": "c", "annotator": "gpt", "label": first, f"prob:{first}": 0.125, f"prob:{second}": 0.875},
        {"item_id": "d", "annotator": "gpt", "label": second, f"prob:{first}": None, f"prob:{second}": None},
    ]
    table = of_file(save(rows, tmp_path / "v.csv"), task, ["a", "b", "c", "d"]).votes
    assert table["label"].to_list() == [first, None, first, second]
    said = capsys.readouterr().err
    assert "1 of 4 vote(s) have a label that is not the most probable class by their own prob: columns" in said
    assert f"v.csv:5: label {first!r} has 0.125, {second!r} 0.875" in said


def test_probabilities_that_agree_with_their_label_are_not_spoken_of(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = task.classes
    rows: list[dict[str, object]] = [
        {"item_id": "a", "annotator": "gpt", "label": first, f"prob:{first}": 0.5, f"prob:{second}": 0.5}
    ]
    of_file(save(rows, tmp_path / "v.csv"), task, ["a"])
    assert capsys.readouterr().err == ""


def test_a_key_that_stands_twice_in_a_vote_is_told_with_its_row(task: Task, tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"item_id": "a", "annotator": "gpt", "label": "soe", "label": "other"}\n')
    with made.refused("v.jsonl:1: labeler.path: the key 'label' stands twice"):
        of_file(tmp_path / "v.jsonl", task, ["a"])


def test_a_byte_order_mark_is_no_part_of_a_votes_file(task: Task, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_bytes(b"\xef\xbb\xbfitem_id,annotator,label\na,gpt,soe\n")
    (tmp_path / "v.jsonl").write_bytes(b'\xef\xbb\xbf{"item_id": "a", "annotator": "gpt", "label": "soe"}\n')
    for name in ("v.csv", "v.jsonl"):
        assert of_file(tmp_path / name, task, ["a"]).votes["item_id"].to_list() == ["a"]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"confidence": "high"}, ["column confidence: 'high' is no number"]),
        ({"repeat": 0.5}, ["column repeat: 0.5; want a whole number"]),
        ({"repeat": "1e400"}, ["column repeat: '1e400'; want a whole number"]),
        ({"repeat": 1e30}, ["column repeat: 1e+30; want a whole number"]),
        ({"annotator": ["gpt"]}, ["column annotator: holds a list"]),
        ({"item_id": "a\ud800"}, ["column item_id: holds half a character"]),
        ({"label": "dog"}, ["column label: unknown label 'dog'; want other or soe"]),
        ({"label": None, "status": "done"}, ["a status other than ok", "; first, at ", "v.jsonl:1: {'item_id': 'a'"]),
        ({"prob:soe": 0.9}, ["has prob:soe and no prob:other; want a column for each of other, soe"]),
        ({"prob:SOE": 0.9, "prob:other": 0.1}, ["has prob:SOE, prob:other and no prob:soe"]),
    ],
    ids=str,
)
def test_a_bad_vote_is_told_with_its_row(task: Task, tmp_path: Path, row: dict[str, object], parts: list[str]) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps({"item_id": "a", "annotator": "gpt", "label": "soe"} | row))
    with made.refused(f"labeler.path={path}", *parts):
        of_file(path, task, ["a"])


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"item_id;annotator;label\na;gpt;soe\n", "save the file with ','"),
        ("item_id,annotator,label\na,gpt,soe\n".encode("utf-16"), "save the file as UTF-8"),
        (b"item_id,annotator,label\n\xe9,gpt,soe\n", "save the file as UTF-8"),
    ],
    ids=["semicolons", "utf-16", "cp1252"],
)
def test_advice_about_a_votes_file_names_no_setting_that_it_has_not(
    task: Task, tmp_path: Path, content: bytes, part: str
) -> None:
    (tmp_path / "v.csv").write_bytes(content)
    with pytest.raises(UserError, match=part) as caught:
        of_file(tmp_path / "v.csv", task, ["a"])
    assert "dataset." not in str(caught.value)


@pytest.mark.parametrize("cells", [{"repeat": -1}, {"repeat": "x"}, {"confidence": "high"}, {"cost_usd": "much"}])
def test_what_stands_beside_a_vote_on_no_item_is_not_read(task: Task, tmp_path: Path, cells: dict[str, object]) -> None:
    rows: list[dict[str, object]] = [{"item_id": item, "annotator": "gpt", "label": "soe"} for item in ("x", "a")]
    table = of_file(save([rows[0] | cells, rows[1]], tmp_path / "votes.jsonl"), task, ["a"]).votes
    assert table["item_id"].to_list() == ["a"]
    with made.refused("votes.jsonl:2: "):  # beside a vote on an item it is, with the row of the file
        of_file(save([rows[0], rows[1] | cells], tmp_path / "votes.jsonl"), task, ["a"])
