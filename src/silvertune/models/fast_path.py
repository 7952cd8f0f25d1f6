"""Compares what a network makes of kept states with what the whole network makes of the texts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from silvertune.errors import UserError

Measured = tuple[np.ndarray, np.ndarray]
"""Last hidden states (texts, width), of the token that is decided by, and scores (texts, classes)."""


def shortest(texts: Sequence[str]) -> list[str]:
    """The four shortest of some texts, always in the same order."""
    return sorted(set(texts), key=lambda text: (len(text), text))[:4]


def compare(
    from_states: Callable[[], Measured],
    exact: Callable[[], Measured],
    *,
    tolerance: float,
    state_tolerance: float,
    network: str,
    kept: Path | None,
) -> None:
    """Run some texts both ways.

    Args:
        from_states: Runs them from kept states.
        exact: Runs them through the whole network.
        tolerance: Largest difference of scores, in log-odds.
        state_tolerance: Largest distance of last hidden states, as a share of their length.
        network: The network and where it is from, for messages.
        kept: Where the states are kept.

    Raises:
        UserError: They differ by more than that, or the network can't be run from kept states.
    """
    try:
        (states, scores), (exact_states, exact_scores) = from_states(), exact()
        distance = (np.linalg.norm(states - exact_states, axis=1) / np.linalg.norm(exact_states, axis=1)).max()
        difference = np.abs(scores - exact_scores).max()
        reason = f"hidden states differ by {distance:.1%}, log-odds by {difference:.2f}"
    except (LookupError, AttributeError, TypeError, RuntimeError, ValueError) as error:
        distance = difference = np.inf
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    if not (distance < state_tolerance and difference < tolerance):
        raise UserError(
            f"model.cached=true: the kept states in {kept} do not give what the whole {network} gives ({reason}); want "
            "model.cached=false, or delete them"
        )
