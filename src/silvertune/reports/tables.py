"""The tables of a comparison, for the terminal and for one HTML page."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from silvertune.reports import figures, html_page

if TYPE_CHECKING:
    from rich.table import Table


def cells(table: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """Format the comparison, in the order of the paper's tables.

    Args:
        table: The table of `comparison.compare`.
        references: The names of the arms that the others are compared with.

    Returns:
        One row an arm, all cells strings. A difference that is significant after Holm's adjustment has a dagger.
    """
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
    if "test/auprc" in table:
        shown["AUPRC"] = [_number(value) for value in table["test/auprc"]]
    shown["kept %"] = [f"{100 * value:.0f}" if pd.notna(value) else "" for value in table["labels/kept_fraction"]]
    shown["noise before"] = [_number(value) for value in table["labels/noise_before"]]
    shown["noise after"] = [_number(value) for value in table["labels/noise_after"]]
    for reference in references:
        if f"delta/{reference}/f1" in table:
            shown[f"Δ {reference}"] = [
                _interval(row, f"delta/{reference}/f1", sign=True)
                + (" †" if row.get(f"delta/{reference}/f1_p_holm", 1.0) < figures.SIGNIFICANT else "")
                for _, row in table.iterrows()
            ]
    return shown


DISPENSABLE = ("accuracy %", "F1 by group", "AUPRC", "noise before", "kept %", "model", "noise after")
"""Columns that a narrow terminal leaves out, in this order; comparison.csv has them."""


def terminal(table: pd.DataFrame, references: Sequence[str], title: str, width: int) -> "list[Table]":
    """Format the comparison for the terminal: one table of the arms, then their differences to the references.

    Args:
        table: The table of `comparison.compare`.
        references: The names of the arms that the others are compared with.
        title: The title of the first table.
        width: The width of the terminal, in characters. A table is wider only where one column is too wide.

    Returns:
        The tables.
    """
    shown = cells(table, references)
    names = [name for name in ("arm", "model", "variant") if name in shown]
    differences = [str(name) for name in shown if str(name).startswith("Δ")]
    columns = [str(name) for name in shown if name not in differences]
    for name in DISPENSABLE:
        if _width(shown, columns) > width and name in columns:
            columns.remove(name)
    rich_tables = [rich_table(shown[columns], names, title)]
    while differences:
        count = len(differences)
        while count > 1 and _width(shown, names + differences[:count]) > width:
            count -= 1
        heading = "Difference in F1 to a reference (95% interval; † significant after Holm)"
        rich_tables.append(rich_table(shown[names + differences[:count]], names, heading))
        differences = differences[count:]
    return rich_tables


def _width(shown: pd.DataFrame, columns: Sequence[str]) -> int:
    """The width of a table of these columns, in characters: the cells, two blanks and a line each."""
    return 1 + sum(3 + max(len(name), *(len(str(cell)) for cell in shown[name])) for name in columns)


def rich_table(shown: pd.DataFrame, names: Sequence[str], title: str) -> "Table":
    """Make a table for the terminal.

    Args:
        shown: Its cells, strings.
        names: The columns of names, which may be folded; cells of the others stay on one line.
        title: Its title.

    Returns:
        The table.
    """
    from rich.markup import escape
    from rich.table import Table

    rich = Table(title=escape(title), title_justify="left", header_style="bold")
    for name in map(str, shown):
        side: Literal["left", "right"] = "left" if name in names else "right"
        rich.add_column(escape(name.removeprefix("Δ ")), justify=side, no_wrap=name not in names, overflow="fold")
    for row in shown.itertuples(index=False):
        rich.add_row(*(escape(str(cell)) for cell in row))
    return rich


def tests(table: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """Format the differences and their tests.

    Args:
        table: The table of `comparison.compare`.
        references: The names of the arms that the others are compared with.

    Returns:
        One row an arm and reference, all cells strings: the difference in F1 and the p-values, before and after Holm's
        adjustment.
    """
    rows = []
    for reference in references:
        key = f"delta/{reference}"
        for _, row in table.iterrows():
            if pd.notna(row.get(f"{key}/f1")):
                names = {"arm": _name(row), "model": row["model"], "variant": row["variant"], "to": reference}
                values = {
                    "Δ F1": _interval(row, f"{key}/f1", sign=True),
                    "p": _p(row[f"{key}/f1_p"]),
                    "p (Holm)": _p(row[f"{key}/f1_p_holm"]),
                    "McNemar p": _p(row[f"{key}/mcnemar_p"]),
                    "McNemar p (Holm)": _p(row[f"{key}/mcnemar_p_holm"]),
                }
                rows.append(names | values)
    return _without_blanks(pd.DataFrame(rows))


def ensembles(table: pd.DataFrame) -> pd.DataFrame:
    """Format the ensembles of votes (the paper's Table 7).

    Args:
        table: The ensembles of `comparison.compare`.

    Returns:
        One row an ensemble, all cells strings.
    """
    shown = pd.DataFrame({"variant": table.get("variant", ""), "positive if": [
        f"at least {row['at_least']} of {row['of']} votes" for _, row in table.iterrows()]})  # fmt: skip
    for title, key in (("recall", "recall"), ("precision", "precision"), ("F1", "f1"), ("accuracy", "accuracy")):
        shown[title] = [_interval(row, f"test/{key}") for _, row in table.iterrows()]
    return _without_blanks(shown)


def groups(by_group: pd.DataFrame) -> pd.DataFrame:
    """Format the F1 of every arm in every group (the paper's Table 8).

    Args:
        by_group: The groups of `comparison.compare`.

    Returns:
        One row a group: its items, its positive items (where F1 is about one class), and the F1 of every arm.
    """
    arms = by_group[["arm", "model", "variant", "simulated"]].drop_duplicates()
    with_model = [" ".join(filter(None, (_name(row), row["model"], row["variant"]))) for _, row in arms.iterrows()]
    arms["column"] = with_model
    if not arms.groupby(["arm", "simulated"])["column"].nunique().gt(1).any():
        arms["column"] = [_name(row) for _, row in arms.iterrows()]
    named = by_group.merge(arms, on=["arm", "model", "variant", "simulated"])
    sizes = named.groupby("group_id")[["n", "n_positive"]].max().round().astype(int)
    f1 = named.pivot(index="group_id", columns="column", values="f1")[list(dict.fromkeys(named["column"]))]
    text = f1.map(_number)
    shown = pd.DataFrame({"group": sizes.index, "items": sizes["n"], "positive": sizes["n_positive"]}).join(text)
    return shown if (sizes["n_positive"] < sizes["n"]).any() else shown.drop(columns="positive")


def page(sections: Sequence[tuple[str, pd.DataFrame | bytes]], title: str, notes: Sequence[str]) -> str:
    """Make one self-contained HTML page of tables and figures. Only the first table is open; the others unfold.

    Args:
        sections: Headings, each with its table or its figure (PNG).
        title: The heading of the page.
        notes: Sentences for the end of the page.

    Returns:
        The page, HTML.
    """
    parts, n_tables = [], 0
    for heading, shown in sections:
        if isinstance(shown, pd.DataFrame):
            body = html_page.wide(shown.to_html(index=False, border=0, escape=True))
            n_tables += 1
            fold = "<details open>" if n_tables == 1 else "<details>"
            parts.append(f"{fold}<summary>{html.escape(heading)}</summary>{body}</details>")
        else:
            parts.append(f"<h2>{html.escape(heading)}</h2>\n{html_page.picture(shown, heading)}")
    return html_page.page(title, "\n".join([*parts, html_page.bullets(list(notes))]))


def _without_blanks(shown: pd.DataFrame) -> pd.DataFrame:
    """Leave out the model or variant column where all its cells are the same."""
    same = [name for name in ("model", "variant") if name in shown and shown[name].nunique() <= 1]
    return shown.drop(columns=same)


def _p(value: float) -> str:
    return "" if pd.isna(value) else "<.0001" if value < 0.0001 else f"{value:.4f}".replace("0.", ".", 1)


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
