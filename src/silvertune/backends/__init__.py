"""Where a model is tuned."""

from silvertune.backends.ledger import Ledger
from silvertune.backends.local import Local
from silvertune.backends.remote import Remote

__all__ = [
    "Ledger",
    "Local",
    "Remote",
]
