"""The views' probabilities become one prediction an item."""

import pandas as pd
import pytest
from tests import made

from silvertune.errors import UserError
from silvertune.evaluation.predictions import check, complete, decide, from_labels
from silvertune.schema import Evaluation, Task
from silvertune.votes import table

PETS = Task(name="pets", classes=["other", "cat"], positive="cat")
MOODS = Task(name="moods", classes=["glad", "sad", "calm"], positive=None)
PROBS = pd.DataFrame(
    {"cat": [0.75, 0.25, 0.5, 0.125], "other": [0.25, 0.75, 0.5, 0.875]},
    index=pd.MultiIndex.from_tuples(
        [("b", "json"), ("b", "text"), ("a", "text"), ("c", "json")], names=["item_id", "view"]
    ),
)


WANTED = "want a number from 0 to 1, or half, validation or shift_corrected"


def how(decision: str, threshold: float | str = 0.5) -> Evaluation:
    return Evaluation(split="kfold", decision=decision, threshold=threshold)


@pytest.mark.parametrize(
    ("decision", "cat"),
    [
        ("any_view", {"b": 0.75, "a": 0.5, "c": 0.125}),
        ("all_views", {"b": 0.25, "a": 0.5, "c": 0.125}),
        ("mean", {"b": 0.5, "a": 0.5, "c": 0.125}),
    ],
)
def test_decisions_by_hand(decision: str, cat: dict[str, float]) -> None:
    found = decide(PROBS, PETS, how(decision))
    assert list(found.columns) == ["label", "prob:other", "prob:cat"]
    assert found.index.name == "item_id"
    assert found["prob:cat"].to_dict() == cat
    assert found["prob:other"].to_dict() == {item: 1 - p for item, p in cat.items()}
    assert found["label"].to_dict() == {item: "cat" if p >= 0.5 else "other" for item, p in cat.items()}


@pytest.mark.parametrize(("threshold", "cats"), [(0.0, "bac"), (0.125, "bac"), (0.6, "b"), (0.75, "b"), (1.0, "")])
def test_an_item_is_positive_from_the_threshold_on(threshold: float, cats: str) -> None:
    found = decide(PROBS, PETS, how("any_view", threshold))
    assert set(found.index[found["label"] == "cat"]) == set(cats)


def test_a_class_that_was_not_trained_on_has_no_probability() -> None:
    found = decide(PROBS[["other"]] * 0 + 1, PETS, how("any_view"))
    assert found["prob:cat"].to_list() == [0, 0, 0]
    assert found["label"].to_list() == ["other"] * 3


def test_several_classes_take_the_most_probable_on_the_mean() -> None:
    index = pd.MultiIndex.from_tuples([("a", "v"), ("a", "w"), ("b", "v")], names=["item_id", "view"])
    probs = pd.DataFrame({"glad": [0.6, 0.0, 0.2], "calm": [0.0, 0.6, 0.2], "sad": [0.4, 0.4, 0.6]}, index=index)
    found = decide(probs, MOODS, how("mean"))
    assert list(found.columns) == ["label", "prob:glad", "prob:sad", "prob:calm"]
    assert found["label"].to_dict() == {"a": "sad", "b": "sad"}
    assert found.loc["a", ["prob:glad", "prob:sad", "prob:calm"]].to_list() == pytest.approx([0.3, 0.4, 0.3])


@pytest.mark.parametrize("decision", ["any_view", "all_views"])
@pytest.mark.parametrize(
    "task",
    [
        MOODS,
        Task(name="two", classes=["a", "b"], positive=None),
        Task(name="three", classes=["a", "b", "c"], positive="a"),
    ],
    ids=lambda task: task.name,
)
def test_any_and_all_views_need_a_positive_class_and_two(decision: str, task: Task) -> None:
    probs = pd.DataFrame({name: [1 / len(task.classes)] for name in task.classes}, index=PROBS.index[:1])
    with pytest.raises(UserError) as caught:
        decide(probs, task, how(decision))
    message = str(caught.value)
    assert message.startswith(f"evaluation.decision={decision} needs task.positive and two classes")
    assert "evaluation.decision=mean" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("evaluation", "told"),
    [
        (how("first"), "evaluation.decision=first: want any_view, all_views or mean"),
        (
            how("mean", 1.5),
            f"evaluation.threshold=1.5: {WANTED}",
        ),
        (
            how("mean", "best"),
            f"evaluation.threshold=best: {WANTED}",
        ),
        (
            how("mean", -0.1),
            f"evaluation.threshold=-0.1: {WANTED}",
        ),
    ],
)
def test_settings_out_of_range_are_refused(evaluation: Evaluation, told: str) -> None:
    with pytest.raises(UserError) as caught:
        decide(PROBS, PETS, evaluation)
    assert str(caught.value) == told


def test_a_threshold_chosen_on_validation_needs_a_positive_class() -> None:
    with made.refused("evaluation.threshold=validation needs task.positive", "task 'moods' has not"):
        check(MOODS, how("mean", "validation"))
    check(MOODS, how("mean", "shift_corrected"))


