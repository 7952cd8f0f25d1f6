"""Filters that are made of other filters, which they name: the names are replaced by those filters' configs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from silvertune.errors import UserError

OTHERS = ("like", "of")
"""Parameters of a filter that name other filters."""


def put_configs(filters: Mapping[str, Any], where: str, sources: list[Any], *, depth: int) -> None:
    """Replace names of filters under `OTHERS` by those filters' configs, in place and all the way down."""
    if depth > 10:
        raise UserError(f"{where}: filters that are like each other, without end")
    for key, node in filters.items():
        for name in OTHERS if isinstance(node, dict) else ():
            if name in node:
                node[name] = _configs(node[name], f"{where}.{key}.{name}", sources)
                put_configs(node[name], f"{where}.{key}.{name}", sources, depth=depth + 1)


def _configs(names: Any, key: str, sources: list[Any]) -> dict[str, Any]:
    """The filters' configs as their yamls have them: overrides of the same filter elsewhere do not reach them."""
    if isinstance(names, dict):
        return names
    folders = [Path(source["path"]) / "filter" for source in sources if source["schema"] in ("conf", "file")]
    configs: dict[str, Any] = {}
    for name in [names] if isinstance(names, str) else list(names):
        file = next((folder / f"{name}.yaml" for folder in folders if (folder / f"{name}.yaml").is_file()), None)
        if file is None:
            available = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
            raise UserError(f"{key}={name}: no such filter; there is {', '.join(available)}")
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        if "defaults" in content or "${" in text:
            raise UserError(
                f"{key}={name}: {file} needs Hydra to be composed; write the filter out under {key} instead"
            )
        configs |= content
    return configs
