"""What decides a run's result, as one digest.

A part says itself which of its parameters cannot change a result: its class or function has an attribute
`not_in_identity`, a collection of parameter names; of a model or a backend, `not_in_tuning` names those that can change
what its tuned models predict and not what is tuned. A part whose parameter `path` or `model` names a folder may say
which files of it can change a result: a static method `files_in_identity(folder) -> files`; without it every file
counts.
"""

import glob
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from silvertune import import_path, part_inputs
from silvertune.errors import UserError

NOT_IN_IDENTITY = (
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
"""Keys of the configuration that cannot change a run's result."""


NAMES_OF_FILES = ("path", "model", "train", "validation", "test")
"""Parameters that may name a folder, or files by a pattern (the last three: `dataset.files`)."""


def of(config: Mapping[str, Any]) -> str:
    """Digest of everything that decides a run's result, known before anything is labelled.

    It covers the resolved configuration without what cannot change the result, the content (not the place) of every
    file that the configuration names, the source of silvertune, and the source of each module outside of silvertune
    that a `_target_` names. What those modules import in turn is not covered.

    Args:
        config: A run's configuration (`silvertune.composition.plain`).

    Returns:
        SHA-256 as 64 hexadecimal digits.

    Raises:
        UserError: A file that the configuration names can't be read.
    """
    deciding = by_content(_read_by_the_run(config))
    modules = sorted({"silvertune", *_modules_of_users(config)})
    return _sha256({"config": deciding, "code": [import_path.source_digest(module) for module in modules]})


def of_part(node: Mapping[str, Any]) -> str:
    """Digest of what decides what one part does: its parameters and the source of its module.

    Args:
        node: The part's configuration, with its `_target_`.

    Returns:
        SHA-256 as 64 hexadecimal digits.
    """
    modules = sorted({import_path.module_of(target) for target in _targets(node)})
    return _sha256([by_content(node), [import_path.source_digest(module) for module in modules]])


def of_tuning(config: Mapping[str, Any]) -> str:
    """Digest of the settings that decide what tuning on given rows gives, without any source.

    It covers the parameters of the model and of the backend but those of their `not_in_tuning`, and the task where one
    of them asks for it, as a model does that writes the task's prompts into what it is tuned on. An edit of the code
    does not change it.

    Args:
        config: A run's configuration (`silvertune.composition.plain`).

    Returns:
        SHA-256 as 64 hexadecimal digits.

    Raises:
        UserError: A file that the configuration names can't be read.
    """
    left_out = ("not_in_identity", "not_in_tuning")
    deciding = {part: by_content(config[part], left_out) for part in ("model", "backend")}
    if "task" in _parameter_names([config["model"], config["backend"]]):
        deciding["task"] = by_content(config["task"])
    return _sha256(deciding)


def parameters_not_in_identity(target: str) -> Collection[str]:
    """The parameters that the part named by the import path `target` declares as `not_in_identity`.

    Empty where it declares none, and where it can't be imported (composition says why).
    """
    return _declared_by(_part(target))


def by_content(node: Any, left_out: Collection[str] = ("not_in_identity",)) -> Any:
    """A configuration in which every file is replaced by the digest of its content.

    Args:
        node: A configuration of mappings, lists and scalars.
        left_out: Attributes of parts that name the parameters which are left out.

    Returns:
        The same structure. A string that names a file becomes the file's digest; one of `NAMES_OF_FILES` that names
        a folder, or files by a pattern, becomes a list of (name, digest) of the files that count.
    """
    if isinstance(node, Mapping):
        part = _part(str(node["_target_"])) if node.get("_target_") else None
        names_left_out = {name for attribute in left_out for name in _declared_by(part, attribute)}
        return {
            str(name): (name in NAMES_OF_FILES and _files_by_content(value, part)) or by_content(value, left_out)
            for name, value in node.items()
            if name not in names_left_out
        }
    if isinstance(node, list):
        return [by_content(value, left_out) for value in node]
    if not isinstance(node, str) or not node or len(node) > 1000 or "\n" in node:
        return node
    return _file_digest(Path(node)) if _is_file(node) else node


def _declared_by(part: Any, attribute: str = "not_in_identity") -> Collection[str]:
    """The names in an attribute of a part; a string in the place of a collection is one name."""
    names: Collection[str] = getattr(part, attribute, ())
    return (names,) if isinstance(names, str) else names


def _is_file(text: str) -> bool:
    """Whether a text is the path of a file. A prompt may be longer than any path, or name what can't be looked at."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _read_by_the_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without the keys that cannot change the result, and without what no part of the arm reads.

    The top-level `encoder` and `evidence` serve filters alone; another part has an encoder of its own in its node.
    """
    deciding = {key: value for key, value in config.items() if key not in NOT_IN_IDENTITY}
    evidence_names = _parameter_names(config.get("filter"))
    if not reads_encoder(config.get("filter")):
        deciding.pop("encoder", None)
    if not evidence_names & {*part_inputs.EVIDENCE_BY_ENCODER, *part_inputs.EVIDENCE_BY_STUDENT, "calibration"}:
        deciding.pop("evidence", None)
    return deciding


def reads_encoder(filters: Any) -> bool:
    """Whether some filter of a configuration, at any depth, asks for evidence that the top-level encoder gives."""
    return bool(_parameter_names(filters) & {*part_inputs.EVIDENCE_BY_ENCODER})


def _parameter_names(node: Any) -> set[str]:
    """The names of all parameters of the parts in a configuration."""
    return set().union(*(import_path.parameter_names(target) for target in _targets(node)))


def _files_by_content(path: Any, part: Any) -> list[list[str]]:
    """(name, digest) of the files in a folder, or of those that a pattern matches; empty where `path` names neither."""
    if not isinstance(path, str) or not path or _is_file(path):
        return []
    if not os.path.isdir(path):
        files = sorted(Path(name) for name in glob.glob(path, recursive=True)) if glob.has_magic(path) else []
        return [[file.name, _file_digest(file)] for file in files if file.is_file()]
    files_in_identity = getattr(part, "files_in_identity", None)
    files = sorted(files_in_identity(Path(path)) if files_in_identity else Path(path).rglob("*"))
    return [[str(file.relative_to(path)), _file_digest(file)] for file in files if file.is_file()]


def _file_digest(file: Path) -> str:
    try:
        state = file.stat()
        return _digest(file, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise UserError(f"{file}: is named in the configuration and can't be read ({error.strerror})") from None


@lru_cache(maxsize=1024)
def _digest(file: Path, modified: int, size: int) -> str:
    """SHA-256 of a file; read again only where its time or size differs."""
    with file.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _part(target: str) -> Any:
    """What a `_target_` names; None where it can't be imported, which composition reports."""
    try:
        return import_path.imported(target)
    except Exception:
        return None


def _modules_of_users(node: Any) -> set[str]:
    """The modules that `_target_`s name, except silvertune's."""
    return {import_path.module_of(target) for target in _targets(node) if not target.startswith("silvertune.")}


def _targets(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_targets, node))
    if not isinstance(node, Mapping):
        return set()
    target = str(node.get("_target_") or "")
    return set().union(*map(_targets, node.values())) | ({target} if target else set())
