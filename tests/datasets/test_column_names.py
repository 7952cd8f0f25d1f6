"""No two columns of a file are the same letters."""

from tests import made

from silvertune.datasets import column_names


def test_columns_that_are_the_same_letters_are_refused() -> None:
    assert column_names.names_of_columns(["e\u0301", "a"], "a.csv:1") == ["\u00e9", "a"]
    with made.refused("a.csv:1: the column 'a' stands twice"):
        column_names.names_of_columns(["a", "b", "a"], "a.csv:1")
