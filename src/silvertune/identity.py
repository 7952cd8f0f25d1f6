"""What decides a run's result, as one digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from silvertune import targets

CANNOT_CHANGE_RESULT = (
    "tracking",
    "study",
    "experiments",
    "arm",
    "variant",
    "mode",
    "on_error",
    "resume",
    "retry_of",
)


def of(config: Mapping[str, Any]) -> str:
    """A digest of everything that decides a run's result, known before anything is labelled.

    The resolved configuration without what can't change the result; files stand in it by their content, not
    their place; the source of silvertune and of every module that a `_target_` outside of it names (not of
    what that module imports in turn).
    """
    deciding = {key: value for key, value in config.items() if key not in CANNOT_CHANGE_RESULT}
    content = {
        "config": by_content(deciding),
        "code": [targets.source_digest(module) for module in sorted({"silvertune", *_modules(deciding)})],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def by_content(node: Any, key: str = "") -> Any:
    if isinstance(node, Mapping):
        inside = "path" if key == "files" else ""
        return {str(name): by_content(value, inside or str(name)) for name, value in node.items()}
    if isinstance(node, list):
        return [by_content(value, key) for value in node]
    if key == "path" and isinstance(node, str) and Path(node).is_file():
        return "sha256:" + hashlib.sha256(Path(node).read_bytes()).hexdigest()
    return node


def _modules(node: Any) -> set[str]:
    """The modules that `_target_`s name, silvertune's own aside."""
    if isinstance(node, list):
        return set().union(*map(_modules, node))
    if not isinstance(node, Mapping):
        return set()
    found = set().union(*map(_modules, node.values()))
    target = str(node.get("_target_") or "")
    return found | ({targets.module_of(target)} if target and not target.startswith("silvertune.") else set())
