"""Where a model is tuned."""

from silvertune.backends.ledger import Ledger
from silvertune.backends.local import Local
from silvertune.backends.remote import Remote
from silvertune.backends.tuning_files import TuningLimits
from silvertune.backends.vertex import Vertex
from silvertune.backends.vertex_job import VertexJob

__all__ = [
    "Ledger",
    "Local",
    "Remote",
    "TuningLimits",
    "Vertex",
    "VertexJob",
]
