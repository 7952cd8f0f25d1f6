"""Marks of items: each by hand, and none without its cause."""

import pandas as pd
import pytest
from tests import made

from silvertune.evaluation import item_marks

IDS = pd.Index(["a", "b", "c", "d"], name="item_id", dtype=object)
GOLD = pd.Series({"a": "soe", "b": "soe", "c": "other"})


def decisions(**changes: list[object]) -> pd.DataFrame:
    """Four items of one pool, all labelled soe and kept, of one confidence."""
    usual: dict[str, list[object]] = {
        "label": ["soe"] * 4, "confidence": [0.9] * 4, "keep": [True] * 4, "train_label": ["soe"] * 4,
        "source": ["labeler"] * 4, "fold": [0] * 4,
    }  # fmt: skip
    return pd.DataFrame(usual | changes, index=IDS)


def votes(rows: list[tuple[str, str, str | None]]) -> pd.DataFrame:
    table = made.votes_of({"item_id": item, "view": view, "label": label} for item, view, label in rows)
    return table.assign(stage="labeler")


def marked(
    of: pd.DataFrame, cast: pd.DataFrame | None = None, predicted: dict[str, str] | None = None
) -> dict[str, set[str]]:
    table = pd.DataFrame({"label": pd.Series(predicted or {}, dtype=object)})
    marks = item_marks.of_items(IDS, of, votes([]) if cast is None else cast, table, GOLD)
    assert list(marks) == list(item_marks.MARKS)
    assert marks.dtypes.eq(bool).all()
    return {str(name): set(marks.index[marks[name]]) for name in marks if marks[name].any()}


def test_what_is_right_and_certain_is_only_kept() -> None:
    assert marked(decisions(label=["soe", "soe", "other", "soe"], train_label=["soe", "soe", "other", "soe"])) == {
        "kept": {"a", "b", "c", "d"}
    }


def test_wrong_labels_dropped_kept_and_trained_on() -> None:
    found = marked(decisions(keep=[True, False, True, True], train_label=["soe", None, "soe", "soe"]))
    assert found == {
        "kept": {"a", "c", "d"}, "dropped": {"b"}, "dropped_though_right": {"b"}, "wrong": {"c"},
        "wrong_and_confident": {"c"}, "trained_on_wrong": {"c"},
    }  # fmt: skip


def test_an_unsure_label_that_is_wrong_is_not_wrong_with_confidence() -> None:
    found = marked(decisions(confidence=[0.9, 0.9, 0.2, 0.8]))
    assert found["wrong"] == {"c"}
    assert "wrong_and_confident" not in found
    assert found["unsure"] == found["doubted"] == {"c"}


def test_doubts_are_of_kept_labels() -> None:
    cast = votes([("a", "json", "soe"), ("a", "text", "other"), ("b", "json", "soe"), ("b", "text", "other")])
    found = marked(decisions(keep=[True, False, True, True]), cast, {"d": "other", "a": "soe"})
    assert found["disagree"] == {"a", "b"}
    assert found["student_differs"] == {"d"}
    assert found["doubted"] == {"a", "d"}


def test_votes_of_a_fallback_and_votes_without_a_label_are_no_disagreement() -> None:
    cast = votes([("a", "json", "soe"), ("a", "text", None), ("b", "json", "soe")])
    fallback = votes([("b", "text", "other")]).assign(stage="fallback")
    assert "disagree" not in marked(decisions(), pd.concat([cast, fallback]))


def test_predictions_the_fallback_and_items_without_a_label() -> None:
    found = marked(
        decisions(label=["soe", None, None, "soe"], keep=[True, False, False, True],
                  train_label=["soe", "soe", None, "soe"], source=["labeler", "fallback", "dropped", "labeler"]),
        predicted={"a": "other", "c": "other"},
    )  # fmt: skip
    assert found["no_label"] == {"b", "c"}
    assert found["from_fallback"] == {"b"}
    assert found["prediction_wrong"] == {"a"}
    assert "dropped" not in found


def test_one_fold_is_enough() -> None:
    both = pd.concat([decisions(), decisions(keep=[False, True, True, True]).assign(fold=1)])
    found = marked(both)
    assert found["dropped"] == {"a"}
    assert "a" in found["kept"]


@pytest.mark.parametrize("ids", [[], ["nowhere"]])
def test_items_that_nothing_is_known_of_have_no_mark(ids: list[str]) -> None:
    index = pd.Index(ids, dtype=object)
    marks = item_marks.of_items(index, decisions().iloc[:0], votes([]), pd.DataFrame(), pd.Series(dtype=object))
    assert not marks.to_numpy().any()
