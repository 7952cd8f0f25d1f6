"""A study's comparison as it is delivered: in the terminal, and as a folder of CSV, PNG and one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from silvertune.evaluation.comparison import Comparison
from silvertune.reports import figures, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

VOTES = "votes of the labelers that are arms by themselves"
SIMULATED = "* simulated: labels by annotators that were made from gold by a documented noise process."
NOTES = (
    "Rows are means over the seeds. Intervals are 95%, for other groups and other seeds: from resamples of groups and "
    "from how the seeds differ; with one seed, for other groups only. Those of differences are paired, over the seeds "
    "that both arms have.",
    "recall, precision and F1: of the class task.positive; where there is none, macro averages over the classes.",
    "† p < .05 after Holm's adjustment for the number of arms held against that reference. An interval is one "
    "arm's own and not adjusted.",
    "McNemar: whether one of two arms is right more often, by exact signs of whole groups, since items of a group "
    "are not independent.",
    SIMULATED,
    "kept: share of the labels to train on that the filter kept.",
    "noise: share of training labels that differ from gold, before and after the filter.",
    "labels by people: items that the labeler, the fallback or a calibration set had people label (`_people_: true`).",
)


def write(
    folder: Path, result: Comparison, references: Sequence[str], title: str, drawn: Mapping[str, figures.Style]
) -> None:
    """Write comparison.csv, groups.csv, ensembles.csv (if there are any), their figures, and comparison.html.

    drawn: of `figures.styles`.
    """
    result.table.to_csv(folder / "comparison.csv", index=False)
    result.by_group.to_csv(folder / "groups.csv", index=False)
    made: dict[str, tuple[str, Figure | None]] = {
        "arms": ("F1 of every arm, and its differences", figures.arms(result.table, references, drawn)),
        "groups": ("Precision and F1 by group", figures.groups_by_arm(result.by_group, drawn)),
        "cost": ("What the labels cost, and what they are worth", figures.cost(result.table, drawn)),
    }
    shown = {name: (heading, figure) for name, (heading, figure) in made.items() if figure is not None}
    for name, (_, figure) in shown.items():
        figure.savefig(folder / f"{name}.png")
    sections: list[tuple[str, pd.DataFrame | Figure]] = [("Arms", tables.cells(result.table, references))]
    sections += list(shown.values())
    if len(found := tables.tests(result.table, references)):
        sections.append(("Differences and their tests", found))
    if len(result.ensembles):
        result.ensembles.to_csv(folder / "ensembles.csv", index=False)
        sections.append((VOTES, tables.ensembles(result.ensembles)))
    sections.append(("F1 by group", tables.groups(result.by_group)))
    (folder / "comparison.html").write_text(tables.page(sections, title, NOTES), encoding="utf-8")


def show(console: "Console", result: Comparison, references: Sequence[str], title: str) -> None:
    """Print the table, the differences, and the vote ensembles."""
    for table in tables.terminal(result.table, references, title, console.width):
        console.print(table)
    if len(result.ensembles):
        console.print(tables.rich_table(tables.ensembles(result.ensembles), ["positive if"], VOTES))
    if result.table["simulated"].any():
        console.print(SIMULATED)
