"""The figures of one run's label quality, readable with any colour vision."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from silvertune.evaluation.label_quality import Report
from silvertune.reports.drawing import PALETTE, canvas, plain, tidy
from silvertune.votes import WHOLE_ITEM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 8
"""How many classes a figure shows at most; the tables have all."""
SHADES = tuple(PALETTE[k] for k in (2, 1, 4, 6, 3, 7, 8, 9))
"""The colours of classes. Black is for all classes together."""


def draw(report: Report) -> "dict[str, Figure]":
    """Draw all figures.

    Args:
        report: The quality of a run's labels.

    Returns:
        Name -> figure; a figure without data is left out.
    """
    functions = {
        "label_noise": noise,
        "risk_coverage": risk_coverage,
        "reliability": reliability,
        "prevalence": prevalence,
    }
    drawn = {name: function(report) for name, function in functions.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def noise(report: Report) -> "Figure | None":
    """Draw the share of wrong labels before and after the filter: of all, of each class, of each annotator and view.

    Args:
        report: The quality of a run's labels.

    Returns:
        The figure; None without gold.
    """
    rows = [("all labels", report.metrics["labels/noise_before"], report.metrics["labels/noise_after"])]
    by_class = report.by_class.head(MOST_CLASSES)
    rows += [(f"labels {name}", row["noise_before"], row["noise_after"]) for name, row in by_class.iterrows()]
    votes = report.by_view.to_dict("records")[:24]
    rows += [
        (
            f"votes of {row['annotator']}" + f": {row['view']}" * (row["view"] != WHOLE_ITEM),
            row["noise"],
            row["noise_after"],
        )
        for row in votes
    ]
    rows = [row for row in rows if not np.isnan(row[1])]
    if not rows:
        return None
    figure = canvas(6.4, 1.5 + 0.34 * len(rows))
    ax = figure.subplots()
    positions = np.arange(len(rows))
    before, after = (100 * np.array([row[k] for row in rows]) for k in (1, 2))
    for y, ends in enumerate(zip(before, after, strict=True)):
        ax.plot(ends, [y, y], color="0.7", linewidth=2, zorder=1)
    ax.scatter(
        before, positions, s=52, facecolor="white", edgecolor=PALETTE[5], linewidths=1.8, label="before the filter"
    )
    ax.scatter(after, positions, s=30, color=PALETTE[2], label="after the filter", zorder=3)
    ax.set_yticks(positions, [plain(row[0]) for row in rows], fontsize=9)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(left=min(0, -0.02 * np.nanmax([before, after])))
    ax.set_xlabel("wrong labels, % of those with gold", fontsize=9)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    tidy(ax, "x")
    return figure


def risk_coverage(report: Report) -> "Figure | None":
    """Draw the noise of the most confident labels against how many of them are kept.

    Args:
        report: The quality of a run's labels.

    Returns:
        The figure, with a star for the labels that the filter keeps; None without confidences or gold.
    """
    curves = report.risk_coverage[report.risk_coverage["by"] == "confidence"]
    if curves.empty:
        return None
    rankings = report.rankings[report.rankings["by"] == "confidence"].set_index("of")
    figure = canvas(6.4, 4.4)
    ax = figure.subplots()
    classes = [name for name in report.by_class.index if name in rankings.index]
    for of, colour in [("all", "black"), *zip(classes, SHADES, strict=False)]:
        curve, ranking = curves[curves["of"] == of], rankings.loc[of]
        name = "all labels" if of == "all" else f"labels {of}"
        aurc, random, best = (ranking[key] for key in ("aurc", "aurc_random", "aurc_best"))
        entry = f"{plain(name)}: AURC {aurc:.3f} (random {random:.3f}, best {best:.3f})"
        # With few levels of confidence, the points are the only cuts that a threshold can make.
        marker = "o" if len(curve) < 20 else ""
        width = 2.4 if of == "all" else 1.5
        ax.plot(100 * curve["coverage"], 100 * curve["risk"], color=colour, linewidth=width, label=entry, marker=marker)
        ax.plot([0, 100], [100 * random] * 2, color=colour, linewidth=0.9, linestyle=":")
    before = report.by_class["n_before"].sum()
    kept = 100 * (1 - report.by_class["n_dropped"].sum() / before)
    if report.metrics["labels/from_fallback"] == 0 and not np.isnan(report.metrics["labels/noise_after"]):
        ax.plot(kept, 100 * report.metrics["labels/noise_after"], "*", color=PALETTE[5], markersize=15,
                markeredgecolor="white", label="what the filter keeps", zorder=4)  # fmt: skip
    ax.set_xlim(0, 102)
    ax.set_ylim(0, 105 * curves["risk"].max() or 1)
    ax.set_xlabel("share of the labels kept, %, the most confident first", fontsize=9)
    ax.set_ylabel("wrong labels among those kept, %", fontsize=9)
    figure.legend(
        loc="outside lower center", fontsize=8, frameon=False, title="dotted: labels in random order", title_fontsize=8
    )
    tidy(ax, "both")
    return figure


def reliability(report: Report) -> "Figure | None":
    """Draw accuracy against confidence, of the labels and of the predictions, and how common each confidence is.

    Args:
        report: The quality of a run's labels.

    Returns:
        The figure; None without confidences or gold.
    """
    parts = [of for of in ("labels", "predictions") if (report.reliability["of"] == of).any()]
    if not parts:
        return None
    figure = canvas(1.2 + 3.3 * len(parts), 4.6)
    axes = figure.subplots(2, len(parts), sharex=True, squeeze=False, height_ratios=[3, 1])
    for column, of in enumerate(parts):
        bins = report.reliability[report.reliability["of"] == of]
        share = bins["n"] / bins["n"].sum()
        error = float((share * (bins["confidence"] - bins["accuracy"]).abs()).sum())
        above, below = axes[:, column]
        above.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="perfect calibration")
        ends = bins[["confidence", "accuracy"]]
        gap = {"color": PALETTE[5], "linewidth": 2.5, "alpha": 0.6, "label": "gap"}
        above.vlines(bins["confidence"], ends.min(axis=1), ends.max(axis=1), **gap)
        above.plot(bins["confidence"], bins["accuracy"], color=PALETTE[2], linewidth=1)
        sizes = 10 + 150 * share / share.max()
        above.scatter(
            bins["confidence"], bins["accuracy"], s=sizes, color=PALETTE[2], label="measured (area: how many)", zorder=3
        )
        above.set_title(f"{of}: ECE {error:.3f}", fontsize=10)
        above.set_ylim(-0.03, 1.03)
        below.bar(
            bins["low"], 100 * share, width=bins["high"] - bins["low"], align="edge", color="0.75", edgecolor="white"
        )
        below.set_xlim(-0.02, 1.02)
        below.set_xlabel("confidence", fontsize=9)
        for ax in (above, below):
            tidy(ax, "both")
    axes[0, 0].set_ylabel("accuracy", fontsize=9)
    axes[1, 0].set_ylabel("share, %", fontsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False
    )
    return figure


def prevalence(report: Report) -> "Figure | None":
    """Draw the class shares of labels, gold and predictions.

    Args:
        report: The quality of a run's labels.

    Returns:
        The figure; None without labels.
    """
    names = {
        "labels": "labels before the filter",
        "trained on": "training labels",
        "gold": "gold of the same items",
        "test gold": "gold of the test items",
        "predicted": "predictions of the test items",
    }
    table = report.prevalence[list(names)].dropna(axis=1)
    if table.empty or not table.shape[1]:
        return None
    if len(table) > MOST_CLASSES:
        table = pd.concat([table.head(MOST_CLASSES - 1), table.iloc[MOST_CLASSES - 1 :].sum().to_frame("others").T])
    figure = canvas(6.6, 1.3 + 0.42 * table.shape[1])
    ax = figure.subplots()
    left = np.zeros(table.shape[1])
    for (name, shares), colour in zip(table.iterrows(), SHADES, strict=False):
        width = 100 * shares.to_numpy(dtype=float)
        bars = ax.barh(np.arange(len(width)), width, left=left, color=colour, edgecolor="white", label=plain(str(name)))
        texts = [f"{value:.0f}" if value >= 4 else "" for value in width]
        ax.bar_label(bars, texts, label_type="center", fontsize=8, color="white" if _dark(colour) else "black")
        left += width
    ax.set_yticks(np.arange(table.shape[1]), [names[str(column)] for column in table.columns], fontsize=9)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("share of the items, %", fontsize=9)
    figure.legend(loc="outside upper right", ncols=4, fontsize=8, frameon=False)
    tidy(ax, "x")
    ax.grid(visible=False)
    return figure


def _dark(colour: str) -> bool:
    from matplotlib.colors import to_rgb

    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) < 0.5
