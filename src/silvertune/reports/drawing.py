"""The look of every figure: colours, canvas, axes."""

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#999933", "#332288", "#661100")
"""Okabe & Ito 2008 and three colours of Tol 2021, which people with any colour vision can tell apart."""


def canvas(width: float, height: float) -> "Figure":
    """Make an empty figure.

    Args:
        width: Inches.
        height: Inches.

    Returns:
        The figure.
    """
    # Not pyplot: it keeps every figure in a global, and a sweep makes hundreds.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def png(figure: "Figure") -> bytes:
    """Draw a figure.

    `Figure.savefig` would draw a canvas whose layout is constrained twice: once to place things, once to show them.

    Args:
        figure: A figure on a `canvas`.

    Returns:
        The image, PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)  # type: ignore[no-untyped-call]
    return image.getvalue()


def tidy(ax: "Axes", grid: Literal["x", "y", "both"]) -> None:
    """Draw a pale grid behind the data, and remove the top and right edges of the frame.

    Args:
        ax: The axes.
        grid: The axis whose grid is drawn.
    """
    ax.grid(axis=grid, color="0.9")
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)


def plain(text: str) -> str:
    """Escape a text for matplotlib, which reads dollars as mathematics.

    Args:
        text: Any text, such as a class name.

    Returns:
        The text that matplotlib shows as `text`.
    """
    return text.replace("$", r"\$")
