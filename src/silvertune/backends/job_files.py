"""What a job on another machine needs, as files in Cloud Storage: configuration, training sets, files of the model."""

import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune import import_path
from silvertune.backends.cloud_storage import CloudFolder
from silvertune.errors import UserError
from silvertune.identity import NAMES_OF_FILES

STAGED = "staged:"
"""In a configuration that was sent: before the number of what stands there in the place of a path."""


def encoded(rows: pd.DataFrame) -> bytes:
    """Rows of a training set as JSON that `decoded` makes the same rows of, types included."""
    columns = [rows.index.tolist(), *(rows[name].tolist() for name in rows.columns)]
    content = {
        "index_name": rows.index.name,
        "columns": list(rows.columns),
        "dtypes": [str(rows.index.dtype), *map(str, rows.dtypes)],
        "values": [[None if value is pd.NA else value for value in column] for column in columns],
    }
    return json.dumps(content).encode("ascii")


def decoded(content: bytes) -> pd.DataFrame:
    """The rows that `encoded` was given."""
    parts = json.loads(content)
    values, dtypes = parts["values"], parts["dtypes"]
    index = pd.Index(values[0], name=parts["index_name"], dtype=dtypes[0])
    columns = [pd.Series(column, index, dtype=dtype) for column, dtype in zip(values[1:], dtypes[1:], strict=True)]
    rows = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=index)
    rows.columns = pd.Index(parts["columns"])
    return rows


@dataclass(frozen=True)
class ModelFiles:
    """The files that a model's configuration names, and the configuration without their paths.

    Attributes:
        config: The configuration; `STAGED` and a number stand for each path.
        paths: The paths, by number.
        files: For each of them the files that count, by their name from the path; a file's own has the name "".
    """

    config: Any
    paths: list[Path]
    files: list[dict[str, Path]]

    @classmethod
    def of(cls, config: Any) -> "ModelFiles":
        """Find the files that a configuration names, as `silvertune.identity` does."""
        paths: list[Path] = []
        files: list[dict[str, Path]] = []

        def without_paths(node: Any, name: str, part: Any) -> Any:
            if isinstance(node, Mapping):
                inner = _part(node)
                return {key: without_paths(value, str(key), inner) for key, value in node.items()}
            if isinstance(node, list):
                return [without_paths(value, name, part) for value in node]
            if not isinstance(node, str) or not node or len(node) > 1000 or "\n" in node:
                return node
            path = Path(node).absolute()
            if os.path.isfile(path):
                counted = {"": path}
            elif name in NAMES_OF_FILES and os.path.isdir(path):
                deciding = getattr(part, "files_in_identity", None)
                every = deciding(path) if deciding else path.rglob("*")
                counted = {str(file.relative_to(path)): file for file in sorted(every) if file.is_file()}
            else:
                return node
            paths.append(path)
            files.append(counted)
            return f"{STAGED}{len(paths) - 1}"

        return cls(without_paths(config, "", None), paths, files)

    def store(self, folder: CloudFolder) -> list[dict[str, str]]:
        """Store the files; their URLs, as `fetch` takes them."""
        return [
            {name: folder.store(file, file.name) for name, file in sorted(counted.items())} for counted in self.files
        ]


def fetch(config: Any, urls: list[dict[str, str]], folder: Path, setting: str) -> Any:
    """Download what `ModelFiles.store` stored.

    Args:
        config: `ModelFiles.config`.
        urls: What `store` gave.
        folder: Each path becomes `place(folder, number)`.
        setting: For messages.

    Returns:
        The configuration with the new paths.
    """
    for number, files in enumerate(urls):
        for name, url in files.items():
            place_of_file = place(folder, number) / name if name else place(folder, number)
            start, _, digest_and_name = url.rpartition("/")
            start, _, digest = start.rpartition("/")
            CloudFolder(start, setting).download(f"{digest}/{digest_and_name}", place_of_file)

    def with_paths(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: with_paths(value) for key, value in node.items()}
        if isinstance(node, list):
            return [with_paths(value) for value in node]
        staged = isinstance(node, str) and node.startswith(STAGED)
        return str(place(folder, int(node.removeprefix(STAGED)))) if staged else node

    return with_paths(config)


def place(folder: Path, number: int) -> Path:
    """Where a path of a model's configuration is on the other machine."""
    return folder / f"model-file-{number}"


def code_of_users(config: Any) -> tuple[list[str], list[str]]:
    """Whose code a configuration names besides silvertune's.

    Returns:
        Top-level modules that stand in the user's folders, and distributions that are installed.
    """
    modules: set[str] = set()
    installed: set[str] = set()
    for module in {target.partition(".")[0] for target in _targets(config)} - {"silvertune"}:
        spec = importlib.util.find_spec(module)
        is_installed = bool(spec and spec.origin and {"site-packages", "dist-packages"} & set(Path(spec.origin).parts))
        (installed if is_installed else modules).add(module)
    # Looking through all that is installed takes most of a second.
    by_module = importlib.metadata.packages_distributions() if installed else {}
    distributions = {name for module in installed for name in by_module.get(module, ())}
    return sorted(modules), sorted(distributions)


def packages_of(config: Any) -> list[str]:
    """The installed packages that a configuration names as `package`: they carry a model's files."""
    names: list[str] = []
    for node in _nodes(config):
        package = node.get("package")
        names += [package] if isinstance(package, str) else package or ()
    return sorted(set(names))


def _targets(config: Any) -> Iterator[str]:
    return (str(node["_target_"]) for node in _nodes(config) if node.get("_target_"))


def _nodes(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a configuration."""
    if isinstance(config, Mapping):
        yield config
        for value in config.values():
            yield from _nodes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _nodes(value)


def _part(node: Mapping[str, Any]) -> Any:
    try:
        return import_path.imported(str(node["_target_"]))
    except Exception:  # no part, or one that composition refuses
        return None


def read_url(url: str, setting: str) -> bytes:
    """The content of an object.

    Args:
        url: gs://bucket/folder/name.
        setting: For messages.

    Raises:
        UserError: There is none.
    """
    folder, _, name = url.rpartition("/")
    content = CloudFolder(folder, setting).read(name)
    if content is None:
        raise UserError(f"{setting}: there is no {url}")
    return content
