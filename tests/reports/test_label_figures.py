"""What the figures of label quality show, and that they are drawn of whatever there is."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from tests import made

from silvertune.evaluation import findings, label_quality
from silvertune.reports import label_figures
from silvertune.schema import Task

NAMES = {"label_noise", "risk_coverage", "reliability", "prevalence"}


def report(task: Task = made.SOE, *, n: int = 60, null: float = 0.1, gold: int | None = None) -> label_quality.Report:
    items, true = made.items(n, task), made.gold(n, task)
    votes = made.votes(items, true, task, wrong=0.3, null=null).assign(stage="labeler")
    first = votes[votes["view"] == "json"].set_index("item_id")
    keep = first["label"].notna() & (np.arange(n) % 3 > 0)
    decisions = first[["label", "confidence"]].assign(
        keep=keep,
        train_label=first["label"].where(keep, None),
        source=keep.map({True: "labeler", False: "dropped"}),
        fold=0,
    )
    probs = [f"prob:{name}" for name in task.classes]
    predictions = first[["label"]].join(first[probs].fillna(1 / len(task.classes))).assign(fold=0)
    known = true if gold is None else true.iloc[:gold]
    return label_quality.report(decisions, votes, votes.iloc[:0], predictions, known, task)


@pytest.mark.parametrize("task", [made.SOE, made.COLOURS])
def test_all_figures_are_drawn_and_labelled(task: Task) -> None:
    drawn = label_figures.draw(report(task))
    assert drawn.keys() == NAMES
    for name, figure in drawn.items():
        assert all(ax.get_xlabel() for ax in figure.axes[-1:]), name
        figure.canvas.draw()


def test_noise_has_a_dot_for_all_each_class_and_each_view() -> None:
    found = report()
    ax = label_figures.noise(found).axes[0]  # type: ignore[union-attr]
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["all labels", "labels other", "labels soe", "votes of machine: json", "votes of machine: text"]
    before, after = (np.asarray(dots.get_offsets()) for dots in ax.collections)
    shown = [found.metrics["labels/noise_before"], *found.by_class["noise_before"], *found.by_view["noise"]]
    assert before[:, 0] == pytest.approx(100 * np.array(shown))
    assert after[0, 0] == pytest.approx(100 * found.metrics["labels/noise_after"])


def test_risk_coverage_ends_at_all_labels_and_their_noise() -> None:
    found = report()
    ax = label_figures.risk_coverage(found).axes[0]  # type: ignore[union-attr]
    every = ax.get_lines()[0]
    assert every.get_xydata()[-1] == pytest.approx([100, 100 * found.metrics["labels/noise_before"]])
    assert [line.get_marker() for line in ax.get_lines()].count("*") == 1


def test_class_shares_fill_the_bars() -> None:
    ax = label_figures.prevalence(report(made.COLOURS)).axes[0]  # type: ignore[union-attr]
    ends = [sum(bars[k].get_width() for bars in ax.containers) for k in range(5)]
    assert ends == pytest.approx([100] * 5)


def test_twelve_classes_are_eight_in_the_figure() -> None:
    task = Task(name="many", classes=[f"c{k}" for k in range(12)], positive=None)
    ax = label_figures.prevalence(report_of(task)).axes[0]  # type: ignore[union-attr]
    assert len(ax.containers) == label_figures.MOST_CLASSES
    assert sum(bars[0].get_width() for bars in ax.containers) == pytest.approx(100)


def report_of(task: Task) -> label_quality.Report:
    shares = pd.DataFrame({"labels": 1 / 12, "trained on": 1 / 12, "gold": np.nan, "test gold": np.nan,
                           "predicted": 1 / 12}, index=pd.Index(task.classes, name="class"))  # fmt: skip
    return label_quality.Report(**{**vars(report()), "prevalence": shares})


@given(
    st.sampled_from([made.SOE, made.COLOURS]), st.integers(1, 30), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 30)
)
@settings(deadline=None, max_examples=10)
def test_whatever_is_missing_the_rest_is_drawn(task: Task, n: int, null: float, gold: int) -> None:
    found = report(task, n=n, null=null, gold=min(n, gold))
    findings.find(found)
    for figure in label_figures.draw(found).values():
        assert isinstance(figure, Figure)
        figure.canvas.draw()
