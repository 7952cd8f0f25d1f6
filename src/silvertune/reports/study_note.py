"""What the sweep's own run says of the study in MLflow: the best arm, and the table in Markdown."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from silvertune.reports import tables

LONGEST = 4500
"""Characters of a note at most; MLflow's stores cut what is longer than 5,000."""
SHOWN = ("arm", "model", "variant", "F1", "kept %", "noise before", "noise after")
"""The columns of the note, with the differences to the references behind F1."""


def best_arm(table: pd.DataFrame, references: Sequence[str], with_gold: Collection[str]) -> "pd.Series[Any] | None":
    """Find the arm with the highest F1.

    Args:
        table: The table of `comparison.compare`.
        references: The arms that the others are compared with; one of them is the best only where there is no other.
        with_gold: The arms that see gold, which no one has who needs silver labels.

    Returns:
        Its row; None where no arm has an F1. An arm with simulated labels, or one that sees gold, is no best arm.
    """
    usable = table[~table["simulated"].astype(bool) & ~table["arm"].isin(list(with_gold)) & table["test/f1"].notna()]
    candidates = usable[~usable["arm"].isin(list(references))]
    candidates = candidates if len(candidates) else usable
    return candidates.iloc[int(candidates["test/f1"].to_numpy().argmax())] if len(candidates) else None


def metrics(best: "pd.Series[Any]", references: Sequence[str]) -> dict[str, float]:
    """The figures of the best arm.

    Args:
        best: Its row of the table.
        references: The arms that it is compared with.

    Returns:
        `best/f1` and `best/delta/<reference>/f1`, each with `_low` and `_high`; what is undefined is left out.
    """
    names = {"best/f1": "test/f1"} | {f"best/delta/{name}/f1": f"delta/{name}/f1" for name in references}
    values = {f"{name}{end}": best.get(f"{key}{end}") for name, key in names.items() for end in ("", "_low", "_high")}
    return {name: float(value) for name, value in values.items() if pd.notna(value)}


def markdown(table: pd.DataFrame, references: Sequence[str], best: "pd.Series[Any] | None") -> str:
    """Write the note.

    Args:
        table: The table of `comparison.compare`.
        references: The arms that the others are compared with.
        best: The row of the best arm.

    Returns:
        Markdown, at most `LONGEST` characters: the best arm in a sentence, and the table.
    """
    cells = tables.cells(table, references)
    differences = [str(name) for name in cells if str(name).startswith("Δ")]
    at = SHOWN.index("F1") + 1
    columns = [name for name in (*SHOWN[:at], *differences, *SHOWN[at:]) if name in cells]
    lines = [_row(columns), _row(["---"] * len(columns))]
    rows = [_row([str(cell) for cell in row]) for row in cells[columns].itertuples(index=False)]
    notes = "F1 and differences (Δ) in F1 to the references with 95% intervals; † p < .05 after Holm's adjustment."
    if table["simulated"].any():
        notes += " * simulated annotators gave these labels."
    start = f"{_sentence(best, table)}\n\n"
    left_out = f"\n\nThe first {{}} of {len(rows)} arms; comparison.html has all."
    room = LONGEST - len(start) - len(notes) - len(left_out) - 10
    kept: list[str] = []
    for line in [*lines, *rows]:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    shown = len(kept) - len(lines)
    cut = left_out.format(shown) if shown < len(rows) else ""
    return f"{start}{chr(10).join(kept)}{cut}\n\n{notes}"[:LONGEST]


def _sentence(best: "pd.Series[Any] | None", table: pd.DataFrame) -> str:
    if best is None:
        return "No arm without simulated labels or gold has an F1."
    interval = f"F1 {best['test/f1']:.3f} ({best['test/f1_low']:.3f}, {best['test/f1_high']:.3f})"
    model = f" with {best['model']}" if best["model"] != "none" else ""
    variant = f", {best['variant']}" if best["variant"] else ""
    chosen = "; it was chosen by this figure, which is a little too high therefore" if len(table) > 1 else ""
    return f"Best arm: **{_cell(str(best['arm']))}**{model}{variant}, {interval}{chosen}."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
