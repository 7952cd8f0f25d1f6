"""The names of classes, and the words that stand for them, as a configuration writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from silvertune.datasets.values import normal_form, text_of, without_blanks_around
from silvertune.errors import UserError


def class_name(value: Any, key: str) -> str:
    """The class, or the word, that a scalar of the configuration is.

    Yaml turns NO, yes, on, 1.10, null and others into values that are written differently. What the author wrote is
    lost then, so it is an error and not a class called False.

    Args:
        value: Text, or a whole number, which names the class that is written with its digits.
        key: The configuration's key, for messages.

    Returns:
        The name in Unicode's composed form.

    Raises:
        UserError: The value is neither.
    """
    if isinstance(value, str):
        return normal_form(text_of(value, key))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    readings = {
        "False": "NO, no, off and false without quotes all as false",
        "True": "YES, yes, on and true without quotes all as true",
        "None": "null, ~ and an empty value as nothing",
    }
    reading = "1.10 and 1.1 as one number" if isinstance(value, float) else readings.get(str(value))
    if reading is None:
        raise UserError(f"{key}={value}: want a text or a whole number")
    written = "null" if value is None else str(value).lower()
    raise UserError(f"{key}={written}: yaml reads {reading}; quote it, exactly as it is meant")


def of_task(content: Mapping[str, Any]) -> dict[str, Any]:
    """The classes and words of the configuration's `task`.

    Args:
        content: `classes` and any of `positive`, `descriptions`, `answers` and `examples`, as yaml read them.

    Returns:
        The same keys, with every class and word as a text.

    Raises:
        UserError: Yaml has lost how one of them was written, or two classes differ only by blanks around them.
    """
    names: dict[str, Any] = {
        "classes": [class_name(value, f"task.classes[{i}]") for i, value in enumerate(content["classes"])]
    }
    _refuse_alike(names["classes"])
    if content.get("positive") is not None:
        names["positive"] = class_name(content["positive"], "task.positive")
    if content.get("descriptions"):
        names["descriptions"] = {
            (name := class_name(key, "task.descriptions")): [
                class_name(text, f"task.descriptions.{name}")
                for text in (texts if isinstance(texts, list | tuple) else [texts])
            ]
            for key, texts in content["descriptions"].items()
        }
    if content.get("answers"):
        names["answers"] = {
            (name := class_name(key, "task.answers")): class_name(word, f"task.answers.{name}")
            for key, word in content["answers"].items()
        }
    if content.get("examples"):
        names["examples"] = [
            {key: class_name(value, f"task.examples[{i}].{key}") for key, value in example.items()}
            for i, example in enumerate(content["examples"])
        ]
    return names


def _refuse_alike(classes: Sequence[str]) -> None:
    """Raises UserError for two classes that look the same: no message, table or answer would tell them apart."""
    names: dict[str, str] = {}
    for name in classes:
        if (other := names.setdefault(without_blanks_around(name), name)) != name:
            raise UserError(
                f"task.classes: {other!a} and {name!a} differ only by blanks around them; want names that "
                "can be told apart"
            )
