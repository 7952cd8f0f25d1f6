"""The files of Label Studio: tasks and a labeling interface to import into it, and its JSON exports."""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from silvertune.datasets import tables
from silvertune.datasets.values import name_of
from silvertune.errors import UserError
from silvertune.schema import Task

QUESTION = "label"
"""Name of the question of the labeling interface (`from_name` in exports)."""
MODEL = "silvertune"
"""The `model_version` of the labels that are filled in."""
CONFIG = "config.xml"
VIEW = "view_"
"""What the keys of views in a task's data begin with."""


@dataclass(frozen=True)
class Annotation:
    """What one annotator said of one task.

    Attributes:
        item: The item_id, as the export has it.
        user: Label Studio's number of who answered; "" where the export does not say it.
        email: The e-mail of who answered; "" where the export does not say it.
        choice: The chosen label; None: the annotator skipped the task.
        data: The task's data.
        place: File and task, for messages.
        key: Label Studio's number of the annotation and when it was made, the same in every export; None where the
            export has no number.
        changed: When it was last changed; the earliest time there is where the export does not say it.
    """

    item: str
    user: str
    email: str
    choice: str | None
    data: Mapping[str, Any]
    place: str
    key: tuple[str, datetime] | None
    changed: datetime


def columns_of(views: Sequence[str]) -> dict[str, str]:
    """The key under which each view stands in a task's data: a name that Label Studio's interface can refer to.

    Args:
        views: The views.

    Returns:
        View -> key.
    """
    columns: dict[str, str] = {}
    for view in views:
        key = f"{VIEW}{re.sub(r'[^A-Za-z0-9_]', '_', view)}"
        while key in columns.values():
            key += "_"
        columns[view] = key
    return columns


def table_as_html(text: str, where: str) -> str:
    """A table in JSON as HTML.

    Args:
        text: Rows of cells, or column -> {row: cell}.
        where: What the text is of, for the message.

    Raises:
        UserError: It is no table.
    """
    try:
        grid = tables.grid(json.loads(text))
    except (ValueError, UserError) as error:
        raise UserError(f"{where}: no table in JSON ({error}); leave the view out of labeler.tables") from None
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in grid)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table border="1" style="border-collapse: collapse">{body}</table>'


def config(task: Task, views: Sequence[str], shown_as_tables: Sequence[str]) -> str:
    """The labeling interface: the views, one below the other, and one question with the task's classes.

    Args:
        task: The classes, with their descriptions.
        views: The views that people see.
        shown_as_tables: Those of them that are HTML.

    Returns:
        XML.
    """
    lines, columns = ["<View>"], columns_of(views)
    for view, key in columns.items():
        tag = "HyperText" if view in shown_as_tables else "Text"
        lines.append(f'  <Header value={quoteattr(view)} size="5"/>')
        lines.append(f'  <{tag} name="{key}" value="${key}" valueType="text"/>')
    lines.append(
        f'  <Choices name="{QUESTION}" toName="{next(iter(columns.values()))}" choice="single" required="true" '
        'showInline="true">'
    )
    for name in task.classes:
        hint = "; ".join(task.descriptions.get(name, ()))
        lines.append(f"    <Choice value={quoteattr(name)}{f' hint={quoteattr(hint)}' if hint else ''}/>")
    return "\n".join([*lines, "  </Choices>", "</View>", ""])


def task(item: str, group: str, texts: Mapping[str, str], draft: tuple[str, float] | None) -> dict[str, Any]:
    """A task to import.

    Args:
        item: The item_id.
        group: The group_id.
        texts: Key of a view (`columns_of`) -> its text.
        draft: A label to fill in, and how sure its labeler is (0-1 or NaN); None: nothing is filled in.
    """
    content: dict[str, Any] = {"data": {"item_id": item, "group_id": group, **texts}}
    if draft is not None:
        label, score = draft
        region = {"from_name": QUESTION, "to_name": next(iter(texts)), "type": "choices", "value": {"choices": [label]}}
        prediction: dict[str, Any] = {"model_version": MODEL, "result": [region]}
        content["predictions"] = [prediction | ({"score": round(score, 6)} if score == score else {})]
    return content


def tasks_files(folder: Path) -> list[Path]:
    """The files of tasks that were written into the folder, oldest first."""
    numbered = {file: re.fullmatch(r"tasks(?:-([0-9]+))?\.json", file.name) for file in folder.glob("tasks*.json")}
    return sorted((file for file, match in numbered.items() if match), key=lambda file: int(_number(file)))


def export_files(folder: Path) -> list[Path]:
    """The exports in the folder: every JSON file that is no file of tasks."""
    tasks = set(tasks_files(folder))
    return sorted(file for file in folder.glob("*.json") if file not in tasks)


