"""Classes and words as a configuration writes them: kept, or one line that says to quote them."""

from typing import Any

import pytest
from omegaconf import OmegaConf
from tests import made

from silvertune.composition import task_of
from silvertune.datasets.class_names import class_name
from silvertune.schema import Config


def written(yaml: str) -> dict[str, Any]:
    """The task of a yaml file, as Hydra hands it on."""
    content = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create({"task": OmegaConf.create(yaml)}))
    task: dict[str, Any] = OmegaConf.to_container(content.task)  # type: ignore[assignment]
    return task


@pytest.mark.parametrize(
    ("value", "name"),
    [("NO", "NO"), ("1.10", "1.10"), (0, "0"), (-3, "-3"), ("e\u0301", "\u00e9"), (10**20, "1" + "0" * 20)],
)
def test_a_class_is_called_as_it_is_written(value: object, name: str) -> None:
    assert class_name(value, "task.classes") == name


@pytest.mark.parametrize(
    ("value", "reading"),
    [
        (False, "NO, no, off and false"),
        (True, "YES, yes, on and true"),
        (1.1, "1.10 and 1.1 as one number"),
        (None, "null, ~ and an empty value"),
    ],
    ids=repr,
)
def test_a_class_whose_spelling_yaml_has_lost_has_to_be_quoted(value: object, reading: str) -> None:
    with made.refused(
        f"task.classes={'null' if value is None else str(value).lower()}: yaml reads {reading}", "; quote it"
    ):
        class_name(value, "task.classes")


def test_what_is_no_scalar_is_no_class() -> None:
    with made.refused("task.classes=['a']: want a text or a whole number"):
        class_name(["a"], "task.classes")


@pytest.mark.parametrize(
    "names", [["NO", "SE"], ["yes", "on"], ["null", "~"], ["1.10", "1.1"], ["007", "7"], ["2024-01-01", "y"]], ids=str
)
def test_quoted_classes_and_words_are_what_is_written(names: list[str]) -> None:
    one, two = names
    task = task_of(
        written(
            f"{{name: t, classes: ['{one}', '{two}'], positive: '{one}', descriptions: {{'{one}': ['{two}']}}, "
            f"answers: {{'{two}': '{one}', '{one}': '{two}'}}, examples: [{{view: v, text: t, label: '{two}'}}]}}"
        )
    )
    assert task.classes == names
    assert task.positive == one
    assert task.descriptions == {one: [two]}
    assert task.answers == {two: one, one: two}
    assert task.examples == [{"view": "v", "text": "t", "label": two}]


@pytest.mark.parametrize(
    "names", ["[Against, Favor, None]", "[N, Y]", "[2024-01-01, 2024-01-02]", "[0, 1, 12]", "[nan, x]"]
)
def test_classes_that_yaml_leaves_alone_need_no_quotes(names: str) -> None:
    assert task_of(written(f"{{name: t, classes: {names}}}")).classes == names.strip("[]").split(", ")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("classes: [NO, SE, DK]", "task.classes[0]=false"),
        ("classes: [a, off]", "task.classes[1]=false"),
        ("classes: [1.1, 1.10]", "task.classes[0]=1.1"),
        ("classes: [a, null]", "task.classes[1]=null"),
        ("classes: ['NO', a]\npositive: NO", "task.positive=false"),
        ("classes: ['NO', a]\ndescriptions: {NO: [x]}", "task.descriptions=false"),
        ("classes: ['NO', a]\ndescriptions: {a: [YES]}", "task.descriptions.a=true"),
        ("classes: [soe, other]\nanswers: {soe: YES, other: NO}", "task.answers.soe=true"),
        ("classes: ['NO', a]\nanswers: {NO: b}", "task.answers=false"),
        ("classes: ['NO', a]\nexamples: [{view: text, text: x, label: NO}]", "task.examples[0].label=false"),
    ],
    ids=str,
)
def test_what_yaml_has_lost_is_told_in_one_line(content: str, key: str) -> None:
    with made.refused(f"{key}: yaml reads", "quote it"):
        task_of(written(f"name: t\n{content}"))


def test_two_spellings_of_one_class_are_one_class() -> None:
    with made.refused("task.classes=", "at least two different classes"):
        task_of(written('{name: t, classes: ["\\u00e9", "e\\u0301"]}'))


@pytest.mark.parametrize("other", ["a ", " a", "a\\u00a0", "a\\u200b"], ids=ascii)
def test_classes_that_differ_only_by_blanks_are_refused(other: str) -> None:
    with made.refused("task.classes: 'a' and ", "differ only by blanks around them"):
        task_of(written(f'{{name: t, classes: ["a", "{other}"]}}'))
