import numpy as np
import pandas as pd
import pytest

from silvertune.errors import UserError, cause_and_place


def test_a_failure_is_placed_where_our_code_called_the_library() -> None:
    with pytest.raises(TypeError) as caught:
        pd.Series([1, 2]) <= "abc"  # noqa: B015
    told = cause_and_place(caught.value)
    assert told.startswith("TypeError: Invalid comparison")
    assert told.endswith("(test_errors.py:10)")


def test_what_the_user_has_to_mend_has_no_place() -> None:
    assert cause_and_place(UserError("seed=one: want a number")) == "seed=one: want a number"


def test_an_exception_without_words_is_its_type() -> None:
    with pytest.raises(ValueError) as caught:
        raise ValueError
    assert cause_and_place(caught.value).startswith("ValueError (test_errors.py:")


def test_a_failure_that_was_never_raised_has_no_place() -> None:
    assert cause_and_place(np.linalg.LinAlgError("singular")) == "LinAlgError: singular"
