import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tests import made

from silvertune.errors import (
    UserError,
    cause_and_place,
    check_choice,
    check_number,
    check_truth_value,
    check_type,
    check_whole_number,
    in_one_line,
)
from silvertune.schema import Config


def test_a_failure_is_placed_where_our_code_called_the_library() -> None:
    with pytest.raises(TypeError) as caught:
        pd.Series([1, 2]) <= "abc"  # noqa: B015
    told = cause_and_place(caught.value)
    assert told.startswith("TypeError: Invalid comparison")
    assert told.endswith("(test_errors.py:30)")


def test_what_the_user_has_to_mend_has_no_place() -> None:
    assert cause_and_place(UserError("seed=one: want a number")) == "seed=one: want a number"


def test_an_exception_without_words_is_its_type() -> None:
    with pytest.raises(ValueError) as caught:
        raise ValueError
    assert cause_and_place(caught.value).startswith("ValueError (test_errors.py:")


def test_a_failure_that_was_never_raised_has_no_place() -> None:
    assert cause_and_place(np.linalg.LinAlgError("singular")) == "LinAlgError: singular"


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (2, {"most": 1}, "my.key=2: want a number from 0 to 1"),
        (float("nan"), {"most": 1}, "my.key=nan: want a number from 0 to 1"),
        (True, {"most": 1}, "my.key=True: want a number from 0 to 1"),
        ("0.5", {"most": 1}, "my.key=0.5: want a number from 0 to 1"),
        (None, {}, "my.key=None: want a number from 0"),
        (float("inf"), {}, "my.key=inf: want a number from 0"),
        (0, {"above": True}, "my.key=0: want a number above 0"),
        (0, {"most": 1, "above": True}, "my.key=0: want a number above 0, at most 1"),
        (1.0, {"most": 1, "below": True}, "my.key=1.0: want a number from 0, below 1"),
        (0.4, {"least": 0.5, "most": 1}, "my.key=0.4: want a number from 0.5 to 1"),
    ],
)
def test_a_number_outside_its_range_is_refused(value: object, limits: dict[str, Any], message: str) -> None:
    with made.refused(message):
        check_number("my.key", value, **limits)


def test_the_limits_of_a_range_are_inside_unless_they_are_excluded() -> None:
    check_number("my.key", 0, most=1)
    check_number("my.key", 1, most=1)
    check_number("my.key", 1, most=1, above=True)
    check_number("my.key", 0, most=1, below=True)


@pytest.mark.parametrize("value", [0, 1.0, True, "2", None])
def test_what_is_no_whole_number_from_the_least_on_is_refused(value: object) -> None:
    with made.refused(f"my.key={value}: want a whole number from 1"):
        check_whole_number("my.key", value, 1)
    check_whole_number("my.key", 1, 1)


@pytest.mark.parametrize("value", ["no", "false", "", 0, 1, None])
def test_what_is_no_truth_value_is_refused(value: object) -> None:
    with made.refused("my.key=", "want true or false"):
        check_truth_value("my.key", value)
    check_truth_value("my.key", False)


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        ("a", int, "a whole number"),
        (1.5, "int", "a whole number"),
        (True, int | None, "a whole number"),
        (None, int, "a whole number"),
        ("a", float | None, "a number"),
        (False, "float", "a number"),
        ("no", bool, "true or false"),
    ],
)
def test_what_is_of_another_type_than_its_parameter_is_refused(value: object, annotation: Any, wanted: str) -> None:
    with made.refused("my.key=", f"want {wanted}"):
        check_type("my.key", value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(1, int), (1, float), (0.5, "float"), (None, int | None), (None, "float | None"), (True, bool),
     ("a", str), (3, str), ("a", int | str), ([1], Sequence[int]), ("a", inspect.Parameter.empty)],
)  # fmt: skip
def test_what_an_annotation_allows_or_says_nothing_of_is_taken(value: object, annotation: Any) -> None:
    check_type("my.key", value, annotation)


def test_a_word_that_is_no_choice_is_refused() -> None:
    with made.refused("my.key=d: want a, b or c"):
        check_choice("my.key", "d", ("a", "b", "c"))
    check_choice("my.key", "b", ("a", "b", "c"))


def test_a_cause_that_the_message_quotes_is_said_once() -> None:
    error = UserError("backend: the provider does not answer (ConnectionError: no route)")
    error.__cause__ = ConnectionError("no route\nto host")
    assert in_one_line(error) == "backend: the provider does not answer (ConnectionError: no route) to host"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("seed=one", "a whole number"),
        ("seed=null", "something else than null"),
        ("evaluation.folds=[1]", "a whole number"),
        ("+evaluation.folds=[1]", "a whole number"),
        ("resume=perhaps Value x is", "true or false"),
        ("study.arms=3", "a mapping, such as {a: b}"),
        ("study.references={a:1}", "a list, such as [a,b]"),
        ("task.classes=x", "a list, such as [a,b]"),
        ("task.name=[x]", "a text"),
    ],
)
def test_a_setting_of_the_wrong_type_is_told_with_the_right_one(typed: str, wanted: str) -> None:
    config = OmegaConf.structured(Config)
    with pytest.raises(ConfigCompositionException) as failed:
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides([typed]), config)
    assert in_one_line(failed.value) == f"{typed}: want {wanted}"


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("evaluation: {folds: many}", "evaluation.folds=many: want a whole number"),
        ("study: {arms: {a: filter=none}}", "study.arms.a=filter=none: want a list, such as [a,b]"),
        ("seed: null", "seed=null: want something else than null"),
    ],
)
def test_a_setting_of_the_wrong_type_in_a_file_is_told_with_the_file(yaml: str, told: str) -> None:
    with pytest.raises(OmegaConfBaseException) as failed:
        OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(yaml))
    words = f"In 'experiments/mine': {type(failed.value).__name__} raised while composing config:\n{failed.value}"
    assert in_one_line(ConfigCompositionException(words)) == f"In 'experiments/mine': {told}"
