"""The figures of a comparison: an arm has the same colour in all of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from silvertune.reports.drawing import PALETTE, canvas, plain, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D")
"""The marker of the first ten arms, of the next ten, and so on."""
MOST_BUBBLES = 2000
"""Of more groups, so many are drawn as bubbles; the box plots are of all."""
SIGNIFICANT = 0.05
"""Below this p-value, after Holm's adjustment, a difference is significant."""

Style = tuple[str, str]
"""The colour and the marker of an arm."""


def styles(order: Sequence[str]) -> dict[str, Style]:
    """Give every arm a colour and a marker, by its position among all arms of the study.

    Args:
        order: The names of the arms.

    Returns:
        Arm -> style. The eleventh arm has the first colour again, with another marker.
    """
    names = dict.fromkeys(order)
    return {arm: (PALETTE[i % len(PALETTE)], MARKERS[i // len(PALETTE) % len(MARKERS)]) for i, arm in enumerate(names)}


def arms(table: pd.DataFrame, references: Sequence[str], drawn: Mapping[str, Style]) -> "Figure":
    """Draw the F1 of every arm with its interval, and a forest plot of its differences to each reference.

    A difference that is significant after Holm's adjustment has a filled marker, any other a hollow one.

    Args:
        table: The table of `comparison.compare`.
        references: The names of the arms that the others are compared with.
        drawn: The style of each arm, of `styles`.

    Returns:
        The figure.
    """
    shown = [name for name in references if f"delta/{name}/f1" in table]
    names = _names(table)
    figure = canvas(3.4 + 0.075 * max(map(len, names)) + 2.2 * len(shown), 1.7 + 0.36 * len(table))
    axes = np.atleast_1d(figure.subplots(1, 1 + len(shown), sharey=True, width_ratios=[1.5] + [1] * len(shown)))
    rows = np.arange(len(table))
    panels = [("test/f1", "F1 on gold"), *((f"delta/{name}/f1", f"Δ F1 to\n{name}") for name in shown)]
    for ax, (key, title) in zip(axes, panels, strict=True):
        for y, (_, row) in enumerate(table.iterrows()):
            if pd.isna(row.get(key)):
                continue
            colour, marker = drawn[row["arm"]]
            is_filled = key == "test/f1" or row.get(f"{key}_p_holm", 1.0) < SIGNIFICANT
            ax.plot([row[f"{key}_low"], row[f"{key}_high"]], [y, y], color=colour, linewidth=2)
            ax.plot(row[key], y, marker, color=colour, markerfacecolor=colour if is_filled else "white", markersize=7)
        if key == "test/f1":
            ax.plot(table["test_by_group/f1"], rows, "|", color="0.35", markersize=13, markeredgewidth=1.6,
                    linestyle="none", label="mean over groups")  # fmt: skip
            ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, frameon=False)
        else:
            ax.axvline(0, color="0.5", linewidth=1, zorder=0)
        ax.set_title(plain(title), fontsize=10, pad=22 if key == "test/f1" else 6)
        tidy(ax, "x")
        ax.tick_params(left=False)
        ax.spines["left"].set_visible(False)
        ax.locator_params(axis="x", nbins=5)
    axes[0].set_yticks(rows, [plain(name) for name in names])
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    marks = f"; filled marker: p < {SIGNIFICANT:g} after Holm's adjustment" if shown else ""
    figure.supxlabel(f"mean over seeds, bar: 95% interval for other groups and seeds{marks}", fontsize=8)
    return figure


def groups_by_arm(by_group: pd.DataFrame, drawn: Mapping[str, Style]) -> "Figure | None":
    """Draw precision and F1 in every group, for every arm (the paper's Figure 2).

    A bubble is a group, over a box plot of all groups; its area shows how many positive items the group has.

    Args:
        by_group: The groups of `comparison.compare`.
        drawn: The style of each arm, of `styles`.

    Returns:
        The figure; None where at least half of the groups have one positive item or none.
    """
    if by_group["n_positive"].median() <= 1:
        return None
    keys = ["arm", "model", "variant", "simulated"]
    heads = by_group[keys].drop_duplicates()
    names = _names(heads)
    longest = max(map(len, names))  # the names stand at an angle below the axis
    figure = canvas(max(6.4, 1.6 + 0.95 * len(heads)) + 0.04 * longest, 6.4 + 0.05 * longest)
    rng = np.random.default_rng(0)
    for ax, metric, title in zip(figure.subplots(2, 1, sharex=True), ("precision", "f1"), ("precision", "F1"),
                                 strict=True):  # fmt: skip
        for x, (_, head) in enumerate(heads.iterrows()):
            of_arm = by_group[(by_group[keys] == head).all(axis=1)].dropna(subset=[metric])
            if of_arm.empty:
                continue
            colour, marker = drawn[head["arm"]]
            ax.boxplot(of_arm[metric], positions=[x], widths=0.62, showfliers=False, medianprops={"color": "0.1"},
                       **{part: {"color": "0.45"} for part in ("boxprops", "whiskerprops", "capprops")})  # fmt: skip
            of_arm = _sample(of_arm)
            ax.scatter(x + rng.uniform(-0.2, 0.2, len(of_arm)), of_arm[metric], s=_area(of_arm["n_positive"]),
                       alpha=0.5, marker=marker, color=colour, linewidths=0.3, edgecolors="white")  # fmt: skip
        ax.set_ylabel(f"{title} of a group")
        ax.set_ylim(-0.05, 1.05)
        tidy(ax, "y")
    ax.set_xlim(-0.6, len(heads) - 0.4)
    ax.set_xticks(range(len(heads)), [plain(name) for name in names], rotation=35, ha="right", fontsize=9)
    top = by_group["n_positive"].max()
    sizes = sorted({1, max(round(top / 3), 1), max(round(top), 1)})
    figure.legend(
        handles=[figure.axes[0].scatter([], [], s=_area(n), color="0.6", label=str(n)) for n in sizes],
        title=f"{_bubble(by_group['group_id'].nunique())} (mean over seeds), its area shows how many "
        f"{_counted(by_group)} it has",
        loc="outside upper center", ncols=len(sizes), fontsize=8, title_fontsize=8, frameon=False,
    )  # fmt: skip
    return figure


def cost(table: pd.DataFrame, drawn: Mapping[str, Style]) -> "Figure | None":
    """Draw the F1 of every arm against the cost of its labels, in labels by people and in dollars.

    Args:
        table: The table of `comparison.compare`.
        drawn: The style of each arm, of `styles`.

    Returns:
        The figure; None where all labels are free.
    """
    kinds = [("labels/human_labels", "labels by people"), ("labels/cost_usd", "dollars for labels")]
    paid = [(key, title) for key, title in kinds if table[key].max() > 0]
    if not paid:
        return None
    names = _names(table)
    figure = canvas(1.6 + 3.6 * len(paid) + 0.075 * max(map(len, names)), max(4.2, 0.6 + 0.19 * len(names)))
    axes = np.atleast_1d(figure.subplots(1, len(paid), sharey=True))
    for ax, (key, title) in zip(axes, paid, strict=True):
        # Arms of the same cost are moved apart, so that their intervals do not overlap.
        span, costs = table[key].max(), np.sort(table[key].unique())
        for value, same in table.groupby(key):
            width = 0.8 * min([0.15 * span, *(costs[costs > value] - value)])
            for k, (i, row) in enumerate(same.sort_values("test/f1").iterrows()):
                colour, marker = drawn[row["arm"]]
                x = value + k * min(0.02 * span, width / len(same))
                ax.plot([x, x], [row["test/f1_low"], row["test/f1_high"]], color=colour, linewidth=1.5, alpha=0.7)
                ax.plot(x, row["test/f1"], marker, color=colour, markersize=8, markeredgecolor="white",
                        label=plain(names[list(table.index).index(i)]))  # fmt: skip
        # Only costs that arms have are labelled: positions between them have no meaning.
        ax.set_xticks(*_apart(table[key], span / 8), fontsize=8)
        ax.set_xlabel(title)
        tidy(ax, "both")
    axes[0].set_ylabel("F1 on gold (95% interval)")
    handle_by_label = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.supxlabel("arms of the same cost stand side by side; the leftmost is at the cost", fontsize=8)
    figure.legend([handle_by_label[plain(name)] for name in names], [plain(name) for name in names],
                  loc="outside right upper", fontsize=8, frameon=False)  # fmt: skip
    return figure


def _apart(costs: pd.Series, least: float) -> tuple[list[float], list[str]]:
    """The positions and texts of the labelled costs: no two are closer than `least`."""
    written: list[float] = []
    for value in sorted(costs.unique()):
        if not written or value - written[-1] >= least:
            written.append(value)
    return written, [f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}" for value in written]


def _names(table: pd.DataFrame) -> list[str]:
    """The names of the rows: the arm, a star if simulated, the model where there are several, the variant."""
    has_several_models = table["model"].drop(table.index[table["model"] == "none"]).nunique() > 1
    return [
        " ".join(
            part
            for part in (
                row["arm"],
                "*" if row["simulated"] else "",
                f"[{row['model']}]" if has_several_models else "",
                row["variant"],
            )
            if part
        )
        for _, row in table.iterrows()
    ]


def _counted(by_group: pd.DataFrame) -> str:
    """What `n_positive` counts: positive items; all items where F1 is about all classes."""
    return "positive items" if (by_group["n_positive"] < by_group["n"]).any() else "items"


def _area(n_positive: "pd.Series[float] | float") -> "pd.Series[float] | float":
    return 8 + 8 * n_positive


def _sample(table: Any) -> Any:
    """At most `MOST_BUBBLES` rows, evenly spaced."""
    return table.iloc[np.unique(np.linspace(0, len(table) - 1, min(len(table), MOST_BUBBLES)).round().astype(int))]


def _bubble(n_groups: int) -> str:
    """What a bubble is, for a legend."""
    if n_groups <= MOST_BUBBLES:
        return "a bubble is a group"
    return f"a bubble is one of {MOST_BUBBLES:,} groups (of {n_groups:,})"


def groups(table: pd.DataFrame, title: str) -> "Figure":
    """Draw precision, recall and F1 of every group of one run (the paper's Figure 2).

    Args:
        table: The groups of `metrics.Report`.
        title: The title.

    Returns:
        The figure. A bubble is a group; its area shows how many positive items the group has.
    """
    figure = canvas(5.6, 4.2)
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    for x, name in enumerate(("precision", "recall", "f1")):
        values = table[name].dropna()
        if values.empty:
            continue
        ax.boxplot(values, positions=[x], widths=0.5, showfliers=False, medianprops={"color": PALETTE[5]})
        values = _sample(values)
        ax.scatter(
            x + rng.uniform(-0.17, 0.17, len(values)),
            values,
            s=_area(table.loc[values.index, "n_positive"]),
            alpha=0.45,
            color=PALETTE[2],
            linewidths=0,
        )
    ax.set_xticks(range(3), ["precision", "recall", "F1"])
    ax.set_ylim(-0.05, 1.05)
    ax.set_title(plain(title), fontsize=10)
    ax.set_xlabel(f"{_bubble(len(table))}; its area shows how many {_counted(table)} it has", fontsize=8)
    tidy(ax, "y")
    return figure


def agreement(pairs: pd.DataFrame) -> "Figure | None":
    """Draw how often every two annotators (and gold) give an item the same label.

    Args:
        pairs: The agreement of `label_quality.Report`.

    Returns:
        The figure; None without a pair.
    """
    if pairs.empty:
        return None
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    matrix = np.full((len(names), len(names)), np.nan)
    for _, pair in pairs.iterrows():
        i, j = names.index(pair["a"]), names.index(pair["b"])
        matrix[i, j] = matrix[j, i] = pair["agreement"]
    figure = canvas(2.6 + 0.6 * len(names), 2.0 + 0.5 * len(names))
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
