"""What decides a run's result, as one digest."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from silvertune import import_path

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
HOW_IT_ASKS = {
    "silvertune.llms.": ("limits", "base_url", "api_key_env"),
    "silvertune.labelers.LLMLabeler": ("store", "budget_usd"),
}
"""Of targets that begin so: parameters that change how answers are come by, and not what they are."""


def of(config: Mapping[str, Any]) -> str:
    """A digest of everything that decides a run's result, known before anything is labelled.

    The resolved configuration without what can't change the result; whatever names a file stands in it by the
    file's content, not its place; the source of silvertune, and of every module that a `_target_` outside of it
    names (not of what that module imports in turn).
    """
    deciding = _without_how({key: value for key, value in config.items() if key not in CANNOT_CHANGE_RESULT})
    content = {
        "config": by_content(deciding),
        "code": [import_path.source_digest(module) for module in sorted({"silvertune", *_modules(deciding)})],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_part(node: Mapping[str, Any]) -> str:
    """A digest of what decides what the object does that `node` describes: its parameters and its module's source."""
    modules = sorted({import_path.module_of(target) for target in _targets(node)})
    content = [by_content(node), [import_path.source_digest(module) for module in modules]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _without_how(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_how(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    target = str(node.get("_target_") or "")
    dropped = [name for start, names in HOW_IT_ASKS.items() if target.startswith(start) for name in names]
    return {key: _without_how(value) for key, value in node.items() if key not in dropped}


def by_content(node: Any, key: str = "") -> Any:
    """`node` with every string that names a file, and every `path` that names a folder, replaced by their digests."""
    if isinstance(node, Mapping):
        return {str(name): by_content(value, str(name)) for name, value in node.items()}
    if isinstance(node, list):
        return [by_content(value, key) for value in node]
    if not isinstance(node, str) or not node or len(node) > 1000 or "\n" in node:
        return node
    path = Path(node)
    if path.is_file():
        return _digest(path, path.stat().st_mtime_ns, path.stat().st_size)
    if key == "path" and path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return [[str(file.relative_to(path)), by_content(str(file))] for file in files]
    return node


@lru_cache(maxsize=256)
def _digest(path: Path, modified: int, size: int) -> str:
    """SHA-256 of a file; read again only where its time or size is another."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _modules(node: Any) -> set[str]:
    """The modules that `_target_`s name, silvertune's own aside."""
    return {import_path.module_of(target) for target in _targets(node) if not target.startswith("silvertune.")}


def _targets(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_targets, node))
    if not isinstance(node, Mapping):
        return set()
    target = str(node.get("_target_") or "")
    return set().union(*map(_targets, node.values())) | ({target} if target else set())
