"""The comparison as a person reads it: in the terminal and as one page that needs nothing else."""

import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from silvertune.reports import drawing, figures, tables

METRICS = ("precision", "recall", "f1", "accuracy")


def row(
    arm: str, *, model: str = "m", variant: str = "", simulated: bool = False, delta: float | None = None
) -> dict[str, object]:
    made: dict[str, object] = {"arm": arm, "model": model, "variant": variant, "seeds": 1, "simulated": simulated}
    values = {"precision": 0.8125, "recall": 0.9, "f1": 0.854, "accuracy": 0.95}
    for prefix in ("test", "test_by_group"):
        for name in METRICS:
            made[f"{prefix}/{name}"] = values[name]
            made[f"{prefix}/{name}_low"], made[f"{prefix}/{name}_high"] = values[name] - 0.05, 1.0
    made |= {
        "test/auprc": np.nan,
        "labels/kept_fraction": 0.625,
        "labels/noise_before": 0.2,
        "labels/noise_after": np.nan,
    }
    for part, shift in (("f1", 0.0), ("f1_low", -0.125), ("f1_high", 0.125)):
        made[f"delta/expert/{part}"] = np.nan if delta is None else delta + shift
    return made


TABLE = pd.DataFrame([row("all", delta=-0.0625), row("hybrid_simulated", simulated=True, delta=0.25), row("expert")])


def terminal(table: pd.DataFrame, references: Sequence[str] = ("expert",)) -> str:
    console = Console(file=io.StringIO(), width=400)
    for made in tables.terminal(table, references, "pets", 240):
        console.print(made)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def page(
    table: pd.DataFrame, references: Sequence[str] = ("expert",), title: str = "pets", notes: Sequence[str] = ()
) -> str:
    return tables.page([("arms", tables.cells(table, references)), ("picture", b"\x89PNG")], title, notes)


class Page(HTMLParser):
    """What a page shows, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.headings: list[str] = []
        self.refers: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag in ("td", "th"):
            self._open = self.cells if tag == "td" else self.headings
            self._open.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open[-1] += data


# ---------------------------------------------------------------------------------------------------------- cells


def test_recall_stands_before_precision_before_f1() -> None:
    shown = [str(name) for name in tables.cells(TABLE, ["expert"])]
    assert shown[:5] == ["arm", "recall %", "precision %", "F1", "accuracy %"]
    assert shown[-1] == "Δ expert"


def test_numbers_as_they_are_read() -> None:
    first = tables.cells(TABLE, ["expert"]).iloc[0]
    assert first["recall %"] == "90.0"
    assert first["precision %"] == "81.2"
    assert first["F1"] == ".854 (.804, 1.000)"
    assert first["accuracy %"] == "95.0"
    assert first["kept %"] == "62"
    assert first["noise before"] == ".200"
    assert first["Δ expert"] == "-.062 (-.188, +.062)"


def test_what_is_undefined_is_blank() -> None:
    shown = tables.cells(TABLE, ["expert"])
    assert shown["AUPRC"].to_list() == [""] * 3
    assert shown["noise after"].to_list() == [""] * 3
    assert shown["Δ expert"].to_list()[2] == ""


def test_a_simulated_arm_has_a_star() -> None:
    assert tables.cells(TABLE, [])["arm"].to_list() == ["all", "hybrid_simulated *", "expert"]


def test_a_reference_without_differences_has_no_column() -> None:
    assert "Δ absent" not in tables.cells(TABLE, ["expert", "absent"])


def test_models_and_variants_stand_there_where_they_differ() -> None:
    assert "model" not in tables.cells(TABLE, [])
    several = pd.DataFrame([row("all"), row("all", model="n"), row("base", model="none")])
    assert tables.cells(several, [])["model"].to_list() == ["m", "n", "-"]
    varied = tables.cells(pd.DataFrame([row("all", variant="x=1"), row("all", variant="x=2")]), [])
    assert varied["variant"].to_list() == ["x=1", "x=2"]


# ------------------------------------------------------------------------------------------------------- terminal


def test_the_terminal_has_recall_before_precision_before_f1() -> None:
    heading = next(line for line in terminal(TABLE).splitlines() if "recall %" in line)
    at = [heading.index(name) for name in ("arm", "recall %", "precision %", "F1 ", "accuracy %")]
    assert at == sorted(at)


def test_the_terminal_has_the_arms_and_then_their_differences() -> None:
    made = tables.terminal(TABLE, ["expert"], "pets", 240)
    assert [found.row_count for found in made] == [3, 3]
    assert made[0].title == "pets"
    assert [str(column.header) for column in made[1].columns] == ["arm", "expert"]
    assert len(tables.terminal(TABLE, [], "pets", 240)) == 1


@pytest.mark.parametrize("arm", ["all", "zero_shot.majority/agreement+confidence/non_expert"])
def test_the_terminal_shows_whole_arm_names(arm: str) -> None:
    assert arm in terminal(pd.DataFrame([row(arm)]))


@pytest.mark.parametrize("text", ["labeler.annotators=[llm]", "[/bold]", "filter=[agreement,confidence]"])
def test_the_terminal_shows_brackets_as_they_are(text: str) -> None:
    assert text in terminal(pd.DataFrame([row("all", variant=text)]))


# ----------------------------------------------------------------------------------------------------------- page


def test_the_page_needs_nothing_else() -> None:
    picture = figures.arms(TABLE, ["expert"], figures.styles(list(TABLE["arm"])))
    text = tables.page([("arms", tables.cells(TABLE, ["expert"])), ("F1", drawing.png(picture))], "pets", ["a note"])
    found = Page(text)
    assert len(found.refers) == 1
    assert found.refers[0].startswith("data:image/png;base64,iVBOR")
    assert not {"script", "link", "iframe", "object", "embed"} & set(found.tags)
    assert not re.search(r"https?://|url\(|@import", text)


def test_the_page_has_recall_before_precision_before_f1_for_every_arm() -> None:
    found = Page(page(TABLE))
    assert found.headings[:4] == ["arm", "recall %", "precision %", "F1"]
    width = len(found.headings)
    assert found.cells[::width] == ["all", "hybrid_simulated *", "expert"]
    assert found.cells[1:4] == ["90.0", "81.2", ".854 (.804, 1.000)"]


def test_the_page_escapes_names_titles_and_notes() -> None:
    evil = '<img src="https://x.example/a.png">&amp;'
    text = page(pd.DataFrame([row(evil)]), title=f"t {evil}", notes=[f"n {evil}"])
    found = Page(text)
    assert found.tags.count("img") == 1
    assert found.cells[0] == evil
    assert "<title>t &lt;img" in text
    assert "<li>n &lt;img" in text


def test_the_page_shows_whole_arm_names() -> None:
    arm = "zero_shot.majority/agreement+confidence/simulated_panel" * 3
    assert Page(page(pd.DataFrame([row(arm)]))).cells[0] == arm


def test_the_page_shows_every_arm_of_many() -> None:
    found = Page(page(pd.DataFrame([row(f"arm{i}") for i in range(120)])))
    assert found.cells[:: len(found.headings)] == [f"arm{i}" for i in range(120)]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_narrow_terminal_gets_fewer_columns_and_none_cut(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    for made in tables.terminal(TABLE, ["expert"], "pets", width):
        console.print(made)
    text = console.export_text()
    assert "…" not in text
    assert "recall %" in text
    assert "F1" in text
    assert all(len(line) <= width for line in text.splitlines())
