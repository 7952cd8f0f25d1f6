"""What the site makes while it is built (a hook of MkDocs): the catalogues, the house's picture, the reports.

A page says where with a comment on a line of its own: `<!-- catalogue: filter -->`, `<!-- rooms -->`,
`<!-- part inputs -->`, `<!-- file: tests/extensions/my_filter.py -->`, `<!-- notebook: docs/notebook.ipynb -->`.
"""

import ast
import html
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "silvertune"
SECTIONS = ("Args", "Returns", "Raises")


class IncompleteDocstringError(Exception):
    """A docstring lacks a part that the catalogue shows."""


# ------------------------------------------------------------------------------------------------ catalogues


def parts_of(docstring: str, name: str) -> dict[str, Any]:
    """Take apart the docstring of a filter or an aggregation.

    Args:
        docstring: The docstring, cleaned of its indentation.
        name: The function's name, for the message.

    Returns:
        `summary`, `text` (the paragraphs after it), `Source`, `Confidence` (if there is one), `Fails where`, and
        `Args`, `Returns` and `Raises`: of `Args` a dict from parameter to description, of the others one text.

    Raises:
        IncompleteDocstringError: The summary, the source, `Args:`, `Returns:` or `Fails where` is missing.
    """
    parts: dict[str, Any] = {"text": []}
    for paragraph in re.split(r"\n\s*\n", docstring.strip()):
        title, _, body = paragraph.partition("\n")
        if title.rstrip(":") in SECTIONS and title.endswith(":"):
            parts[title[:-1]] = _described(body) if title == "Args:" else _one_line(body)
        elif match := re.match(r"(Source|Confidence): ", paragraph):
            parts[match[1]] = _one_line(paragraph[match.end() :])
        elif paragraph.startswith("Fails "):
            parts["Fails where"] = _one_line(paragraph)
        elif "summary" not in parts:
            parts["summary"] = _one_line(paragraph)
        else:
            parts["text"].append(_one_line(paragraph))
    if missing := [part for part in ("summary", "Source", "Args", "Returns", "Fails where") if not parts.get(part)]:
        raise IncompleteDocstringError(f"{name}: its docstring has no {', '.join(missing)}")
    return parts


def _described(body: str) -> dict[str, str]:
    """`name: description` entries, whose further lines are indented more."""
    entries: dict[str, str] = {}
    name = ""
    for line in body.splitlines():
        if match := re.match(r" {4}(\w+)(?: \([^)]*\))?: (.*)", line):
            name = match[1]
            entries[name] = match[2].strip()
        elif name:
            entries[name] += " " + line.strip()
    return entries


def _one_line(text: str) -> str:
    return " ".join(text.split())


def settings(function: Callable[..., Any]) -> list[str]:
    """The parameters that the yaml sets: those that can only be given by name."""
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def entry(name: str, function: Callable[..., Any], yaml_text: str) -> str:
    """The catalogue's entry of one function, in Markdown.

    Args:
        name: The function's name, which is that of its yaml.
        function: A filter or an aggregation.
        yaml_text: The yaml that ships with it.

    Raises:
        IncompleteDocstringError: Its docstring lacks a part, or does not describe a parameter.
    """
    parts = parts_of(inspect.getdoc(function) or "", name)
    by_yaml = settings(function)
    if missing := [key for key in by_yaml if key not in parts["Args"]]:
        raise IncompleteDocstringError(f"{name}: its docstring does not describe {', '.join(missing)}")
    asked = [key for key in inspect.signature(function).parameters if key not in by_yaml]
    lines = [f"## {name}", "", parts["summary"], "", *(line for text in parts["text"] for line in (text, ""))]
    if "Confidence" in parts:
        lines += [f"**Confidence**: {parts['Confidence']}", ""]
    if by_yaml:
        lines += ["| setting | what it means, its unit and its usual value |", "| --- | --- |"]
        lines += [f"| `{key}` | {_cell(parts['Args'][key])} |" for key in by_yaml]
        lines += [""]
    lines += [f"**Needs** {', '.join(f'`{key}`' for key in asked)}. **Returns** {_lower(parts['Returns'])}", ""]
    lines += [f"**Source**: {parts['Source']}", "", _bold_start(parts["Fails where"])]
    if "Raises" in parts:
        lines += ["", f"**Raises** {parts['Raises']}"]
    lines += ["", "```yaml", yaml_text.strip(), "```", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _bold_start(text: str) -> str:
    start = "Fails where" if text.startswith("Fails where") else "Fails"
    return f"**{start}**{text.removeprefix(start)}"


def catalogue(group: str) -> str:
    """The catalogue of a group of configs, `filter` or `aggregation`, in Markdown, by name.

    Raises:
        IncompleteDocstringError: A docstring lacks a part, or a function has no yaml.
    """
    room = importlib.import_module(f"silvertune.{group}s")
    entries = []
    for name in sorted(room.__all__):
        file = ROOT / "conf" / group / f"{name}.yaml"
        if not file.exists():
            raise IncompleteDocstringError(f"{name}: there is no conf/{group}/{name}.yaml")
        entries.append(entry(name, getattr(room, name), file.read_text(encoding="utf-8")))
    return "\n".join(entries)


# ------------------------------------------------------------------------------------------------- the house


def rooms() -> dict[str, set[str]]:
    """Room -> the rooms that its modules import, anywhere in them."""
    arrows: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE).with_suffix("").parts[0]
        arrows.setdefault(place, set())
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
            elif isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "silvertune" and len(parts) > 1 and _is_room(parts[1]):
                    arrows[place].add(parts[1])
    return {place: names - {place} for place, names in arrows.items() if place != "__init__"}


