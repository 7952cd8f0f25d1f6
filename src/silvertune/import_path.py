"""What a `_target_` names: the object, its parameters, its module, and that module's source."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from functools import cache
from pathlib import Path
from typing import Any


def look_in(folder: str) -> None:
    """Have modules in a folder of the user's found as well, behind all others."""
    if folder not in sys.path:
        sys.path.append(folder)


def imported(target: str) -> Any:
    """Import the function or class that a `_target_` names.

    Args:
        target: Import path, such as `silvertune.filters.agreement`.

    Returns:
        The object.

    Raises:
        AttributeError: The module has no such name.
        Exception: Whatever the module raises while it is imported.
    """
    module = module_of(target)
    value: Any = importlib.import_module(module)
    for name in target.removeprefix(f"{module}.").split("."):
        value = getattr(value, name)
    return value


def parameter_names(target: str) -> frozenset[str]:
    """The names of the parameters that the object has; empty where it can't be imported or has no signature."""
    try:
        return frozenset(inspect.signature(imported(target)).parameters)
    except Exception:
        return frozenset()


def module_of(target: str) -> str:
    """The longest part of an import path that is a module: `mine.Filters.short` is in `mine`."""
    module = target.rpartition(".")[0]
    while "." in module:
        try:
            if importlib.util.find_spec(module) is not None:
                break
        except (ImportError, ValueError):
            pass
        module = module.rpartition(".")[0]
    return module


@cache
def source_digest(module: str) -> str:
    """SHA-256 of the Python source of a module, or of all modules of a package; its name where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return module
    file = Path(spec.origin)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return f"{module}:{digest.hexdigest()}"
