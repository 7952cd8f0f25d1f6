"""What loads items, annotations and gold."""

from silvertune.datasets.files import load as load_files
from silvertune.datasets.synthetic.protocols import load as synthetic_protocols

__all__ = [
    "load_files",
    "synthetic_protocols",
]
