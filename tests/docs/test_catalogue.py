"""The catalogues are made from docstrings that are complete, and the picture of the house from its imports."""

from pathlib import Path

import pytest
from tests.docs.site import site

from silvertune import aggregations, filters

COMPLETE = """Keep something.

More about it.

Source: a paper, section 2.

Args:
    votes: The votes.
    k: How many, from 1;
        usual 2.

Returns:
    What to keep.

Fails where nobody looks.
"""


def keeps(votes: object, *, k: int) -> None:
    """To be given a docstring."""


@pytest.mark.parametrize(("group", "room"), [("filter", filters), ("aggregation", aggregations)])
def test_a_catalogue_has_every_function_of_the_room(group: str, room: object) -> None:
    page = site.catalogue(group)
    names = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert names == sorted(room.__all__)  # type: ignore[attr-defined]
    assert page.count("**Source**") == len(names)
    assert page.count("**Fails") == len(names)


def test_an_entry_shows_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeps, "__doc__", COMPLETE)
    page = site.entry("keeps", keeps, "keeps:\n  k: 2")
    for part in (
        "## keeps", "Keep something.", "More about it.", "| `k` | How many, from 1; usual 2. |", "**Needs** `votes`.",
        "**Source**: a paper, section 2.", "**Fails where** nobody looks.", "  k: 2",
    ):  # fmt: skip
        assert part in page


@pytest.mark.parametrize(
    "part", ["Source: a paper, section 2.", "Fails where nobody looks.", "    k: How many, from 1;"]
)
def test_a_docstring_that_lacks_a_part_is_refused(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeps, "__doc__", COMPLETE.replace(part, ""))
    with pytest.raises(site.IncompleteDocstringError, match="keeps: its docstring"):
        site.entry("keeps", keeps, "")


def test_the_picture_of_the_house_has_every_room_and_no_arrow_that_goes_up() -> None:
    arrows = site.rooms()
    there = {path.stem for path in site.PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(arrows) == there - {"__init__"}
    height = {room: number for number, rooms in enumerate(site.floors(arrows)) for room in rooms}
    assert all(height[below] < height[room] for room, names in arrows.items() for below in names)
    assert "filters" in arrows["composition"] | arrows["evidence"] | arrows["runner"] or height["filters"] > 0


def test_a_circle_of_rooms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a circle among \['attic', 'cellar'\]"):
        site.floors({"attic": {"cellar"}, "cellar": {"attic"}, "hall": set()})


def test_every_room_says_what_it_is_for() -> None:
    for room in site.rooms():
        assert len(site.purpose(room)) > 20, room


def test_a_file_is_shown_under_the_name_that_it_has_in_a_users_folder(tmp_path: Path) -> None:
    assert site.listing("conf/filter/agreement.yaml").startswith('```yaml title="conf/filter/agreement.yaml"\n')
