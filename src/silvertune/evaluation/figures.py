"""What a person looks at: one figure a question, the same colour for an arm everywhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito 2008, told apart with any colour vision, and three of Tol 2021; black first, as arms start with the base.
PALETTE = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#999933", "#332288", "#661100")


def _figure(width: float, height: float) -> "Figure":
    # Not pyplot: it holds every figure in a global, and a sweep makes hundreds.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def arms(table: pd.DataFrame, references: Sequence[str], order: Sequence[str]) -> "Figure":
    """F1 of every arm with its interval, and its difference to each reference.

    table: of `comparison.compare`. order: all arms of the study; an arm's place in it gives its colour, so
    that it is the same in a figure where some are missing.
    """
    shown = [name for name in references if f"delta/{name}/f1" in table]
    figure = _figure(5.2 + 2.4 * len(shown), 1.4 + 0.42 * len(table))
    axes = np.atleast_1d(figure.subplots(1, 1 + len(shown), sharey=True, width_ratios=[1.7] + [1] * len(shown)))
    rows = np.arange(len(table))
    colours = [PALETTE[list(order).index(arm) % len(PALETTE)] for arm in table["arm"]]
    several = table["model"].drop(table.index[table["model"] == "none"]).nunique() > 1
    names = [
        " ".join(
            part
            for part in (
                row["arm"],
                "*" if row["simulated"] else "",
                f"[{row['model']}]" if several else "",
                row["variant"],
            )
            if part
        )
        for _, row in table.iterrows()
    ]
    for ax, key, title in [
        (axes[0], "test/f1", "F1 on gold"),
        *((ax, f"delta/{name}/f1", f"Δ F1 to\n{name}") for ax, name in zip(axes[1:], shown, strict=True)),
    ]:
        for y, (_, row) in enumerate(table.iterrows()):
            if pd.notna(row.get(key)):
                ax.plot([row[f"{key}_low"], row[f"{key}_high"]], [y, y], color=colours[y], linewidth=2)
                ax.plot(row[key], y, "o", color=colours[y], markersize=7)
        if key == "test/f1":
            ax.plot(table["test_by_group/f1"], rows, "D", markerfacecolor="none", markeredgecolor="0.4", markersize=5,
                    linestyle="none", label="mean over groups")  # fmt: skip
            ax.legend(fontsize=8, loc="best")
        else:
            ax.axvline(0, color="0.6", linewidth=1)
        ax.set_title(title.replace("$", r"\$"), fontsize=10)
        ax.grid(axis="x", color="0.9")
        ax.tick_params(labelsize=9, left=False)
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_yticks(rows, [name.replace("$", r"\$") for name in names])  # not mathematics
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    axes[0].set_xlabel("dot: over all items, bar: 95% interval by group", fontsize=8)
    return figure


def groups(table: pd.DataFrame, title: str) -> "Figure":
    """Precision and F1 of every group, the bubble its number of positives, over box plots (the paper's Figure 2)."""
    figure = _figure(5.6, 4.2)
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    for x, name in enumerate(("precision", "recall", "f1")):
        values = table[name].dropna()
        if values.empty:
            continue
        ax.boxplot(values, positions=[x], widths=0.5, showfliers=False, medianprops={"color": PALETTE[5]})
        ax.scatter(
            x + rng.uniform(-0.17, 0.17, len(values)),
            values,
            s=8 + 8 * table.loc[values.index, "n_positive"],
            alpha=0.45,
            color=PALETTE[2],
            linewidths=0,
        )
    ax.set_xticks(range(3), ["precision", "recall", "F1"])
    ax.set_ylim(-0.05, 1.05)
    ax.set_title(title.replace("$", r"\$"), fontsize=10)
    ax.set_xlabel("a bubble is a group; its size the number of positive items", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def agreement(pairs: pd.DataFrame) -> "Figure | None":
    """The agreement matrix: how often two annotators (or a view, or gold) gave an item the same label."""
    if pairs.empty:
        return None
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    matrix = np.full((len(names), len(names)), np.nan)
    for _, pair in pairs.iterrows():
        i, j = names.index(pair["a"]), names.index(pair["b"])
        matrix[i, j] = matrix[j, i] = pair["agreement"]
    figure = _figure(2.6 + 0.6 * len(names), 2.0 + 0.5 * len(names))
    ax = figure.subplots()
    image = ax.imshow(matrix, vmin=0, vmax=1, cmap="cividis")
    for i, j in np.argwhere(~np.isnan(matrix)):
        ax.text(
            j,
            i,
            f"{matrix[i, j]:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if matrix[i, j] < 0.6 else "black",
        )
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_title("share of items with the same label", fontsize=10)
    figure.colorbar(image, shrink=0.8)
    return figure
