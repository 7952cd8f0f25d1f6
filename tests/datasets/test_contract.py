"""The contract of datasets: what every target of `conf/dataset` hands on."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pandas.testing import assert_frame_equal, assert_series_equal

from silvertune import votes
from silvertune.datasets.class_names import of_task
from silvertune.import_path import imported
from silvertune.items import RESERVED, Data, views_of
from silvertune.schema import Task

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))


def shipped(name: str) -> dict[str, Any]:
    """What conf/dataset/<name>.yaml says, over the one that it is made from."""
    content: dict[str, Any] = yaml.safe_load((CONF / "dataset" / f"{name}.yaml").read_text(encoding="utf-8"))
    bases = [base for base in content.pop("defaults", []) if base != "_self_"]
    return {key: value for base in bases for key, value in shipped(base).items()} | content


def shipped_task(name: str) -> Task:
    content = yaml.safe_load((CONF / "task" / f"{name}.yaml").read_text(encoding="utf-8"))
    return Task(**{**content, **of_task(content)})


@dataclass(frozen=True)
class Case:
    """A shipped dataset: its task, made-up rows of the shape that its yaml expects, and what makes it small.

    Attributes:
        task: The name of its task.
        row: The row of a number, for a dataset of files.
        settings: Settings in place of those of the yaml.
        change: Settings that change what is loaded, for a dataset that reads no file.
    """

    task: str
    row: Callable[[int], Mapping[str, Any]] | None = None
    settings: Mapping[str, Any] | None = None
    change: Mapping[str, Any] | None = None


def tables_row(n: int) -> dict[str, Any]:
    cells = [["Visit", f"Week {n}"], ["Weight", "X"]]
    return {"id": n, "nct": f"N{n // 2}", "rows": cells, "page_text": f"page {n}", "title_or_context": f"Table {n}",
            "text_below": None, "label": n % 2}  # fmt: skip


def cause_row(n: int) -> dict[str, Any]:
    return {"id": f"s{n}", "text": f"sentence {n // 2}", "term1": "a", "term2": "b", "adjudicated": (-1, 0, 1)[n % 3],
            "expert": (1, -1)[n % 2], "crowd_score": n / 10, "distant": 1}  # fmt: skip


LLMS = ["falcon_7b", "flan_t5_base", "flan_t5_large", "flan_t5_xl", "flan_ul2", "gpt_3_5", "gpt_4", "llama_7b",
        "llama_13b", "mistral_7b", "mixtral_8x7b", "openchat", "zephyr"]  # fmt: skip


def babe_row(n: int) -> dict[str, Any]:
    return {"id": n, "text": f"t{n}", "gold": n % 2, "crowd": {"majority": 1} if n else None,
            "llm": {llm: {"zero-shot": n % 2, "cot": None} for llm in LLMS}}  # fmt: skip


CASES = {
    "babe": Case("media_bias", babe_row),
    "crowdtruth_cause": Case("cause", cause_row),
    "css_ibc": Case("ideology", lambda n: {"id": n, "text": f"t{n}", "gold": "Liberal", "llm": {"m": "Neutral"}}),
    "css_semeval_stance": Case("stance", lambda n: {"id": n, "text": f"t{n}", "gold": "None", "llm": {"m": "Favor"}}),
    "global_warming": Case(
        "global_warming", lambda n: {"id": n, "text": f"t{n}", "gold": n % 2, "llm": "1", "llm_verbal_confidence": 0.5}
    ),
    "noisyag": Case("news", lambda n: {"id": n, "text": f"t{n}", "gold": n % 4, "human_majority": 3}),
    "synthetic_protocols": Case("soe", settings={"protocols": 3}, change={"seed": 1}),
    "tables_jsonl": Case("soe", tables_row),
    "text_jsonl": Case("news", lambda n: {"id": n, "text": f"t{n}", "gold": str(n % 4)}),
}
ROWS = 8


def load(name: str, folder: Path, *, change: bool = False) -> Data:
    """The dataset `name` of made-up rows, or with one word changed."""
    case, node = CASES[name], shipped(name)
    if case.row is not None:
        rows = [dict(case.row(n)) for n in range(ROWS)]
        if change:
            rows[3] |= {key: f"{value} more" for key, value in rows[3].items() if key in ("text", "page_text")}
        path = folder / "items.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        node |= {"path": str(path)}
    node |= (case.settings or {}) | ((case.change or {}) if change else {})
    data: Data = imported(node.pop("_target_"))(shipped_task(case.task), **node)
    return data


def test_every_shipped_dataset_has_a_case() -> None:
    assert set(NAMES) == set(CASES)


def test_every_loader_of_the_face_is_the_target_of_a_case() -> None:
    from silvertune import datasets

    assert {shipped(name)["_target_"] for name in CASES} == {f"silvertune.datasets.{name}" for name in datasets.__all__}


@pytest.mark.parametrize("name", NAMES)
def test_items_have_unique_ids_groups_and_views_and_no_labels(name: str, tmp_path: Path) -> None:
    items = load(name, tmp_path).items
    assert len(items)
    assert items.index.name == "item_id"
    assert items.index.is_unique
    assert all(type(value) is str and value == value.strip() != "" for value in items.index)
    assert all(type(value) is str and value for value in items["group_id"])
    assert views_of(items)
    assert set(items.columns) == {"group_id", *views_of(items)}
    assert not set(views_of(items)) & RESERVED
    for view in views_of(items):
        assert all(value is None or (type(value) is str and value.strip()) for value in items[view])


@pytest.mark.parametrize("name", NAMES)
def test_annotations_are_votes_on_its_items_and_gold_is_of_its_classes(name: str, tmp_path: Path) -> None:
    data, task = load(name, tmp_path), shipped_task(CASES[name].task)
    votes.check(data.annotations, task.classes, data.items.index, name)
    assert data.gold.index.name == "item_id"
    assert data.gold.index.is_unique
    assert set(data.gold.index) <= set(data.items.index)
    assert set(data.gold) <= set(task.classes)
    assert len(data.gold)
    assert data.partition is None or set(data.partition) <= {"train", "validation", "test"}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_content_is_the_same_data_wherever_it_lies(name: str, tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    one, other = (load(name, folder) for folder in folders)
    assert_frame_equal(one.items, other.items)
    assert_frame_equal(one.annotations, other.annotations)
    assert_series_equal(one.gold, other.gold)
    assert one.digest == other.digest
    assert len(one.digest) == 64


@pytest.mark.parametrize("name", NAMES)
def test_other_content_has_another_digest(name: str, tmp_path: Path) -> None:
    assert load(name, tmp_path).digest != load(name, tmp_path, change=True).digest