def _is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def floors(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The rooms by height: a room stands one floor above the highest room that it imports."""
    height: dict[str, int] = {}
    while len(height) < len(arrows):
        ready = [room for room in arrows if room not in height and arrows[room] <= set(height)]
        if not ready:
            raise ValueError(f"a circle among {sorted(set(arrows) - set(height))}")
        height |= {room: 1 + max((height[below] for below in arrows[room]), default=-1) for room in ready}
    return [sorted(room for room in height if height[room] == floor) for floor in range(max(height.values()) + 1)]


def purpose(room: str) -> str:
    """The first sentence of what a room says of itself."""
    file = PACKAGE / room / "__init__.py" if (PACKAGE / room).is_dir() else PACKAGE / f"{room}.py"
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return _one_line(re.split(r"(?<=\.)\s", text.split("\n\n")[0])[0])


def picture_of_the_rooms() -> str:
    """A table, the highest floor first: room, what it is for, which rooms it imports."""
    arrows = rooms()
    lines = ["| floor | room | what it is for | imports |", "| ---: | --- | --- | --- |"]
    for number, names in reversed(list(enumerate(floors(arrows)))):
        for room in names:
            title = f"`{room}/`" if (PACKAGE / room).is_dir() else f"`{room}.py`"
            below = ", ".join(f"`{name}`" for name in sorted(arrows[room]))
            lines.append(f"| {number} | {title} | {_cell(purpose(room))} | {below} |")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------- MkDocs' hooks


def on_files(files: Any, config: Any) -> Any:
    """Add the reports and figures of `experiments/` to the site."""
    from mkdocs.structure.files import File

    for file in sorted((ROOT / "experiments").iterdir()):
        if file.suffix in (".md", ".png"):
            files.append(File.generated(config, f"experiments/{file.name}", abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is generated where a page asks for it."""
    if str(ROOT / "src") not in sys.path:
        sys.path.insert(0, str(ROOT / "src"))
    return filled_in(markdown)


def filled_in(markdown: str) -> str:
    """The page with what it asks for.

    Raises:
        IncompleteDocstringError: A docstring lacks a part that the page shows.
    """
    markdown = re.sub(r"^<!-- catalogue: (\w+) -->$", lambda match: catalogue(match[1]), markdown, flags=re.M)
    markdown = re.sub(r"^<!-- rooms -->$", lambda _: picture_of_the_rooms(), markdown, flags=re.M)
    markdown = re.sub(r"^<!-- part inputs -->$", lambda _: part_inputs(), markdown, flags=re.M)
    markdown = re.sub(r"^<!-- notebook: (\S+) -->$", lambda match: notebook(match[1]), markdown, flags=re.M)
    return re.sub(r"^<!-- file: (\S+) -->$", lambda match: listing(match[1]), markdown, flags=re.M)


def part_inputs() -> str:
    """The tables of what a part may ask for, from the module that fixes it."""
    text = ast.get_docstring(ast.parse((PACKAGE / "part_inputs.py").read_text(encoding="utf-8"))) or ""
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    if len(tables) != 2:
        raise IncompleteDocstringError(
            f"part_inputs: its docstring has {len(tables)} tables; want the stages and the names"
        )
    return "\n".join(tables)


def notebook(path: str) -> str:
    """An executed notebook of the repository as Markdown: its texts, its code, and what each cell showed.

    Its title is left out: the page has one. A table or a picture is one line of HTML.
    """
    cells = json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\A# .*\n*", "", text))
        else:
            parts.append(f"<!-- not run: it is a cell of the notebook -->\n```python\n{text}\n```")
            parts += [_shown(output["data"]) for output in cell["outputs"] if "data" in output]
    return "\n\n".join(parts)


def _shown(data: dict[str, Any]) -> str:
    """What a cell showed, in the richest form that a page has."""
    if "text/html" in data:
        return f"<div>{' '.join(''.join(data['text/html']).split())}</div>"
    if "image/png" in data:
        image = "".join("".join(data["image/png"]).split())
        return f'<div><img alt="{html.escape("".join(data["text/plain"]))}" src="data:image/png;base64,{image}"></div>'
    return f"```text\n{''.join(data['text/plain'])}\n```"


def listing(path: str) -> str:
    """A file of the repository as a block, under the name that it has in a user's folder."""
    languages = {".py": "python", ".yaml": "yaml"}
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    name = re.sub("^tests/extensions/", "", path)
    return f'```{languages[Path(path).suffix]} title="{name}"\n{text}\n```'
