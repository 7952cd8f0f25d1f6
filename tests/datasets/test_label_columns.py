"""Columns of labels: what their values mean, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from silvertune.datasets import rows
from silvertune.datasets.label_columns import annotations_of, gold_of
from silvertune.errors import UserError
from silvertune.schema import Task

TASK = Task(name="pets", classes=["other", "cat"], positive="cat")
MOODS = Task(name="moods", classes=["glad", "sad", "None"], positive=None)
VALUES = {0: "other", 1: "cat"}


def made(folder: Path, values: list[Any], ending: str = "jsonl", **columns: list[Any]) -> rows.Rows:
    """Rows with `id` 0, 1, ..., the column `said`, and others."""
    content = [
        {"id": i, "said": value, **{name: given[i] for name, given in columns.items()}}
        for i, value in enumerate(values)
    ]
    path = folder / f"items.{ending}"
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    elif ending == "csv":
        pd.DataFrame(content).to_csv(path, index=False)
    else:
        pd.DataFrame(content).to_parquet(path, index=False)
    return rows.read(str(path), {})


def ids(found: rows.Rows) -> list[str]:
    return [str(i) for i in range(len(found.rows))]


def gold(found: rows.Rows, task: Task = TASK, **spec: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in gold_of({"column": "said"} | spec, found, ids(found), task).items()}


def votes(found: rows.Rows, task: Task = TASK, **spec: Any) -> pd.DataFrame:
    return annotations_of({"clerk": {"column": "said"} | spec}, found, ids(found), task)


def refused(found: rows.Rows, task: Task = TASK, **spec: Any) -> str:
    """The message that both gold and annotations of this specification give, told of the annotations; one line."""
    with pytest.raises(UserError) as caught:
        votes(found, task, **spec)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_without_values_the_column_holds_class_names(tmp_path: Path, ending: str) -> None:
    found = made(tmp_path, ["sad", "glad", "None"], ending)
    assert gold(found, MOODS) == {"0": "sad", "1": "glad", "2": "None"}


@pytest.mark.parametrize("raw", [[0, 1], [0.0, 1.0], ["0", "1"], [False, True], [" 0", "1 "]], ids=str)
@pytest.mark.parametrize("keys", [(0, 1), ("0", "1"), (False, True), (0.0, 1.0)], ids=str)
def test_a_value_means_the_same_however_it_is_spelled(tmp_path: Path, raw: list[Any], keys: tuple[Any, Any]) -> None:
    values = {keys[0]: "other", keys[1]: "cat"}
    found = made(tmp_path, raw)
    assert gold(found, values=values) == {"0": "other", "1": "cat"}
    assert votes(found, values=values)["label"].to_list() == ["other", "cat"]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    "raw",
    [
        [0, 1],
        ["0", "1"],
        pytest.param([0.0, 1.0], id="floats"),
        pytest.param([False, True], id="booleans"),
        pytest.param([0.0, 1.0, None], id="whole numbers beside a null"),
    ],
    ids=str,
)
def test_a_value_means_the_same_in_every_format(tmp_path: Path, raw: list[Any], ending: str) -> None:
    assert gold(made(tmp_path, raw, ending), values=VALUES) == {"0": "other", "1": "cat"}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_where_nothing_stands_there_is_no_label_and_no_vote(tmp_path: Path, ending: str) -> None:
    found = made(tmp_path, ["cat", None], ending)
    assert gold(found) == {"0": "cat"}
    assert votes(found)["item_id"].to_list() == ["0"]


def test_without_a_specification_there_is_no_gold(tmp_path: Path) -> None:
    nothing = gold_of(None, made(tmp_path, ["cat"]), ["0"], TASK)
    assert nothing.empty
    assert nothing.index.name == "item_id"


def test_without_annotations_there_is_an_empty_votes_table(tmp_path: Path) -> None:
    nothing = annotations_of({}, made(tmp_path, ["cat"]), ["0"], TASK)
    assert nothing.empty
    assert {"item_id", "annotator", "view", "label", "status"} <= set(nothing.columns)


def test_an_unknown_label_is_told_with_its_place_and_what_is_known(tmp_path: Path) -> None:
    message = refused(made(tmp_path, ["cat", "dog"]))
    assert (
        "items.jsonl:2: dataset.annotations.clerk.column=said: unknown label 'dog'; want cat or other, or " in message
    )
    assert "values, abstain or ignore of dataset.annotations.clerk that say what it means" in message
    with pytest.raises(
        UserError, match=r"items\.jsonl:2: dataset\.gold\.column=said: unknown label 'dog'; want cat or"
    ):
        gold(made(tmp_path, ["cat", "dog"]))


def test_a_line_break_in_an_unknown_label_does_not_break_the_message(tmp_path: Path) -> None:
    assert "unknown label 'a\\nb'" in refused(made(tmp_path, ["a\nb"]))


def test_nothing_is_coerced_to_a_class(tmp_path: Path) -> None:
    for value in ("Cat", "cats", 1, True, [1], {"cat": 1}, ""):
        assert "unknown label" in refused(made(tmp_path, [value]))


# -------------------------------------------------------------------------------------------- abstain and ignore


def test_who_abstains_votes_without_a_label_and_what_is_ignored_is_no_vote(tmp_path: Path) -> None:
    found = made(tmp_path, ["cat", "?", "-", None, 9.0])
    cast = votes(found, abstain=["?", "9"], ignore=["-"])
    assert cast["item_id"].to_list() == ["0", "1", "4"]
    assert cast["label"].to_list() == ["cat", None, None]
    assert cast["status"].to_list() == ["ok", "abstained", "abstained"]
    assert gold(found, abstain=["?", "9"], ignore=["-"]) == {"0": "cat"}


def test_ignored_and_abstaining_values_may_be_spelled_differently(tmp_path: Path) -> None:
    found = made(tmp_path, ["0", 0.0, "-1", -1.0])
    cast = votes(found, values={1: "cat"}, ignore=[0], abstain=[-1])
    assert cast["item_id"].to_list() == ["2", "3"]
    assert cast["status"].to_list() == ["abstained", "abstained"]


# ----------------------------------------------------------------------------------------------------- threshold


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_score_of_at_least_the_threshold_is_positive(tmp_path: Path, ending: str) -> None:
    found = made(tmp_path, [0.49, 0.5, 1, -3], ending)
    assert gold(found, threshold=0.5) == {"0": "other", "1": "cat", "2": "cat", "3": "other"}


def test_a_threshold_leaves_abstentions_and_gaps_alone(tmp_path: Path) -> None:
    cast = votes(made(tmp_path, [-99, 0.9, None, -1]), threshold=0.5, abstain=[-99], ignore=[-1])
    assert cast["item_id"].to_list() == ["0", "1"]
    assert cast["status"].to_list() == ["abstained", "ok"]


def test_a_threshold_of_zero_is_a_threshold(tmp_path: Path) -> None:
    assert gold(made(tmp_path, [-0.1, 0.0]), threshold=0.0) == {"0": "other", "1": "cat"}


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    message = refused(made(tmp_path, [0.5, "high"]), threshold=0.5)
    assert "items.jsonl:2: dataset.annotations.clerk.column=said: 'high' is no number" in message
    assert "threshold=0.5" in message


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_score_of_nan_is_not_coerced_to_the_negative_class(tmp_path: Path, ending: str) -> None:
    values = [0.9, float("nan")] if ending == "jsonl" else ["0.9", "nan"]
    try:
        found = gold(made(tmp_path, values, ending), threshold=0.5)
    except UserError:
        return
    assert found == {"0": "cat"}


@pytest.mark.parametrize(
    ("task", "values"), [(MOODS, None), (Task(name="two", classes=["a", "b"]), None), (TASK, VALUES)], ids=str
)
def test_a_threshold_needs_two_classes_a_positive_one_and_no_values(
    tmp_path: Path, task: Task, values: dict[Any, str] | None
) -> None:
    message = refused(made(tmp_path, [1]), task, threshold=0.5, values=values)
    assert message.startswith("dataset.annotations.clerk.threshold=0.5: needs a task of two classes")


# ---------------------------------------------------------------------------------------------------- confidence


def test_a_confidence_column_goes_with_the_votes(tmp_path: Path) -> None:
    cast = votes(made(tmp_path, ["cat", "cat", "other", "cat"], sure=[0, "0.75", 1.0, None]), confidence="sure")
    assert cast["confidence"].fillna(-1).to_list() == [0.0, 0.75, 1.0, -1.0]


def test_a_confidence_of_nan_is_none(tmp_path: Path) -> None:
    assert votes(made(tmp_path, ["cat"], sure=[float("nan")]), confidence="sure")["confidence"].isna().all()


@pytest.mark.parametrize("value", [1.01, -0.1, 85, "high", float("inf"), [1], "nan"], ids=str)
def test_a_bad_confidence_is_told_in_one_line(tmp_path: Path, value: object) -> None:
    message = refused(made(tmp_path, ["cat", "cat"], sure=[1, value]), confidence="sure")
    assert "items.jsonl:2: dataset.annotations.clerk" in message
    assert f"'sure' holds {value!r}" in message
    assert "from 0 to 1" in message


# --------------------------------------------------------------------------------------------------- dotted names


def test_a_dotted_column_is_a_key_of_an_object(tmp_path: Path) -> None:
    found = made(tmp_path, [{"a": {"b": "cat"}}, {"a": None}, None, {"c": "other"}])
    assert gold(found, column="said.a.b") == {"0": "cat"}


def test_a_column_with_a_dot_in_its_name_comes_first(tmp_path: Path) -> None:
    found = made(tmp_path, [{"a": "cat"}], "jsonl", **{"said.a": ["other"]})
    assert gold(found, column="said.a") == {"0": "other"}
    assert gold(made(tmp_path, ["x"], "csv", **{"llm.a": ["cat"]}), column="llm.a") == {"0": "cat"}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_star_makes_an_annotator_of_every_key(tmp_path: Path, ending: str) -> None:
    found = made(tmp_path, [{"gpt": "cat", "llama": "other"}, {"llama": "cat"}, None], ending)
    cast = annotations_of({"llm": {"column": "said.*"}}, found, ids(found), TASK)
    assert [tuple(row) for row in cast[["item_id", "annotator", "label"]].to_numpy()] == [
        ("0", "llm/gpt", "cat"),
        ("0", "llm/llama", "other"),
        ("1", "llm/llama", "cat"),
    ]
    assert set(cast["view"]) == {"item"}


def test_a_star_takes_confidence_from_a_column_or_a_key(tmp_path: Path) -> None:
    found = made(tmp_path, [{"gpt": "cat"}], meta=[{"sure": 0.5}])
    cast = annotations_of({"llm": {"column": "said.*", "confidence": "meta.sure"}}, found, ids(found), TASK)
    assert cast["confidence"].to_list() == [0.5]


def test_a_star_on_what_is_no_object_is_refused(tmp_path: Path) -> None:
    message = refused(made(tmp_path, [{"gpt": "cat"}, "cat"]), column="said.*")
    assert (
        "items.jsonl:2: dataset.annotations.clerk.column=said.*: want an object of annotator -> label, got str"
        in message
    )


def test_an_unknown_label_under_a_star_is_told(tmp_path: Path) -> None:
    assert "unknown label 'dog'" in refused(made(tmp_path, [{"gpt": "dog"}]), column="said.*")


def test_a_misspelt_root_of_a_dotted_column_is_told_with_the_near_one(tmp_path: Path) -> None:
    message = refused(made(tmp_path, [{"gpt": "cat"}]), column="siad.gpt")
    assert "did you mean 'said'" in message


@pytest.mark.parametrize("column", ["said.gtp", "said.*"])
def test_gold_from_a_key_that_no_row_has_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.gold\.column"):
        gold(made(tmp_path, [{"gpt": "cat"}, {"gpt": "other"}]), column=column)


def test_votes_from_a_key_that_no_row_has_are_refused(tmp_path: Path) -> None:
    assert "said.gtp" in refused(made(tmp_path, [{"gpt": "cat"}, {"gpt": "other"}]), column="said.gtp")


# ------------------------------------------------------------------------------------------------- specifications


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"values": {1: "dog"}},
            ["dataset.annotations.clerk.values", "'dog' is no class of task 'pets'", "other or cat"],
        ),
        ({"values": {1.1: "cat"}}, ["dataset.annotations.clerk.values=1.1: yaml reads 1.10 and 1.1 as one number"]),
        ({"abstain": [1.1]}, ["dataset.annotations.clerk.abstain=1.1: yaml reads"]),
        ({"threshold": 0.5, "ignore": [1.1]}, ["dataset.annotations.clerk.ignore=1.1: yaml reads"]),
        ({"valeus": {1: "cat"}}, ["dataset.annotations.clerk.valeus", "no such setting", "values"]),
    ],
    ids=str,
)
def test_a_bad_specification_is_told_in_one_line(tmp_path: Path, spec: dict[str, Any], told: list[str]) -> None:
    message = refused(made(tmp_path, [1]), **spec)
    assert all(part in message for part in told), message


def test_a_specification_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^dataset\.gold\.column: say which column"):
        gold_of({"values": VALUES}, made(tmp_path, [1]), ["0"], TASK)


def test_a_column_name_instead_of_a_specification_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        gold_of("said", made(tmp_path, ["cat"]), ["0"], TASK)  # type: ignore[arg-type]
    assert "dataset.gold=said" in str(caught.value)


def test_several_annotators_stand_in_the_order_of_the_configuration(tmp_path: Path) -> None:
    found = made(tmp_path, ["cat", "other"], second=["other", "cat"])
    cast = annotations_of({"zoe": {"column": "said"}, "abe": {"column": "second"}}, found, ids(found), TASK)
    assert list(zip(cast["annotator"], cast["item_id"], cast["label"], strict=True)) == [
        ("zoe", "0", "cat"),
        ("zoe", "1", "other"),
        ("abe", "0", "other"),
        ("abe", "1", "cat"),
    ]
