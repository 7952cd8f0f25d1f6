"""One reading of labels: exactly first, as a number only where that is unambiguous."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import made

from silvertune.datasets.label_values import LabelValues, NoLabel


def read(classes: Sequence[Any], column: Sequence[Any], **settings: Any) -> list[object]:
    """What each value of the column means, where each class is spelled by its own name."""
    values = LabelValues({name: str(name) for name in classes}, "dataset.gold.column=label", **settings)
    return list(values.read(column, [f"items.csv:{number}" for number in range(2, len(column) + 2)]))


CODES = [
    ("1.1", "1.10"),
    ("007.1", "7.1"),
    ("4E5", "40E4"),
    ("True", "1"),
    ("1_000", "1000"),
    (" 1", "1"),
    ("1e400", "2e400"),
    ("1e400", "inf"),
    ("1", "\uff11"),
    ("0", "-0"),
    ("1", "1.0"),
    ("NaN", "nan"),
    ("None", "none"),
    ("true", "TRUE"),
    ("00", "000"),
    ("+1", "1"),
    (".5", "0.5"),
]


@pytest.mark.parametrize("pair", CODES, ids=str)
def test_classes_that_are_codes_stay_apart(pair: tuple[str, str]) -> None:
    assert read(pair, [*pair, *reversed(pair)]) == [*pair, *reversed(pair)]


@given(st.lists(st.text("0123456789.eE+-_ TrueFalse", min_size=1), min_size=2, max_size=8, unique=True))
def test_every_class_is_read_by_its_own_spelling(names: list[str]) -> None:
    assert read(names, names) == names


@pytest.mark.parametrize(
    ("classes", "value", "parts"),
    [
        (["1.1", "1.10"], 1.1, ["1.1 is, as a number, both '1.1' and '1.10'"]),
        (["7", "007"], 7, ["7 is", "both '7' and '007'"]),
        (["4E5", "40E4"], 400000, ["400000 is", "'4E5'", "'40E4'"]),
        (["4E5", "40E4"], "400000", ["'400000' is", "'4E5'", "'40E4'"]),
        (["True", "1"], True, ["True is", "'True'", "'1'"]),
        (["1", " 1"], " 1 ", ["' 1 ' is, without the blanks", "'1'", "' 1'"]),
    ],
    ids=str,
)
def test_where_two_classes_meet_both_are_named_with_the_row(
    classes: list[str], value: object, parts: list[str]
) -> None:
    with made.refused("items.csv:3: dataset.gold.column=label: ", *parts):
        read(classes, [classes[0], value])


@pytest.mark.parametrize("column", [["1.1", "1.10"], ["1.10", "1.2", "1.1"], ["1.10", "1.100"]], ids=str)
def test_a_column_that_spells_one_number_in_two_ways_is_of_codes(column: list[str]) -> None:
    with made.refused("items.csv:", "spelled like no label", "'1.10'"):
        read(["1.1", "1.2"], column)


@pytest.mark.parametrize("value", [1, 1.0, "1.0", "01", " 1 ", "1", b"1", [1], ["1"], True], ids=repr)
def test_a_number_is_read_where_it_can_only_be_one(value: object) -> None:
    assert read(["0", "1"], [value, "0"]) == ["1", "0"]


@pytest.mark.parametrize("value", ["1_0", "\uff11\uff10", "ten", "1,0", "0x0a", [], None, float("nan")], ids=repr)
def test_what_is_no_number_is_no_class(value: object) -> None:
    if value is None or value == [] or value != value:
        assert read(["10", "11"], [value]) == [NoLabel.NOTHING]
    else:
        with made.refused("items.csv:2: dataset.gold.column=label: unknown label", "want 10 or 11"):
            read(["10", "11"], [value])


@pytest.mark.parametrize(
    "written", ["e\u0301loge", " \u00e9loge\u00a0", "\u200be\u0301loge", b"e\xcc\x81loge"], ids=ascii
)
@pytest.mark.parametrize("name", ["\u00e9loge", "e\u0301loge"], ids=ascii)
def test_letters_are_compared_in_their_composed_form(written: object, name: str) -> None:
    assert read([name, "other"], [written]) == [name]


def test_other_letters_stay_other_letters() -> None:
    for value in ("eloge", "\u00c9loge", "\ufb01n"):
        with made.refused("unknown label"):
            read(["\u00e9loge", "fin"], [value])


def test_abstentions_and_ignored_values_come_before_classes() -> None:
    column = read(["0", "1", "?"], ["?", -1, "-1.0", "1", 0], abstain=["?", -1], ignore=[0])
    assert column == [NoLabel.ABSTAINED, NoLabel.ABSTAINED, NoLabel.ABSTAINED, "1", NoLabel.NOTHING]


def test_a_list_of_several_labels_is_no_label() -> None:
    with made.refused("items.csv:2: dataset.gold.column=label: 2 labels in a list", "want one, or an empty list"):
        read(["a", "b"], [["a", "b"]])


def test_half_a_character_in_a_label_is_told_with_its_row() -> None:
    with made.refused("items.csv:3: dataset.gold.column=label: holds half a character"):
        read(["a", "b"], ["a", "b\ud800"])


def test_two_classes_of_one_spelling_are_refused() -> None:
    with made.refused("gold: '1' stands for 'a' and for 'b'"):
        LabelValues({1: "a", "1": "b"}, "gold")
    with made.refused("gold: "):
        LabelValues({"\u00e9": "a", "e\u0301": "b"}, "gold")


@pytest.mark.parametrize("value", [None, 1.1], ids=repr)
def test_a_value_whose_spelling_yaml_has_lost_has_to_be_quoted(value: object) -> None:
    with made.refused("gold=", "yaml reads", "quote it"):
        LabelValues({value: "a", "b": "b"}, "gold")
    with made.refused("gold=", "yaml reads", "quote it"):
        LabelValues({"a": "a", "b": "b"}, "gold", ignore=[value])
    settings: dict[str, Any]
    for key, classes, settings in (
        ("values", {value: "a", "b": "b"}, {}),
        ("abstain", {"a": "a"}, {"abstain": [value]}),
        ("ignore", {"a": "a"}, {"ignore": [value]}),
    ):
        with made.refused(f"dataset.gold.{key}=", "yaml reads", "quote it"):
            LabelValues(classes, "dataset.gold.column=label", settings="dataset.gold", **settings)


@pytest.mark.parametrize("value", ["NO", "no", "off"])
def test_a_label_that_yaml_read_as_a_truth_value_is_told_to_be_quoted(value: str) -> None:
    with made.refused(f"unknown label '{value}'", "quote it in the configuration"):
        LabelValues({False: "a", "DK": "b"}, "gold").read([value], ["items.csv:2"])
