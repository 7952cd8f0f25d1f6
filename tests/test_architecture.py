"""The shape of the house: which room may import which, how large a file may be, and what is imported when."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "silvertune"
MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
}
FLOORS = [
    {"errors", "import_path", "progress_bar"},
    {"databases", "items", "model_files", "part_inputs", "schema", "votes"},
    {"identity", "interfaces", "stats"},
    {"aggregations", "datasets", "encoders", "fallback_budget", "filters", "llms", "splits"},
    {"backends", "evidence", "models"},
    {"evaluation", "labelers"},
    {"reports", "runner"},
    {"composition", "tracking"},
    {"study"},
    {"production"},
    {"__init__", "serving"},
    {"__main__"},
]
"""A room imports rooms of lower floors only, so that no arrow goes up and there is no circle."""
WORD_LISTS = {"protocol_words.py"}
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "mlflow",
    "sklearn",
    "google",
    "openai",
    "anthropic",
    "aiohttp",
    "matplotlib",
)


def room(module: str) -> str:
    """The folder or file directly under `silvertune` that a module stands in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(module: str, *, at_import: bool = False) -> Iterator[str]:
    """The modules that a module imports anywhere in it, or only while it is imported itself."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree) if not at_import else tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else node.module


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in MODULES} == set().union(*FLOORS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_imports_a_room_of_its_own_floor_or_above(module: str) -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    here = room(module)
    others = {room(name) for name in imports(module) if name.startswith("silvertune")} - {here}
    above = {name for name in others if floor[name] >= floor[here]}
    assert not above or here == "__init__", f"{module} imports {above}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {module: {name for name in imports(module) if name in MODULES} - {module} for module in MODULES}
    # A face names what its room has; a module of the room may import its neighbours and not the face.
    arrows = {module: names for module, names in arrows.items() if MODULES[module].name != "__init__.py"}
    while arrows:
        free = {module for module, names in arrows.items() if not names & set(arrows)}
        assert free, f"a circle among {sorted(arrows)}"
        arrows = {module: names for module, names in arrows.items() if module not in free}


def test_few_modules_stand_in_the_hall() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 16


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_can_be_read_in_one_go(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    most = 250 if module == "silvertune.runner" else 400
    assert lines <= most or MODULES[module].name in WORD_LISTS


def test_a_group_of_configs_and_a_room_have_the_same_name() -> None:
    groups = {folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir()}
    settings = {"task", "evaluation", "tracking"}  # of dataclasses in schema.py; two of them have a room as well
    made_of_labelers = {"preselect", "fallback"}
    of_hydra = {"hydra"}  # its room is src/hydra_plugins
    rooms = {f"{group}s" for group in groups - settings - made_of_labelers - of_hydra}
    assert rooms <= {folder.name for folder in PACKAGE.iterdir() if folder.is_dir()}


def targets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("_target_"):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


CONF = ROOT / "conf"
CONFIGS = sorted(file for file in CONF.rglob("*.yaml") if not file.is_relative_to(CONF / "hydra"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_a_shipped_config_names_what_the_face_of_a_room_has(file: Path) -> None:
    for target in targets(yaml.safe_load(file.read_text(encoding="utf-8"))):
        package, name_of_room, name = target.split(".")
        assert package == "silvertune"
        assert name in __import__(f"silvertune.{name_of_room}", fromlist=["__all__"]).__all__


def test_only_the_edge_knows_mlflow_and_hydra() -> None:
    knows = {
        package: {room(module) for module in MODULES if any(name.split(".")[0] == package for name in imports(module))}
        for package in ("mlflow", "hydra")
    }
    assert knows == {"mlflow": {"tracking", "study"}, "hydra": {"study"}}


def test_importing_the_faces_imports_nothing_heavy() -> None:
    faces = sorted(module for module, file in MODULES.items() if file.name == "__init__.py")
    # Some packages put modules of their namespace (`google`) into every interpreter that starts.
    code = (
        f"import sys; at_start = set(sys.modules); import {', '.join(faces)}; "
        f"print(*sorted({{name.split('.')[0] for name in set(sys.modules) - at_start}} & set({HEAVY})))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []
