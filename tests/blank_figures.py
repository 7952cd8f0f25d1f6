"""Figures are laid out and drawn in the tests of figures, and in one study, alone: it is half of a small study's time.

Elsewhere they are made of the same data, with all their lines and words, and saved blank.
"""

from typing import Any

from matplotlib.figure import Figure

DRAWN = "SILVERTUNE_TEST_DRAWN"
"""Environment variable of a process that draws."""
DRAW: Any = Figure.draw


def draw(drawn: bool) -> None:
    """Have this process draw its figures, or leave them blank."""
    Figure.draw = DRAW if drawn else _blank  # type: ignore[method-assign]


def _blank(figure: Figure, renderer: Any) -> None:
    """In place of `Figure.draw`."""
