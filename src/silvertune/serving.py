"""The loader that MLflow models of silvertune 0.1 name; models of today name `silvertune.tracking.serving`."""

from silvertune.tracking.serving import _load_pyfunc

__all__ = ["_load_pyfunc"]