def write_tasks(folder: Path, tasks: Sequence[Mapping[str, Any]], labeling_config: str) -> Path:
    """Write a further file of tasks, and the labeling interface; a file is there whole or not at all.

    Args:
        folder: Where to; it is made where there is none.
        tasks: The tasks.
        labeling_config: The labeling interface.

    Returns:
        The file of tasks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier = tasks_files(folder)
    file = folder / (f"tasks-{_number(earlier[-1]) + 1}.json" if earlier else "tasks.json")
    _write(folder / CONFIG, labeling_config)
    _write(file, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    return file


def items_in_tasks(file: Path) -> list[str]:
    """The item_ids in a file of tasks."""
    return [str(_member(entry, "data", place).get("item_id")) for entry, place in _entries(file)]


def annotations(file: Path) -> Iterator[Annotation]:
    """The annotations in an export, in Label Studio's format JSON or JSON-MIN; no drafts, and no predictions.

    Args:
        file: The export.

    Yields:
        The annotations, in the order of the file. A task that nobody has answered has none.

    Raises:
        UserError: It is no such export, or one of another project.
    """
    for entry, place in _entries(file):
        if "data" not in entry:
            yield from _minimal(entry, place)
            continue
        data, of_task = _member(entry, "data", place), entry.get("annotations")
        if not isinstance(of_task, list) or not all(isinstance(one, dict) for one in of_task):
            raise UserError(
                f"{place}: 'annotations' is no list of objects; want an export, in Label Studio's format JSON or "
                "JSON-MIN, and not tasks to import"
            )
        item = _item(data, place)
        for one in of_task:
            user, email = _user(one.get("completed_by"), place)
            skipped = bool(one.get("was_cancelled"))
            choice = None if skipped else _choice(one.get("result"), email or user, place)
            yield Annotation(item, user, email, choice, data, place, *_version(one.get("id"), one, place))


def _entries(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The tasks of a file, each with its place."""
    try:
        content = json.loads(file.read_bytes())  # of bytes, it knows UTF-8, UTF-16 and UTF-32 by themselves
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: can't be read as JSON ({error})") from None
    if not isinstance(content, list):
        raise UserError(
            f"{file}: {type(content).__name__}; want a list of tasks: Label Studio's format JSON or JSON-MIN"
        )
    for position, entry in enumerate(content, start=1):
        if not isinstance(entry, dict):
            raise UserError(f"{file}, entry {position}: {type(entry).__name__}; want a task, an object")
        yield entry, f"{file}, task {entry['id']}" if entry.get("id") is not None else f"{file}, entry {position}"


def _minimal(entry: Mapping[str, Any], place: str) -> Iterator[Annotation]:
    """The annotation in an entry of JSON-MIN, which has the task's data beside it; none where nobody has answered."""
    item = _item(entry, place)
    if QUESTION not in entry:
        if "annotation_id" in entry and entry["annotation_id"] is None:
            return
        raise UserError(
            f"{place}: has no answer {QUESTION!r}; want an export of the project with silvertune's {CONFIG}, not of "
            "another"
        )
    who = entry.get("annotator")
    user, email = _user(None if who == "None" else who, place)  # so it writes a user who was deleted
    choice = entry[QUESTION]
    if isinstance(choice, dict):
        choice = choice.get("choices")
    result = [{"from_name": QUESTION, "value": {"choices": choice if isinstance(choice, list) else [choice]}}]
    chosen = _choice(result, email or user, place)
    yield Annotation(item, user, email, chosen, entry, place, *_version(entry.get("annotation_id"), entry, place))


def _member(entry: Mapping[str, Any], name: str, place: str) -> dict[str, Any]:
    member = entry.get(name)
    if not isinstance(member, dict):
        raise UserError(f"{place}: has no {name!r}; want Label Studio's format JSON or JSON-MIN")
    return member


def _item(data: Mapping[str, Any], place: str) -> str:
    item = name_of(data.get("item_id"), f"{place}: item_id")
    if not item:
        raise UserError(f"{place}: has no item_id; want an export of silvertune's tasks, not of another project")
    return item


def _user(who: Any, place: str) -> tuple[str, str]:
    """Label Studio's number of a user, and the e-mail; each "" where the export does not have it."""
    if isinstance(who, dict):
        number, email = who.get("id"), who.get("email")
    else:
        number, email = (None, who) if isinstance(who, str) and "@" in who else (who, None)
    where = f"{place}: who answered"
    return name_of(number, where), name_of(email, where)


def _choice(result: Any, who: str, place: str) -> str:
    regions = [region for region in result if isinstance(region, dict)] if isinstance(result, list) else []
    ours = [region for region in regions if region.get("from_name") == QUESTION]
    if regions and not ours:
        raise UserError(
            f"{place}: answers {regions[0].get('from_name')!r} and not {QUESTION!r}; want an export of the project "
            f"with silvertune's {CONFIG}, not of another"
        )
    values = [region.get("value") for region in ours]
    chosen = [name for value in values if isinstance(value, dict) for name in value.get("choices") or ()]
    if len(chosen) != 1 or not isinstance(chosen[0], str):
        shown = ", ".join(map(repr, chosen)) or "none"
        raise UserError(
            f"{place}: {len(chosen)} labels by annotator {who or '?'} ({shown}); want one, or a skipped task"
        )
    return chosen[0]


def _version(number: Any, entry: Mapping[str, Any], place: str) -> tuple[tuple[str, datetime] | None, datetime]:
    """The key of an annotation, and when it was changed."""
    times = []
    for name in ("created_at", "updated_at"):
        text = entry.get(name)
        try:
            time = datetime.min if text is None else datetime.fromisoformat(text)
        except (TypeError, ValueError):
            raise UserError(f"{place}: {name}={text!r}; want a time such as 2026-11-02T09:30:00Z") from None
        times.append(time if time.tzinfo else time.replace(tzinfo=UTC))
    created, updated = times
    return None if number is None else (str(number), created), updated


def _number(file: Path) -> int:
    return int(file.stem.partition("-")[2] or 1)


def _write(file: Path, text: str) -> None:
    unfinished = file.with_name(f"{file.name}.tmp")
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(file)
