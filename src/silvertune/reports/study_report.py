"""The comparison of a study: in the terminal, and as a folder of CSV, PNG and one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from silvertune.evaluation.comparison import Comparison
from silvertune.reports import drawing, figures, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

ENSEMBLES = "Ensembles of votes (of arms without a model)"
SIMULATED = "* simulated: simulated annotators gave these labels, from gold and a documented noise process."
NOTES = (
    "A row is the mean over the seeds of an arm. Intervals are 95% intervals for other groups and other seeds, from "
    "resamples of the groups and from the differences between seeds; with one seed, for other groups only. "
    "Differences are paired: over the seeds that both arms have.",
    "recall, precision and F1 are those of the class task.positive; without one, macro averages over the classes.",
    "F1 by group: the mean over the groups (such as protocols) of the F1 of each.",
    "Δ: the difference in F1 to a reference. † p < .05 after Holm's adjustment for the number of arms that are "
    "compared with that reference. Intervals are not adjusted.",
    "McNemar tests whether one of two arms is right more often. The signs of whole groups are exact here, because "
    "items of a group are not independent.",
    SIMULATED,
    "kept: the share of the labels that the filter keeps.",
    "noise: the share of the labels that differ from gold, before and after the filter.",
    "labels by people: the items that people labelled for the labeler, the fallback or a calibration set "
    "(`_people_: true`).",
)


MOST_GROUPS = 1000
"""So many groups are in the table of the page at most; groups.csv has all."""


def write(
    folder: Path, result: Comparison, references: Sequence[str], title: str, styles: Mapping[str, figures.Style]
) -> None:
    """Write comparison.csv, groups.csv, ensembles.csv (if there are any), figures, and comparison.html.

    Args:
        folder: An existing folder to write to.
        result: The comparison.
        references: The names of the arms that the others are compared with.
        title: The name of the study, for the page's heading.
        styles: The style of each arm, of `figures.styles`.
    """
    result.table.to_csv(folder / "comparison.csv", index=False)
    result.by_group.to_csv(folder / "groups.csv", index=False)
    figure_by_name: dict[str, tuple[str, Figure | None]] = {
        "arms": ("F1 of every arm, and differences to the references", figures.arms(result.table, references, styles)),
        "groups": ("Precision and F1 by group", figures.groups_by_arm(result.by_group, styles)),
        "cost": ("Cost of the labels, and F1", figures.cost(result.table, styles)),
    }
    sections: list[tuple[str, pd.DataFrame | bytes]] = [("Arms", tables.cells(result.table, references))]
    for name, (heading, figure) in figure_by_name.items():
        if figure is not None:
            image = drawing.png(figure)
            (folder / f"{name}.png").write_bytes(image)
            sections.append((heading, image))
    if len(tests := tables.tests(result.table, references)):
        sections.append(("Differences and their tests", tests))
    if len(result.ensembles):
        result.ensembles.to_csv(folder / "ensembles.csv", index=False)
        sections.append((ENSEMBLES, tables.ensembles(result.ensembles)))
    by_group = tables.groups(result.by_group)
    sample = f" (the first {MOST_GROUPS:,} of {len(by_group):,} groups; groups.csv has all)"
    sections.append((f"F1 by group{sample * (len(by_group) > MOST_GROUPS)}", by_group.head(MOST_GROUPS)))
    (folder / "comparison.html").write_text(tables.page(sections, title, NOTES), encoding="utf-8")


def show(console: "Console", result: Comparison, references: Sequence[str], title: str) -> None:
    """Print the table, the differences, and the ensembles of votes.

    Args:
        console: The terminal.
        result: The comparison.
        references: The names of the arms that the others are compared with.
        title: The name of the study.
    """
    for table in tables.terminal(result.table, references, title, console.width):
        console.print(table)
    if len(result.ensembles):
        console.print(tables.rich_table(tables.ensembles(result.ensembles), ["positive if"], ENSEMBLES))
    if result.table["simulated"].any():
        console.print(SIMULATED)
