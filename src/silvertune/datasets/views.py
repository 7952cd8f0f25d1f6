"""Views of items, from templates over their fields."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from silvertune.datasets.class_names import class_name
from silvertune.datasets.values import normal_form, texts_of
from silvertune.errors import UserError
from silvertune.items import RESERVED

Template = list[tuple[str, str | None]]
"""Literal text and the field that follows it; None at the end."""

_QUOTED = re.compile(r"""\{(?:"([^"]*)"|'([^']*)')\}""")


def rendered(
    views: Mapping[str, str],
    values: Callable[[str], Sequence[Any]],
    fields: Sequence[str],
    places: Sequence[str],
    has: Callable[[str], bool],
) -> dict[str, list[str | None]]:
    """The text of every view of every row.

    Args:
        views: View -> template, such as `"{title}: {text}"`. A field is a column or a path into one; one that has
            braces in its name stands in quotes: `{"Comment {free text}"}`. Braces that mean themselves are written
            twice.
        values: Field -> its value in each row.
        fields: The fields, for messages.
        places: File and line of each row, for messages.
        has: Whether a template may name a field.

    Returns:
        For each view a text for every row, or None where each of the fields that the template names is empty.

    Raises:
        UserError: A template is none, or names a field that is not there; a field of a row is no text.
    """
    if not isinstance(views, Mapping) or not views:
        raise UserError(f'dataset.views={views or {}}: want at least one view, such as text: "{{text}}"')
    names = {name: class_name(name, "dataset.views") for name in views}
    templates = {names[name]: _template(names[name], text, fields, has) for name, text in views.items()}
    return {name: _render(template, values, places) for name, template in templates.items()}


def _template(view: str, text: Any, fields: Sequence[str], has: Callable[[str], bool]) -> Template:
    key = f"dataset.views.{view}"
    if view in RESERVED or view.startswith("prob:"):
        others = ", ".join(sorted(RESERVED - {view}))
        raise UserError(f"{key}: {view!r} can't name a view (nor can {others}, nor what begins with prob:)")
    if not isinstance(text, str):
        raise UserError(f"{key}={text!r}: not a template; want text with fields in braces, such as '{{text}}'")
    parts: Template = []
    literal, position = "", 0
    while position < len(text):
        character = text[position]
        if text[position : position + 2] in ("{{", "}}"):
            literal, position = literal + character, position + 2
        elif character == "{":
            field, position = _field(text, position, key, fields, has)
            parts.append((literal, field))
            literal = ""
        elif character == "}":
            raise UserError(f"{key}={text!r}: not a template (a '}}' alone); write braces that mean themselves twice")
        else:
            literal, position = literal + character, position + 1
    if not parts:
        raise UserError(f"{key}={text!r}: names no field; there is {_shown(fields)}")
    return [*parts, (literal, None)]


def _field(text: str, start: int, key: str, fields: Sequence[str], has: Callable[[str], bool]) -> tuple[str, int]:
    """The field whose braces open at `start`, and the position behind them."""
    if quoted := _QUOTED.match(text, start):
        name, end = normal_form(quoted[1] or quoted[2] or ""), quoted.end()
    else:
        end = text.find("}", start) + 1
        if not end:
            raise UserError(f"{key}={text!r}: not a template (a '{{' that does not end); write braces that mean "
                            "themselves twice")  # fmt: skip
        name = normal_form(text[start + 1 : end - 1])
        # Braces that are written twice may be part of the name of a column.
        longer = re.compile(r"\{((?:[^{}]|\{\{|\}\})+)\}").match(text, start)
        if not has(name) and longer:
            full = normal_form(longer[1]).replace("{{", "{").replace("}}", "}")
            name, end = (full, longer.end()) if has(full) else (name, end)
    if has(name):
        return name, end
    plain = re.split("[:!]", name)[0]
    if plain != name and has(plain):
        raise UserError(f"{key}={text!r}: fields are put in as they are; leave the ':' or '!' and what follows it out")
    raise UserError(f"{key}={text!r}: no field {name!r}; there is {_shown(fields)}")


def _shown(fields: Sequence[str]) -> str:
    """The fields as a template names them."""
    return ", ".join(f'"{name}"' if set(name) & set("{}") else name for name in sorted(fields))


def _render(template: Template, values: Callable[[str], Sequence[Any]], places: Sequence[str]) -> list[str | None]:
    """The text of a view of every row."""
    parts: list[Iterable[str]] = []
    is_filled = [False] * len(places)
    for literal, field in template:
        parts += [repeat(literal)] if literal else []
        if field is not None:
            texts = texts_of(values(field), places, f"column {field!r}")
            is_filled = [
                filled or not (text == "" or text.isspace()) for filled, text in zip(is_filled, texts, strict=True)
            ]
            parts.append(texts)
    rendered_texts = map("".join, zip(*parts, strict=False))  # what is repeated has no end
    return [text.strip() if filled else None for filled, text in zip(is_filled, rendered_texts, strict=True)]
