"""JSON of a file: what a plain reader would lose without a word is told, or kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.datasets import json_text
from silvertune.datasets.values import normal_form

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3).map(normal_form), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=VALUES)
def test_what_was_written_is_read(value: object) -> None:
    assert json_text.decoded(json.dumps(value)) == value


@given(before=st.lists(VALUES, max_size=4), blanks=st.sampled_from(["", " ", "\n\t"]))
def test_the_entry_that_has_a_key_twice_is_found(before: list[object], blanks: str) -> None:
    entries = [*map(json.dumps, before), '{"a": 1, "a": 1}', "{}"]
    text = f"{blanks}[{blanks}" + f"{blanks},{blanks}".join(entries) + f"{blanks}]"
    assert json_text.entry_with_key_twice(text) == len(before) + 1


@pytest.mark.parametrize("text", ["[]", "[1, 2]", "[1,", '[{"a": 1}]'])
def test_a_list_without_a_key_twice_has_no_such_entry(text: str) -> None:
    assert json_text.entry_with_key_twice(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' stands twice in one object"),
        ('{"x": [{"a": 1, "b": 2, "a": 3}]}', "the key 'a' stands twice in one object"),
        ('{"\u00e9": 1, "e\u0301": 2}', r"the keys '\xe9' and 'e\u0301' are the same letters"),
        ('{"a": }', "not JSON (Expecting value"),
        ("[" * 10**5, "not JSON ("),
    ],
)
def test_what_is_wrong_is_told(text: str, words: str) -> None:
    with pytest.raises(json_text.NotReadError) as caught:
        json_text.decoded(text)
    assert str(caught.value).startswith(words)


def test_nan_is_null_and_keys_are_composed() -> None:
    assert json_text.decoded('{"e\u0301": NaN}') == {"\u00e9": None}
