"""Where a model is tuned."""

from silvertune.backends.local import Local

__all__ = [
    "Local",
]