@pytest.mark.parametrize("rule", ["half", "validation", "shift_corrected"])
def test_a_rule_for_the_threshold_starts_from_one_half(rule: str) -> None:
    pd.testing.assert_frame_equal(decide(PROBS, PETS, how("any_view", rule)), decide(PROBS, PETS, how("any_view", 0.5)))


# ----------------------------------------------------------------------------------------- the labeler as the arm


def labels(rows: dict[str, tuple[str | None, float | None]]) -> pd.DataFrame:
    index = pd.Index(list(rows), name="item_id")
    return pd.DataFrame(
        {
            "label": pd.Series([label for label, _ in rows.values()], index=index, dtype=object),
            "confidence": pd.Series([sure for _, sure in rows.values()], index=index, dtype=float),
            "n_votes": pd.Series([int(label is not None) for label, _ in rows.values()], index=index),
        }
    )


def vote(item: str, view: str, label: str | None, cat: float | None = None) -> dict[str, object]:
    probs = {} if cat is None else {"prob:cat": cat, "prob:other": 1 - cat}
    return {"item_id": item, "annotator": "m", "view": view, "label": label} | probs


def test_labels_without_distributions_become_their_confidence() -> None:
    given = labels({"a": ("cat", 0.75), "b": ("other", None), "c": (None, None)})
    cast = table([vote("a", "item", "cat"), vote("b", "item", "other"), vote("c", "item", None)], PETS.classes)
    found = from_labels(given, cast, PETS, how("any_view"))
    assert found.loc["a", ["prob:other", "prob:cat"]].to_list() == [0.25, 0.75]
    assert found.loc["b", ["prob:other", "prob:cat"]].to_list() == [1.0, 0.0]
    assert found.loc["c", ["prob:other", "prob:cat"]].to_list() == [0.5, 0.5]
    assert found["label"].to_list() == ["cat", "other", None]


def test_a_doubtful_label_of_three_classes_spreads_the_rest_evenly() -> None:
    found = from_labels(
        labels({"a": ("sad", 0.5)}), table([vote("a", "item", "sad")], MOODS.classes), MOODS, how("mean")
    )
    assert found.loc["a", ["prob:glad", "prob:sad", "prob:calm"]].to_list() == [0.25, 0.5, 0.25]


def test_labels_with_distributions_keep_them_and_their_own_label() -> None:
    given = labels({"b": ("other", 0.3), "a": (None, None)})
    rows = [vote("b", "json", "cat", 0.75), vote("b", "text", "other", 0.25), vote("a", "text", None)]
    found = from_labels(given, table(rows, PETS.classes, probs=True), PETS, how("any_view"))
    assert list(found.index) == ["b", "a"]
    assert found["prob:cat"].to_list() == [0.75, 0.5]
    assert found["label"].to_list() == ["other", None]


def test_one_vote_without_a_distribution_makes_all_of_them_confidences() -> None:
    given = labels({"a": ("cat", 0.9), "b": ("other", 0.8)})
    rows = [vote("a", "json", "cat", 0.6), vote("b", "json", "other")]
    found = from_labels(given, table(rows, PETS.classes, probs=True), PETS, how("any_view"))
    assert found["prob:cat"].to_list() == pytest.approx([0.9, 0.2])


def test_labels_and_tuned_models_give_the_same_columns() -> None:
    given = labels({"a": ("cat", 0.9)})
    found = from_labels(given, table([vote("a", "item", "cat")], PETS.classes), PETS, how("any_view"))
    assert set(found.columns) == set(decide(PROBS, PETS, how("any_view")).columns)


@pytest.mark.parametrize("decision", ["any_view", "all_views", "mean"])
def test_no_probabilities_are_no_predictions(decision: str) -> None:
    nothing = pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"]))
    found = decide(nothing, PETS, how(decision))
    assert found.empty
    assert list(found.columns) == ["label", "prob:other", "prob:cat"]


def test_items_without_a_prediction_have_a_null_label_and_an_even_distribution() -> None:
    items = pd.Index(["z", "a", "b"], name="item_id")
    found = complete(decide(PROBS, PETS, how("any_view")), items, PETS)
    assert list(found.index) == ["z", "a", "b"]
    assert found["label"].to_list() == [None, "cat", "cat"]
    assert found.loc["z", ["prob:other", "prob:cat"]].to_list() == [0.5, 0.5]
    assert found.loc["b", ["prob:other", "prob:cat"]].to_list() == [0.25, 0.75]


def test_every_distribution_sums_to_one() -> None:
    given = labels({"a": ("cat", 0.9), "b": (None, None), "c": ("other", 0.2)})
    cast = table([vote("a", "item", "cat"), vote("c", "item", "other")], PETS.classes)
    for found in (from_labels(given, cast, PETS, how("any_view")), decide(PROBS, PETS, how("mean"))):
        assert found[["prob:other", "prob:cat"]].sum(axis=1).to_list() == pytest.approx([1] * len(found))
