import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import made

from silvertune import votes
from silvertune.errors import WaitingForAnswersError
from silvertune.interfaces import Estimate
from silvertune.labelers import label_studio_files
from silvertune.labelers.label_studio import LabelStudio
from silvertune.schema import Task

SETTINGS: Mapping[str, Any] = {
    "annotator": "people",
    "names": None,
    "views": None,
    "tables": [],
    "drafts_by": [],
    "cost_usd": 0.5,
}
NOBODY = votes.table([], made.SOE.classes)


def studio(folder: Path, item_ids: pd.Index | None = None, **changes: Any) -> LabelStudio:
    annotations = changes.pop("annotations", NOBODY)
    return LabelStudio(made.SOE, annotations, item_ids, path=str(folder), **SETTINGS | changes)


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def annotation(label: str | None, who: Any = 1, number: int | None = None, **more: Any) -> dict[str, Any]:
    """An annotation as Label Studio exports it; without a label, the task was skipped."""
    result = [{"from_name": "label", "to_name": "view_text", "type": "choices", "value": {"choices": [label]}}]
    own = {"id": number, "completed_by": who, "was_cancelled": label is None, "result": result if label else []}
    return own | more


def export(folder: Path, answers: Mapping[str, Sequence[Mapping[str, Any]]], name: str = "export.json") -> None:
    """What people do: the tasks that went out come back with annotations."""
    data = {task["data"]["item_id"]: task["data"] for file in folder.glob("tasks*.json") for task in read(file)}
    tasks = [
        {"id": number, "data": data.get(item, {"item_id": item}), "annotations": annotations, "predictions": []}
        for number, (item, annotations) in enumerate(answers.items(), start=100)
    ]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(tasks), encoding="utf-8")


def test_tasks_go_out_and_exports_of_several_annotators_come_back(tmp_path: Path) -> None:
    items, folder = made.items(3), tmp_path / "new" / "studio"
    with pytest.raises(WaitingForAnswersError) as waits:
        studio(folder).label(items)
    for words in (str(folder), "3 of 3 item(s) wait", "import tasks.json", "config.xml", "same command again"):
        assert words in str(waits.value)
    tasks = read(folder / "tasks.json")
    assert [task["data"]["item_id"] for task in tasks] == ["i000", "i001", "i002"]
    assert tasks[1]["data"]["view_text"] == items.at["i001", "text"]
    assert all("predictions" not in task for task in tasks)
    export(folder, {"i000": [annotation("soe", 2), annotation("other", 1)], "i001": [annotation(None, 1)], "i002": []})
    with made.refused("1 of 3 item(s) wait"):
        studio(folder).label(items)
    assert studio(folder).estimate(items) == {"people": Estimate(calls=1.0, dollars=0.5)}
    export(folder, {"i002": [annotation("other", {"id": 1, "email": "ann@example.org"})]}, "project-1.json")
    table = studio(folder, names={1: "bob", "ann@example.org": "ann"}).label(items)
    assert table["item_id"].tolist() == ["i000", "i000", "i001", "i002"]
    assert table["annotator"].tolist() == ["people/2", "people/bob", "people/bob", "people/ann"]
    assert table["label"].tolist() == ["soe", "other", None, "other"]
    assert table["status"].tolist() == ["ok", "ok", "abstained", "ok"]
    assert table["cost_usd"].tolist() == [0.5] * 4


