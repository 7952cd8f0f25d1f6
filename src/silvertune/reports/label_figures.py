"""The figures of one run's label quality: one a question, readable with any colour vision."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from silvertune.evaluation.label_quality import Report
from silvertune.reports.drawing import PALETTE, canvas, plain, tidy
from silvertune.votes import WHOLE_ITEM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 8
"""A figure shows this many classes; the tables have all."""
SHADES = tuple(PALETTE[k] for k in (2, 1, 4, 6, 3, 7, 8, 9))
"""For classes. Black is for all of them together."""


def draw(report: Report) -> "dict[str, Figure]":
    """Name -> figure; what there is nothing to show of is left out."""
    makers = {
        "label_noise": noise,
        "risk_coverage": risk_coverage,
        "reliability": reliability,
        "prevalence": prevalence,
    }
    drawn = {name: make(report) for name, make in makers.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def noise(report: Report) -> "Figure | None":
    """Wrong labels before and after the filter, %: of all, of each class, of each annotator's votes on a view."""
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
    for y, (_, was, now) in enumerate(rows):
        ax.plot([100 * was, 100 * now], [y, y], color="0.7", linewidth=2, zorder=1)
    places = np.arange(len(rows))
    before, kept = (100 * np.array([row[k] for row in rows]) for k in (1, 2))
    ax.scatter(before, places, s=52, facecolor="white", edgecolor=PALETTE[5], linewidths=1.8, label="before the filter")
    ax.scatter(kept, places, s=30, color=PALETTE[2], label="after it", zorder=3)
    ax.set_yticks(places, [plain(row[0]) for row in rows], fontsize=9)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(left=min(0, -0.02 * np.nanmax([before, kept])))
    ax.set_xlabel("wrong labels, % of those with gold", fontsize=9)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    tidy(ax, "x")
    return figure


def risk_coverage(report: Report) -> "Figure | None":
    """Noise of the most confident labels, by how many of them are kept; the filter's own choice as a point."""
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
        found, random, best = (ranking[key] for key in ("aurc", "aurc_random", "aurc_best"))
        said = f"{plain(name)}: AURC {found:.3f} (random {random:.3f}, best {best:.3f})"
        # One level of confidence is one point; several are the steps that a threshold can make.
        marker = "o" if len(curve) < 20 else ""
        width = 2.4 if of == "all" else 1.5
        ax.plot(100 * curve["coverage"], 100 * curve["risk"], color=colour, linewidth=width, label=said, marker=marker)
        ax.plot([0, 100], [100 * random] * 2, color=colour, linewidth=0.9, linestyle=":")
    before = report.by_class["n_before"].sum()
    kept = 100 * (1 - report.by_class["n_dropped"].sum() / before)
    if report.metrics["labels/from_fallback"] == 0 and not np.isnan(report.metrics["labels/noise_after"]):
        ax.plot(kept, 100 * report.metrics["labels/noise_after"], "*", color=PALETTE[5], markersize=15,
                markeredgecolor="white", label="what the filter keeps", zorder=4)  # fmt: skip
    ax.set_xlim(0, 102)
    ax.set_ylim(0, 105 * curves["risk"].max() or 1)
    ax.set_xlabel("labels kept, %, the most confident first", fontsize=9)
    ax.set_ylabel("wrong among those kept, %", fontsize=9)
    figure.legend(
        loc="outside lower center", fontsize=8, frameon=False, title="dotted: in random order", title_fontsize=8
    )
    tidy(ax, "both")
    return figure


def reliability(report: Report) -> "Figure | None":
    """Accuracy against confidence of the labels and of the predictions, and how many there are of each confidence."""
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
        above.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="as it should be")
        ends = bins[["confidence", "accuracy"]]
        gap = {"color": PALETTE[5], "linewidth": 2.5, "alpha": 0.6, "label": "gap"}
        above.vlines(bins["confidence"], ends.min(axis=1), ends.max(axis=1), **gap)
        above.plot(bins["confidence"], bins["accuracy"], color=PALETTE[2], linewidth=1)
        sizes = 10 + 150 * share / share.max()
        above.scatter(
            bins["confidence"], bins["accuracy"], s=sizes, color=PALETTE[2], label="found (size: how many)", zorder=3
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
    axes[0, 0].set_ylabel("share that is right", fontsize=9)
    axes[1, 0].set_ylabel("% of them", fontsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False
    )
    return figure


def prevalence(report: Report) -> "Figure | None":
    """Class shares in percent, from the labels to the predictions."""
    names = {
        "labels": "labels before the filter",
        "trained on": "labels trained on",
        "gold": "gold of the same items",
        "test gold": "gold of the test items",
        "predicted": "predicted for these",
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
