"""How every figure looks: its colours, its canvas, its axes."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, told apart with any colour vision, and three of Tol 2021; black first, as arms start with the base.
PALETTE = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#999933", "#332288", "#661100")


def canvas(width: float, height: float) -> "Figure":
    """An empty figure, inches."""
    # Not pyplot: it holds every figure in a global, and a sweep makes hundreds.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def tidy(ax: "Axes", grid: Literal["x", "y", "both"]) -> None:
    """A pale grid behind what is drawn, and no frame above it and to its right."""
    ax.grid(axis=grid, color="0.9")
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)


def plain(text: str) -> str:
    """`text` as matplotlib shows it literally: a dollar is no mathematics."""
    return text.replace("$", r"\$")