def test_no_item_goes_out_twice_and_files_are_the_same_each_time(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        with made.refused("import tasks.json into"):
            studio(folder).label(made.items(2))
        with made.refused("import tasks.json and tasks-2.json into"):
            studio(folder).label(made.items(4)[::-1])
        with made.refused("import tasks-2.json into"):
            studio(folder).label(made.items(4).iloc[2:])
    assert [task["data"]["item_id"] for task in read(tmp_path / "a" / "tasks-2.json")] == ["i002", "i003"]
    names = sorted(file.name for file in (tmp_path / "a").iterdir() if file.suffix != ".lock")
    assert names == ["config.xml", "tasks-2.json", "tasks.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_labels_of_a_machine_are_filled_in(tmp_path: Path) -> None:
    items = made.items(3)
    drafts = pd.DataFrame({"label": ["soe", None, "other"], "confidence": [0.75, 0.5, float("nan")]}, items.index)
    one = studio(tmp_path / "of_the_labeler", views=["text"])
    one.show_drafts(drafts)
    with made.refused("wait"):
        one.label(items)
    first, second, third = read(tmp_path / "of_the_labeler" / "tasks.json")
    (prediction,) = first["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("silvertune", 0.75)
    assert prediction["result"] == [
        {"from_name": "label", "to_name": "view_text", "type": "choices", "value": {"choices": ["soe"]}}
    ]
    assert "predictions" not in second
    assert "score" not in third["predictions"][0]
    llm = made.votes_of(
        [{"item_id": item, "annotator": "llm/a", "label": "soe", "confidence": 0.9} for item in items.index]
    )
    other = studio(tmp_path / "of_the_data", annotations=llm, drafts_by="llm/*")
    other.show_drafts(drafts)
    with made.refused("wait"):
        other.label(items)
    tasks = read(tmp_path / "of_the_data" / "tasks.json")
    assert [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks] == [["soe"]] * 3
    assert tasks[1]["predictions"][0]["score"] == 0.9
    with made.refused("labeler.drafts_by=gpt", "no votes of such an annotator", "llm/a"):
        studio(tmp_path, annotations=llm, drafts_by=["gpt"])


def test_people_see_a_table_as_a_table(tmp_path: Path) -> None:
    items = made.items(2)
    items.loc["i000", "json"] = '[["a < b", "c"], ["d", null]]'
    items.loc["i001", "json"] = None
    with made.refused("wait"):
        studio(tmp_path, tables=["json"]).label(items)
    one, other = (task["data"]["view_json"] for task in read(tmp_path / "tasks.json"))
    assert "<tr><td>a &lt; b</td><td>c</td></tr><tr><td>d</td><td></td></tr>" in one
    assert other == ""
    interface = ElementTree.fromstring((tmp_path / "config.xml").read_text())
    assert [(node.tag, node.get("value")) for node in interface if node.get("name")] == [
        ("HyperText", "$view_json"),
        ("Text", "$view_text"),
        ("Choices", None),
    ]
    export(tmp_path, {"i000": [annotation("soe")], "i001": [annotation("other")]})
    assert studio(tmp_path, tables=["json"]).label(items)["label"].tolist() == ["soe", "other"]
    with made.refused("labeler.tables=['text']", "item 'i000', view text", "no table in JSON"):
        studio(tmp_path / "new", tables=["text"]).label(items)
    with made.refused("labeler.tables=['html']", "want json or text"):
        studio(tmp_path / "new", tables=["html"]).label(items)
    assert not list((tmp_path / "new").glob("tasks*.json"))


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=2, max_size=4, unique=True)
)
def test_the_interface_asks_for_the_classes_whatever_they_are_called(classes: list[str]) -> None:
    task = Task(name="any", classes=classes, descriptions={classes[0]: ['a "word"', "<&>"]})
    interface = ElementTree.fromstring(label_studio_files.config(task, ["a view", "a_view"], []))
    assert [choice.get("value") for choice in interface.iter("Choice")] == classes
    assert next(interface.iter("Choice")).get("hint") == 'a "word"; <&>'
    names = [node.get("name") for node in interface if node.get("name")]
    assert len(set(names)) == 3
    assert next(interface.iter("Choices")).get("toName") == names[0]


def min_row(label: str | None, who: Any, number: int | None, item: str = "i000", made: str = "10") -> dict[str, Any]:
    """An entry of JSON-MIN, as Label Studio 1.23 writes it; without a number, of a task that nobody has answered."""
    time = None if number is None else f"2026-11-29T13:53:{made}.380964Z"
    row = {"item_id": item, "group_id": "g00", "id": int(item[1:]) + 1, "annotator": who, "annotation_id": number}
    return row | {"created_at": time, "updated_at": time, "lead_time": None} | ({"label": label} if label else {})


def test_json_min_says_the_same(tmp_path: Path) -> None:
    items = made.items(2)
    rows = [min_row("soe", 3, 1) | {"view_text": items.at["i000", "text"]}, min_row("other", 4, 2)]
    (tmp_path / "min.json").write_text(json.dumps([*rows, min_row(None, None, None, "i001")]))
    table = studio(tmp_path).label(items.iloc[:1])
    assert list(zip(table["annotator"], table["label"], strict=True)) == [("people/3", "soe"), ("people/4", "other")]
    with made.refused("1 of 2 item(s) wait", "the first is 'i001'"):
        studio(tmp_path).label(items)
    (tmp_path / "min.json").write_text(json.dumps([min_row(None, 3, 1) | {"sentiment": "soe"}]))
    with made.refused("min.json, task 1", "no answer 'label'", "not of another"):
        studio(tmp_path)


def test_exports_of_two_annotators_as_label_studio_writes_them(tmp_path: Path) -> None:
    """Both formats of one project: what one of them has alone counts, and what both have counts once."""
    items = made.items(4)
    draft = {"id": 1, "label": 1, "prediction": {"result": annotation("other")["result"]}, "import_id": None}
    entry = {"drafts": [draft], "predictions": [1], "meta": {}, "inner_id": 1, "cancelled_annotations": 0}
    times = [f"2026-11-29T13:53:{second}.380964Z" for second in range(10, 16)]
    by_item = {
        "i000": [annotation("soe", 1, 1), annotation("other", 2, 2)],
        "i001": [annotation("soe", 1, 3)],
        "i002": [annotation(None, 1, 4), annotation("soe", 2, 5)],
        "i003": [],
    }
    for annotations in by_item.values():
        for one in annotations:
            one |= draft | {"id": one["id"], "created_at": times[one["id"]], "updated_at": times[one["id"]]}
    export(tmp_path, by_item)
    (tmp_path / "export.json").write_text(json.dumps([task | entry for task in read(tmp_path / "export.json")]))
    rows = [min_row("other", 2, 2, made="12"), min_row("soe", 1, 1, made="11"), min_row("soe", 1, 3, "i001", "13")]
    rows += [min_row("soe", 2, 5, "i002", "15"), min_row("other", "None", 6, "i003", "16")]  # by a user who was deleted
    (tmp_path / "min.json").write_text(json.dumps(rows), encoding="utf-16")
    table = studio(tmp_path, items.index, names={1: "ann"}).label(items)
    assert list(zip(table["item_id"], table["annotator"], table["label"], strict=True)) == [
        ("i000", "people/2", "other"), ("i000", "people/ann", "soe"), ("i001", "people/ann", "soe"),
        ("i002", "people/2", "soe"), ("i002", "people/ann", None), ("i003", "people", "other"),
    ]  # fmt: skip


def test_users_are_named_by_email_and_by_number(tmp_path: Path) -> None:
    items, bob = made.items(2), {"id": 2, "email": "bob@example.org", "first_name": "Bob", "avatar": None}
    export(tmp_path, {"i000": [annotation("soe", bob)], "i001": [annotation("other", {"id": 1})]})
    assert studio(tmp_path).label(items)["annotator"].tolist() == ["people/bob@example.org", "people/1"]
    for names in ({2: "bob"}, {"bob@example.org": "bob", 2: "another"}):
        assert studio(tmp_path, names=names).label(items)["annotator"].tolist() == ["people/bob", "people/1"]
    export(tmp_path, {"i001": [annotation("soe", 2)]}, "numbers.json")
    with made.refused("numbers.json, task 100: is by user 2, and", "by bob@example.org", "labeler.names"):
        studio(tmp_path)
    for names in ({2: "bob"}, {"bob@example.org": "bob", 2: "another"}):
        annotators = studio(tmp_path, names=names).label(items)["annotator"].tolist()
        assert annotators == ["people/bob", "people/1", f"people/{names[2]}"]


def test_an_annotation_in_exports_of_both_kinds_is_by_whom_one_of_them_names(tmp_path: Path) -> None:
    items, made_at = made.items(1), {"created_at": "2026-11-01T00:00:00Z", "updated_at": "2026-11-01T00:00:00Z"}
    for name, who in (("1", 2), ("2", {"id": 2, "email": "bob@example.org"}), ("3", None)):  # None: deleted since
        export(tmp_path, {"i000": [annotation("soe", who, 5, **made_at)]}, f"{name}.json")
    assert studio(tmp_path).label(items)["annotator"].tolist() == ["people/bob@example.org"]


def test_who_skips_a_task_and_labels_it_as_well_has_labelled_it(tmp_path: Path) -> None:
    items = made.items(2)
    export(
        tmp_path, {"i000": [annotation(None), annotation("soe"), annotation(None, 2)], "i001": [annotation(None)] * 2}
    )
    table = studio(tmp_path).label(items)
    assert table["annotator"].tolist() == ["people/1", "people/2", "people/1"]
    assert table["label"].tolist() == ["soe", None, None]


def test_of_an_annotation_in_two_exports_the_later_one_counts(tmp_path: Path) -> None:
    items, created = made.items(1), {"created_at": "2026-11-01T00:00:00Z"}
    first = annotation("soe", number=5, updated_at="2026-11-02T00:00:00.5Z")
    other = annotation("other", number=5, updated_at="2026-11-02T01:00:00+01:00")
    export(tmp_path, {"i000": [first | created]}, "b.json")
    export(tmp_path, {"i000": [other]}, "a.json")
    with made.refused("task 100", "annotator people/1 answers item 'i000' again"):  # another Label Studio's number 5
        studio(tmp_path).label(items)
    export(tmp_path, {"i000": [other | created]}, "a.json")
    assert studio(tmp_path).label(items)["label"].tolist() == ["soe"]
    export(tmp_path, {"i000": [annotation("other", number=6)]}, "c.json")
    with made.refused("task 100", "annotator people/1 answers item 'i000' again", "one answer by each"):
        studio(tmp_path).label(items)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"i000": [annotation("SOE")]}, ["task 100", "label: unknown label 'SOE'; want other or soe"]),
        ({"i000": [annotation("soe"), annotation("soe")]}, ["task 100", "answers item 'i000' again"]),
        ({"i000": [], "x1": [annotation("soe")]}, ["task 101", "no item 'x1'", "such as 'i000'"]),
        ({"": [annotation("soe")]}, ["task 100", "has no item_id", "another project"]),
        ({"i000": [annotation("soe") | {"result": [{"from_name": "ner"}]}]}, ["task 100", "answers 'ner'", "another"]),
        ({"i000": [annotation("soe") | {"result": []}]}, ["task 100", "0 labels by annotator 1", "want one"]),
    ],
)
def test_what_does_not_belong_here_is_told_with_its_task(
    tmp_path: Path, answers: Mapping[str, Sequence[Mapping[str, Any]]], told: list[str]
) -> None:
    items = made.items(2)
    export(tmp_path, answers)
    with made.refused(str(tmp_path / "export.json"), *told):
        studio(tmp_path, items.index).label(items.iloc[:1])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "want a list of tasks"),
        ("[1]", "entry 1"),
        ("[", "can't be read as JSON"),
        ('[{"id": 3, "data": 1}]', "task 3: has no 'data'"),
        ('[{"id": 3, "data": {"item_id": "i0"}, "annotations": 2}]', "'annotations' is no list"),
        ('[{"id": 3, "data": {"item_id": "i0"}}]', "task 3: 'annotations' is no list of objects; want an export"),
        ('[{"item_id": "i0", "label": "soe", "annotation_id": 1, "updated_at": "noon"}]', "updated_at='noon'; want"),
    ],
)
def test_a_file_that_is_no_export_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with made.refused(str(tmp_path / "export.json"), told):
        studio(tmp_path)


def test_an_answer_to_another_text_is_refused(tmp_path: Path) -> None:
    items = made.items(2)
    with made.refused("wait"):
        studio(tmp_path).label(items)
    export(tmp_path, {"i000": [annotation("soe")], "i001": [annotation("other")]})
    spaced = items.assign(text=items["text"].str.replace(" ", "\r\n", n=1))
    assert studio(tmp_path).label(spaced)["label"].tolist() == ["soe", "other"]
    items.loc["i001", "text"] = "of another data set"
    with made.refused("task 101", "another text of item 'i001'", "as it was written out"):
        studio(tmp_path).label(items)


def test_only_what_was_answered_decides_a_result(tmp_path: Path) -> None:
    with made.refused("wait"):
        studio(tmp_path).label(made.items(1))
    assert list(LabelStudio.files_in_identity(tmp_path)) == []
    export(tmp_path, {"i000": [annotation("soe")]})
    assert list(LabelStudio.files_in_identity(tmp_path)) == [tmp_path / "export.json"]
    with made.refused(f"labeler.path={tmp_path / 'export.json'}", "want a folder"):
        studio(tmp_path / "export.json")
