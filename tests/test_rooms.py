"""Which rooms of silvertune import which: statistics know no runs, pages are made from numbers, and no circle."""

import ast
from pathlib import Path

import pytest

import silvertune

SRC = Path(silvertune.__file__).parent
MAY_IMPORT = {
    "stats": {"errors"},
    "filters": {"errors", "schema", "stats", "votes"},
    "aggregations": {"errors", "schema", "votes"},
    "evaluation": {"errors", "interfaces", "schema", "splits", "stats", "votes"},
    "reports": {"errors", "evaluation", "items", "stats", "votes"},
}


def imported_rooms(source: str, room: str) -> set[str]:
    """The rooms and top modules that a module's source imports, without its own room."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "silvertune":
            names += [f"silvertune.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "silvertune" and len(part) > 1} - {room}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_needs(room: str) -> None:
    files = sorted((SRC / room).glob("*.py"))
    assert files
    for file in files:
        assert imported_rooms(file.read_text(encoding="utf-8"), room) <= MAY_IMPORT[room], file.name


def test_every_form_of_import_counts() -> None:
    source = "import silvertune.votes\nfrom silvertune import schema\nfrom silvertune.stats.bootstrap import micro\n"
    source += "def f():\n    from silvertune.tracking import store\nfrom silvertune.reports import tables\n"
    assert imported_rooms(source, "reports") == {"votes", "schema", "stats", "tracking"}
