"""Figures show every arm once, by its name, in its own colour."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from silvertune.reports import drawing, figures
from silvertune.reports.drawing import PALETTE

ARMS = ("base", "all", "filtered", "expert")
STYLES = figures.styles(ARMS)


def table(
    arms: Sequence[str] = ARMS, *, reference: str | None = "expert", models: Sequence[str] = ("m",), variants: str = ""
) -> pd.DataFrame:
    rows = []
    for model in models:
        for i, arm in enumerate(arms):
            value = 0.5 + i / 20
            row: dict[str, object] = {"arm": arm, "model": model, "variant": variants, "simulated": "simulated" in arm}
            row |= {
                "test/f1": value,
                "test/f1_low": value - 0.1,
                "test/f1_high": value + 0.1,
                "test_by_group/f1": value,
            }
            if reference is not None:
                missing = arm == reference
                for part, shift in (("f1", 0.0), ("f1_low", -0.1), ("f1_high", 0.1)):
                    row[f"delta/{reference}/{part}"] = np.nan if missing else value - 0.65 + shift
            rows.append(row)
    return pd.DataFrame(rows)


def markers(ax: Axes) -> dict[int, tuple[float, str]]:
    """Row -> where its dot is and in which colour."""
    dots = [line for line in ax.get_lines() if line.get_marker() in figures.MARKERS]
    found = {int(line.get_ydata()[0]): (float(line.get_xdata()[0]), to_hex(line.get_color())) for line in dots}
    assert len(found) == len(dots)
    return found


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def colours(figure: Figure) -> dict[str, str]:
    return {name: markers(figure.axes[0])[row][1] for row, name in enumerate(labels(figure))}


def test_every_arm_has_one_dot_at_its_f1_and_its_name_beside_it() -> None:
    figure = figures.arms(table(), [], STYLES)
    assert len(figure.axes) == 1
    assert labels(figure) == list(ARMS)
    assert {row: x for row, (x, _) in markers(figure.axes[0]).items()} == pytest.approx(
        {i: 0.5 + i / 20 for i in range(4)}
    )
    assert figure.axes[0].get_title() == "F1 on gold"


def test_every_arm_has_its_interval() -> None:
    bars = [line for line in figures.arms(table(), [], STYLES).axes[0].get_lines() if len(line.get_xdata()) == 2]
    spans = {int(line.get_ydata()[0]): (float(line.get_xdata()[0]), float(line.get_xdata()[1])) for line in bars}
    assert set(spans) == {0, 1, 2, 3}
    assert spans[1] == pytest.approx((0.45, 0.65))


def test_the_first_arm_is_on_top() -> None:
    bottom, top = figures.arms(table(), [], STYLES).axes[0].get_ylim()
    assert bottom > top


def test_every_reference_has_a_panel_and_no_dot_for_itself() -> None:
    figure = figures.arms(table(), ["expert"], STYLES)
    assert len(figure.axes) == 2
    assert "expert" in figure.axes[1].get_title()
    assert set(markers(figure.axes[1])) == {0, 1, 2}
    assert markers(figure.axes[1])[0][0] == pytest.approx(-0.15)


def test_a_reference_without_differences_has_no_panel() -> None:
    assert len(figures.arms(table(), ["expert", "absent"], STYLES).axes) == 2


def test_arms_have_different_colours_and_one_in_all_panels() -> None:
    figure = figures.arms(table(), ["expert"], STYLES)
    first, second = markers(figure.axes[0]), markers(figure.axes[1])
    assert len({colour for _, colour in first.values()}) == len(ARMS)
    assert all(first[row][1] == colour for row, (_, colour) in second.items())


def test_an_arm_with_two_models_has_one_colour_and_both_names() -> None:
    figure = figures.arms(table(models=("m", "n")), [], STYLES)
    assert labels(figure) == [f"{arm} [{model}]" for model in ("m", "n") for arm in ARMS]
    shown = colours(figure)
    assert all(shown[f"{arm} [m]"] == shown[f"{arm} [n]"] for arm in ARMS)


def test_a_variant_stands_beside_its_arm() -> None:
    assert labels(figures.arms(table(("all",), variants="seed=1"), [], STYLES))[0] == "all seed=1"


def test_a_simulated_arm_has_a_star_before_its_variant() -> None:
    assert (
        labels(figures.arms(table(("panel_simulated",), variants="seed=1"), [], figures.styles(["panel_simulated"])))[0]
        == "panel_simulated * seed=1"
    )


@pytest.mark.parametrize("other", [ARMS[::-1], ARMS[1:]], ids=["another order", "an arm less"])
def test_an_arm_has_the_same_colour_in_every_table(other: Sequence[str]) -> None:
    one, two = colours(figures.arms(table(), [], STYLES)), colours(figures.arms(table(other), [], STYLES))
    assert {arm: one[arm] for arm in two} == two


def test_the_colours_can_all_be_told_apart() -> None:
    assert len({to_hex(colour) for colour in PALETTE}) == len(PALETTE)


@pytest.mark.parametrize("name", ["zero_shot/none", "ärm #1", "<b>", "$x_{$", "a" * 60])
def test_any_arm_name_can_be_drawn(name: str) -> None:
    figure = figures.arms(table((name, "expert")), ["expert"], figures.styles([name, "expert"]))
    assert drawing.png(figure).startswith(b"\x89PNG")
    assert labels(figure)[0].replace("\\$", "$") == name


def test_no_figure_is_kept_by_pyplot() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figures.arms(table(), ["expert"], STYLES)
    assert plt.get_fignums() == before


# --------------------------------------------------------------------------------------------------------- groups


def test_every_group_is_a_bubble_of_the_size_of_its_positives() -> None:
    groups = pd.DataFrame(
        {
            "precision": [1.0, 0.5, np.nan],
            "recall": [1.0, 0.0, np.nan],
            "f1": [1.0, 0.25, np.nan],
            "n": [5, 5, 5],
            "n_positive": [1, 4, 0],
        },
        index=["a", "b", "c"],
    )
    figure = figures.groups(groups, "all/m/s0")
    bubbles = figure.axes[0].collections
    assert [len(found.get_offsets()) for found in bubbles] == [2, 2, 2]
    for x, found in enumerate(bubbles):
        assert np.abs(np.asarray(found.get_offsets())[:, 0] - x).max() < 0.5
        assert found.get_sizes()[1] > found.get_sizes()[0]
    assert np.asarray(bubbles[2].get_offsets())[:, 1].tolist() == [1.0, 0.25]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["precision", "recall", "F1"]
    assert figure.axes[0].get_title() == "all/m/s0"


@pytest.mark.parametrize(("n", "bubbles"), [(50, 50), (51, 50)])
def test_of_very_many_groups_a_sample_is_drawn_and_the_figure_says_so(
    n: int, bubbles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_BUBBLES", 50)
    shares = np.linspace(0, 1, n)
    groups = pd.DataFrame({"precision": shares, "recall": shares, "f1": shares, "n": 9, "n_positive": 4})
    ax = figures.groups(groups, "x").axes[0]
    assert [len(drawn.get_offsets()) for drawn in ax.collections] == [bubbles] * 3
    assert ("one of 50 groups (of 51)" in ax.get_xlabel()) == (n > bubbles)
    by_arm = groups.assign(group_id=groups.index, arm="all", model="m", variant="", simulated=False)
    figure = figures.groups_by_arm(by_arm, STYLES)
    assert figure is not None
    assert [len(drawn.get_offsets()) for drawn in figure.axes[1].collections] == [bubbles]


def test_a_metric_that_no_group_has_is_left_out() -> None:
    groups = pd.DataFrame(
        {"precision": [np.nan], "recall": [1.0], "f1": [0.5], "n": [1], "n_positive": [1]}, index=["a"]
    )
    assert len(figures.groups(groups, "x").axes[0].collections) == 2


# ------------------------------------------------------------------------------------------------------ agreement


def test_the_agreement_matrix_is_symmetric_and_says_its_numbers() -> None:
    pairs = pd.DataFrame(
        [("x", "y", 5, 0.8, 0.6), ("x", "gold", 5, 0.4, 0.1)], columns=["a", "b", "n", "agreement", "kappa"]
    )
    figure = figures.agreement(pairs)
    assert figure is not None
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["x", "y", "gold"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["x", "y", "gold"]
    shown = {(int(t.get_position()[0]), int(t.get_position()[1])): t.get_text() for t in ax.texts}
    assert shown == {(1, 0): "0.80", (0, 1): "0.80", (2, 0): "0.40", (0, 2): "0.40"}


def test_without_pairs_there_is_no_matrix() -> None:
    assert figures.agreement(pd.DataFrame(columns=["a", "b", "n", "agreement", "kappa"])) is None


def test_costs_are_written_where_they_are_and_not_where_equal_ones_are_moved_to() -> None:
    paid = table().assign(**{"labels/human_labels": [0, 1000, 1000, 1010], "labels/cost_usd": 0.0})
    figure = figures.cost(paid, STYLES)
    assert figure is not None
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1,000"]
    assert [text.get_position()[0] for text in ax.get_xticklabels()] == [0, 1000]
    dots = [line for line in ax.get_lines() if line.get_marker() in figures.MARKERS]
    assert len({float(line.get_xdata()[0]) for line in dots}) == len(ARMS)


def test_free_labels_have_no_figure_of_costs() -> None:
    assert figures.cost(table().assign(**{"labels/human_labels": 0, "labels/cost_usd": 0.0}), STYLES) is None


@pytest.mark.parametrize(("n_positive", "drawn"), [(1, False), (3, True)])
def test_groups_are_drawn_where_they_are_more_than_single_items(n_positive: int, drawn: bool) -> None:
    rows = [
        {"arm": arm, "model": "m", "variant": "", "simulated": False, "group_id": f"g{k}", "precision": 0.5, "f1": 0.5}
        for arm in ARMS
        for k in range(4)
    ]
    figure = figures.groups_by_arm(pd.DataFrame(rows).assign(n=4, n_positive=n_positive), STYLES)
    assert (figure is not None) == drawn
    if figure is not None:
        assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == list(ARMS)


# ------------------------------------------------------------------------------------------------------------ png


def test_a_figure_drawn_once_is_the_image_that_matplotlib_saves() -> None:
    saved = io.BytesIO()
    figures.arms(table(), ["expert"], STYLES).savefig(saved, format="png")
    ours = drawing.png(figures.arms(table(), ["expert"], STYLES))
    assert np.array_equal(imread(io.BytesIO(ours)), imread(io.BytesIO(saved.getvalue())))
