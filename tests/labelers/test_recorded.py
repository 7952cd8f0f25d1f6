import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from tests import made

from silvertune import votes
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
    annotators: Sequence[str],
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
    with made.refused("labeler.annotators=*", "there is none at all"):
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
        ("votes.txt", "", "want a .parquet, .csv or .jsonl file"),
        ("votes.parquet", "not a parquet file", "can't be read as votes"),
        ("votes.jsonl", '{"item_id": "i000"', "can't be read as votes"),
        ("votes.csv", "", "can't be read as votes"),
        ("votes.csv", "item_id,label\ni000,soe\n", "'annotator'"),
        ("votes.csv", "item_id,annotator,label\ni000,llm,SOE\n", "a label that is no class of the task"),
        ("votes.csv", "item_id,annotator,label\ni000,llm,soe\ni000,llm,soe\n", "twice"),
        ("votes.csv", "item_id,annotator,label,confidence\ni000,llm,soe,87\n", "a confidence outside 0-1"),
    ],
)
def test_a_votes_file_that_is_none_is_told_in_one_line(
    task: Task, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with made.refused(f"labeler.path={tmp_path / name}", said):
        labeler_of(task, tmp_path / name)


def test_a_votes_file_that_is_not_there_is_told_in_one_line(task: Task, tmp_path: Path) -> None:
    with made.refused(f"labeler.path={tmp_path / 'gone.csv'}", "can't be read"):
        labeler_of(task, tmp_path / "gone.csv")


def test_a_name_that_is_no_list_is_a_name(task: Task) -> None:
    assert set(labeler(task, "expert").label(ITEMS)["annotator"]) == {"expert"}
