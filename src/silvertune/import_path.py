"""What a `_target_` names: the object, its module, that module's source."""

import hashlib
import importlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any


def found(target: str) -> Any:
    """What the import path names. Raises whatever the import does, or AttributeError."""
    module = module_of(target)
    found: Any = importlib.import_module(module)
    for name in target.removeprefix(f"{module}.").split("."):
        found = getattr(found, name)
    return found


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
