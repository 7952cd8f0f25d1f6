"""silvertune: fine-tune models on silver labels, and measure which filter of them is worth using.

These names are public. Each is imported when it is first used, so that `import silvertune` imports nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from silvertune.errors import UserError
    from silvertune.interfaces import Backend, CheckResult, Estimate, Labeler, Model, Predictor, TrainingSet, Tuned
    from silvertune.items import Data
    from silvertune.schema import Evaluation, Task
    from silvertune.study.command import run
    from silvertune.study.loaded import LoadedStudy, load_study
    from silvertune.study.result import Failure, SweepError, SweepResult, SweepWaitsError, Waiting
    from silvertune.votes import prob_columns
    from silvertune.votes import table as votes_table

__version__ = "0.2.0"

_PLACES = {
    "Backend": ("interfaces", "Backend"),
    "CheckResult": ("interfaces", "CheckResult"),
    "Data": ("items", "Data"),
    "Estimate": ("interfaces", "Estimate"),
    "Evaluation": ("schema", "Evaluation"),
    "Failure": ("study.result", "Failure"),
    "Labeler": ("interfaces", "Labeler"),
    "LoadedStudy": ("study.loaded", "LoadedStudy"),
    "Model": ("interfaces", "Model"),
    "Predictor": ("interfaces", "Predictor"),
    "SweepError": ("study.result", "SweepError"),
    "SweepResult": ("study.result", "SweepResult"),
    "SweepWaitsError": ("study.result", "SweepWaitsError"),
    "Task": ("schema", "Task"),
    "TrainingSet": ("interfaces", "TrainingSet"),
    "Tuned": ("interfaces", "Tuned"),
    "UserError": ("errors", "UserError"),
    "Waiting": ("study.result", "Waiting"),
    "load_study": ("study.loaded", "load_study"),
    "prob_columns": ("votes", "prob_columns"),
    "run": ("study.command", "run"),
    "votes_table": ("votes", "table"),
}
"""Public name -> its module, and what it is called there."""

__all__ = [
    "Backend",
    "CheckResult",
    "Data",
    "Estimate",
    "Evaluation",
    "Failure",
    "Labeler",
    "LoadedStudy",
    "Model",
    "Predictor",
    "SweepError",
    "SweepResult",
    "SweepWaitsError",
    "Task",
    "TrainingSet",
    "Tuned",
    "UserError",
    "Waiting",
    "__version__",
    "load_study",
    "prob_columns",
    "run",
    "votes_table",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'silvertune' has no attribute {name!r}")
    module, name_there = _PLACES[name]
    value = getattr(import_module(f"silvertune.{module}"), name_there)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
