"""Views of items, from templates over their fields."""

import string
from collections.abc import Iterable, Mapping
from typing import Any

from silvertune.datasets.rows import text_of
from silvertune.errors import UserError
from silvertune.items import RESERVED


def rendered(
    views: Mapping[str, str], rows: Iterable[Mapping[str, Any]], fields: Iterable[str]
) -> dict[str, list[str | None]]:
    """For each view, the text of every row, or None where each of the fields that its template names is empty.

    views: name -> template, such as `"{title}: {text}"`. fields: those that a template may name.
    Raises UserError for a template that is none, or that names another field.
    """
    if not views:
        raise UserError('dataset.views={}: want at least one view, such as text: "{text}"')
    known, rows = set(fields), list(rows)
    templates = {name: _template(name, text, known) for name, text in views.items()}
    return {name: [_render(template, row) for row in rows] for name, template in templates.items()}


def _template(view: str, text: str, fields: set[str]) -> list[tuple[str, str | None]]:
    key = f"dataset.views.{view}"
    if view in RESERVED:
        raise UserError(f"{key}: {view!r} can't name a view (nor can {', '.join(sorted(RESERVED - {view}))})")
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UserError(f"{key}={text!r}: not a template ({error}); write braces that mean themselves twice") from None
    if any(specification or conversion for _, _, specification, conversion in parsed):
        raise UserError(f"{key}={text!r}: fields are put in as they are; leave the ':' or '!' and what follows it out")
    parts = [(literal, name) for literal, name, _, _ in parsed]
    names = [name for _, name in parts if name is not None]
    if not names:
        raise UserError(f"{key}={text!r}: names no field; there is {', '.join(sorted(fields))}")
    if unknown := [name for name in names if name not in fields]:
        raise UserError(f"{key}={text!r}: no field {unknown[0]!r}; there is {', '.join(sorted(fields))}")
    return parts


def _render(template: list[tuple[str, str | None]], values: Mapping[str, Any]) -> str | None:
    filled = [(literal, text_of(values.get(name)) if name else "") for literal, name in template]
    if not any(value.strip() for _, value in filled):
        return None
    # JSON can escape half a character, which no encoder takes.
    return "".join(literal + value for literal, value in filled).strip().encode("utf-8", "replace").decode()
