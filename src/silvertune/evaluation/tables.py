"""The comparison as a person reads it: in the terminal and as one HTML page."""

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


def cells(table: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """The comparison in the paper's order, as strings: recall, precision, F1 with its interval, accuracy, ..."""
    shown = pd.DataFrame({"arm": [_name(row) for _, row in table.iterrows()]})
    models = table["model"].where(table["model"] != "none", "-")
    if models[models != "-"].nunique() > 1:
        shown["model"] = models.to_numpy()
    if table["variant"].any():
        shown["variant"] = table["variant"].to_numpy()
    percent = {"recall %": "test/recall", "precision %": "test/precision"}
    for title, column in percent.items():
        shown[title] = [f"{100 * value:.1f}" for value in table[column]]
    shown["F1"] = [_interval(row, "test/f1") for _, row in table.iterrows()]
    shown["accuracy %"] = [f"{100 * value:.1f}" for value in table["test/accuracy"]]
    shown["F1 by group"] = [_interval(row, "test_by_group/f1") for _, row in table.iterrows()]
    shown["AUPRC"] = [_number(value) for value in table["test/auprc"]]
    shown["kept %"] = [f"{100 * value:.0f}" if pd.notna(value) else "" for value in table["labels/kept_fraction"]]
    shown["noise before"] = [_number(value) for value in table["labels/noise_before"]]
    shown["noise after"] = [_number(value) for value in table["labels/noise_after"]]
    for reference in references:
        if f"delta/{reference}/f1" in table:
            shown[f"Δ {reference}"] = [
                _interval(row, f"delta/{reference}/f1", sign=True) for _, row in table.iterrows()
            ]
    return shown


LESS_NEEDED = ("accuracy %", "F1 by group", "AUPRC", "noise before", "kept %", "model", "noise after")
"""Columns that a narrow terminal does without, in this order; they are in comparison.csv."""


def terminal(table: pd.DataFrame, references: Sequence[str], title: str, width: int) -> "list[Table]":
    """Rich tables no wider than `width`, if at all possible: the arms, and their differences to the references."""
    shown = cells(table, references)
    names = [name for name in ("arm", "model", "variant") if name in shown]
    differences = [str(name) for name in shown if str(name).startswith("Δ")]
    columns = [str(name) for name in shown if name not in differences]
    for name in LESS_NEEDED:
        if _width(shown, columns) > width and name in columns:
            columns.remove(name)
    made = [_rich(shown[columns], names, title)]
    while differences:
        count = len(differences)
        while count > 1 and _width(shown, names + differences[:count]) > width:
            count -= 1
        heading = "difference in F1 to (95% interval, paired by group)"
        made.append(_rich(shown[names + differences[:count]], names, heading))
        differences = differences[count:]
    return made


def _width(shown: pd.DataFrame, columns: Sequence[str]) -> int:
    """Characters that a table of these columns takes: the cells, two blanks and a line each."""
    return 1 + sum(3 + max(len(name), *(len(str(cell)) for cell in shown[name])) for name in columns)


def _rich(shown: pd.DataFrame, names: Sequence[str], title: str) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    rich = Table(title=escape(title), title_justify="left", header_style="bold")
    for name in map(str, shown):
        side: Literal["left", "right"] = "left" if name in names else "right"
        rich.add_column(escape(name.removeprefix("Δ ")), justify=side, no_wrap=name not in names, overflow="fold")
    for row in shown.itertuples(index=False):
        rich.add_row(*(escape(str(cell)) for cell in row))
    return rich


def page(table: pd.DataFrame, references: Sequence[str], title: str, figure: "Figure", notes: Sequence[str]) -> str:
    """One self-contained HTML page: the table, the figure, what to know when reading them."""
    image = io.BytesIO()
    figure.savefig(image, format="png")
    picture = base64.b64encode(image.getvalue()).decode()
    shown = cells(table, references)
    body = shown.to_html(index=False, border=0, escape=True)
    remarks = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: #222; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .3em .7em; text-align: right; white-space: nowrap; }}
th {{ border-bottom: 2px solid #222; vertical-align: bottom; }} td {{ border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; position: sticky; left: 0; background: #fff; }}
.wide {{ overflow-x: auto; }} img {{ max-width: 100%; margin-top: 1.5em; }}
</style></head><body><h1>{html.escape(title)}</h1><div class="wide">{body}</div>
<img alt="F1 of every arm, and differences to the references" src="data:image/png;base64,{picture}">
<ul>{remarks}</ul></body></html>
"""


def _name(row: "pd.Series[Any]") -> str:
    arm = str(row["arm"])
    return f"{arm} *" if row["simulated"] else arm


def _number(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if pd.notna(value) else ""


def _interval(row: "pd.Series[Any]", key: str, sign: bool = False) -> str:
    if pd.isna(row.get(key)):
        return ""
    number = (lambda value: f"{value:+.3f}".replace("0.", ".", 1)) if sign else _number
    return f"{number(row[key])} ({number(row[f'{key}_low'])}, {number(row[f'{key}_high'])})"
