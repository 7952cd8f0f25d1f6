"""The notebook of the documentation: it was executed as it stands, and it names what there is."""

import ast
import json
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from tests.docs import blocks
from tests.docs.site import site

import silvertune
from silvertune.study.loaded import LoadedStudy

FILE = blocks.ROOT / "docs" / "notebook.ipynb"
CELLS = [cell for cell in json.loads(FILE.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
SOURCES = ["".join(cell["source"]) for cell in CELLS]
CODE = ast.parse("\n".join(SOURCES))


def test_it_was_executed_from_top_to_bottom_without_errors_and_is_small() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    kinds = {output["output_type"] for cell in CELLS for output in cell["outputs"]}
    assert kinds == {"execute_result"}
    assert len(FILE.read_bytes()) < 400_000


def test_its_outputs_name_no_folder_and_nobody() -> None:
    text = re.sub(r"[A-Za-z0-9+/=]{200,}", "", FILE.read_text(encoding="utf-8"))  # without pictures
    assert re.findall(r"(?:file:|sqlite:|[A-Z]:\\|(?<![\w<.])/)[a-z]+/\S*", text) == []


def test_it_names_what_there_is() -> None:
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(CODE)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert {name for module, name in used if module == "silvertune"} <= set(silvertune.__all__)
    of_study = {name for variable, name in used if variable in ("study", "one")}
    assert len(of_study) > 4
    assert {name for name in of_study if not hasattr(LoadedStudy, name)} == set()


def test_its_overrides_are_planned_on_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (node,) = [node for node in CODE.body if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "overrides"]
    namespace: dict[str, object] = {}
    for source in takewhile(lambda source: "silvertune" not in source, SOURCES):  # the cells that write the data
        exec(source, namespace)
    silvertune.run([*ast.literal_eval(node.value), "mode=plan"])
    assert "6 runs: 0 finished, 6 to do" in capsys.readouterr().out


def test_the_page_shows_its_tables_and_its_pictures() -> None:
    page = site.notebook("docs/notebook.ipynb")
    assert page.count("<img") == 2
    assert page.count("<table") >= 5
    assert "# A study in a notebook" not in page
    assert all(source.strip() in page for source in SOURCES)


@pytest.mark.soak
def test_it_can_be_executed(tmp_path: Path) -> None:
    """Cell by cell in a process of its own, as Jupyter does; what a cell ends with is shown."""
    shown = "def show(value):\n    print((getattr(value, '_repr_html_', None) or value._repr_png_)()[:60])\n"
    lines = [shown]
    for source in SOURCES:
        tree = ast.parse(source)
        last = tree.body[-1]
        if isinstance(last, ast.Expr) and "run_ids" not in source:
            tree.body[-1] = ast.parse(f"show({ast.unparse(last)})").body[0]
        lines.append(ast.unparse(tree))
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<h3>silvertune: 6 runs</h3>")
    assert "PNG" in done.stdout
