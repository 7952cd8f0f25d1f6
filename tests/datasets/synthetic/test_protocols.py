"""The synthetic corpus is the same everywhere, different between protocols, and has what real protocols have."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import pytest
import yaml
from pandas.testing import assert_frame_equal, assert_series_equal

from silvertune import votes
from silvertune.composition import load_data
from silvertune.datasets.synthetic import protocol_words as words
from silvertune.datasets.synthetic import protocols as corpus
from silvertune.datasets.synthetic.protocol_pages import Placed
from silvertune.datasets.synthetic.protocol_tables import OTHER, SOE, ProtocolTables
from silvertune.datasets.synthetic.protocols import load
from silvertune.errors import UserError
from silvertune.items import Data
from silvertune.schema import Task

CONF = Path(__file__).parents[3] / "conf"
TASK = Task(name="soe", classes=["other", "soe"], positive="soe")
VIEWS = {"json": "{cells_json}", "text": "{caption}\n{cells_text}\n{footnotes}", "page": "{page_text}"}


def made(protocols: int = 4, **changed: Any) -> Data:
    given: dict[str, Any] = {"protocols": protocols, "seed": 0, "captions": True, "views": VIEWS}
    return load(TASK, **(given | changed))


@cache
def tables_of(protocols: int = 60, seed: int = 0) -> tuple[Placed, ...]:
    return tuple(table for n in range(1, protocols + 1) for table in corpus.protocol(n, seed))


def same(one: Data, other: Data) -> None:
    assert_frame_equal(one.items, other.items)
    assert_series_equal(one.gold, other.gold)
    assert_frame_equal(one.annotations, other.annotations)
    assert one.digest == other.digest


# -------------------------------------------------------------------------------------------------- determinism


def test_the_same_arguments_are_the_same_data() -> None:
    same(made(), made())


def test_another_process_makes_the_same_data() -> None:
    code = (
        "from silvertune.datasets.synthetic.protocols import load; from silvertune.schema import Task; "
        f"print(load({TASK!r}, protocols=4, seed=0, captions=True, views={VIEWS!r}).digest)"
    )
    for hash_seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == made().digest


@pytest.mark.parametrize(
    "changed",
    [{"protocols": 5}, {"seed": 1}, {"captions": False}, {"views": {"json": "{cells_json}"}}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_argument_changes_the_digest(changed: Mapping[str, Any]) -> None:
    assert made(**changed).digest != made().digest


def test_another_seed_shares_no_table() -> None:
    assert not set(made(seed=1).items["json"]) & set(made().items["json"])


def test_more_protocols_begin_with_the_same_ones() -> None:
    few, many = made(3), made(5)
    assert_frame_equal(many.items.loc[few.items.index], few.items)
    assert_series_equal(many.gold.loc[few.gold.index], few.gold)


# --------------------------------------------------------------------------------------------------- the tables


def test_ids_are_unique_and_name_their_protocol_page_and_place() -> None:
    items = made().items
    assert items.index.is_unique
    assert items.index.name == "item_id"
    assert all(re.fullmatch(r"SYN-\d{4}_p\d{3}_t\d", item) for item in items.index)
    assert list(items["group_id"]) == [item.split("_")[0] for item in items.index]
    assert items["group_id"].nunique() == 4


def test_the_pages_of_a_protocol_come_in_order() -> None:
    for n in (1, 2, 3):
        places = [table.item_id for table in corpus.protocol(n, 0)]
        assert places == sorted(places)


def test_no_item_is_empty_and_no_table_is_ragged() -> None:
    for table in tables_of():
        assert len({len(row) for row in table.rows}) == 1, table.item_id
        assert len(table.rows) >= 2
        assert any(cell.strip() for row in table.rows for cell in row), table.item_id
    assert made(30).items.notna().all(axis=None)


def test_no_template_is_left_in_a_text() -> None:
    for table in tables_of():
        text = json.dumps([table.rows, table.page_text])
        assert not re.search(r"\{\^?[a-z]+\}|\{\d+-\d+\}|\{page\}", text), table.item_id


def test_every_kind_of_table_occurs() -> None:
    assert {table.kind for table in tables_of()} == {*SOE, *OTHER}
    assert set(words.SHARES) == set(OTHER)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_shares_of_the_classes_vary_by_protocol_as_real_ones_do(seed: int) -> None:
    groups: dict[str, list[bool]] = {}
    for table in tables_of(seed=seed):
        groups.setdefault(table.group_id, []).append(table.kind in SOE)
    everything = [soe for group in groups.values() for soe in group]
    shares = [sum(group) / len(group) for group in groups.values()]
    assert 1200 < len(everything) < 2400
    assert 0.11 < sum(everything) / len(everything) < 0.22
    assert min(shares) < 0.05
    assert max(shares) == 1
    assert 0.08 < median(shares) < 0.3


def test_schedules_are_wide_and_sparse_and_other_tables_are_not() -> None:
    """The bounds are wide; the real medians are 13 x 16 with 60% empty cells, and 6 x 3 with none."""
    shapes: dict[bool, list[tuple[int, int, float]]] = {True: [], False: []}
    for table in tables_of():
        cells = [cell for row in table.rows for cell in row]
        empty = sum(not cell.strip() for cell in cells) / len(cells)
        shapes[table.kind in SOE].append((len(table.rows), len(table.rows[0]), empty))
    rows, columns, empty = (median(column) for column in zip(*shapes[True], strict=True))
    assert 8 <= rows <= 18
    assert 11 <= columns <= 20
    assert 0.45 <= empty <= 0.7
    rows, columns, empty = (median(column) for column in zip(*shapes[False], strict=True))
    assert 4 <= rows <= 9
    assert 2 <= columns <= 4
    assert empty <= 0.15


def test_most_schedules_go_on_over_pages_with_and_without_their_header() -> None:
    soe = [table for table in tables_of() if table.kind in SOE]
    going_on = [table for table in soe if table.continuation]
    assert 0.4 < len(going_on) / len(soe) < 0.8
    began: set[str] = set()
    headed: Counter[bool] = Counter()
    firsts: dict[str, str] = {}
    for table in soe:
        first_row = json.dumps(table.rows[0])
        if table.continuation:
            assert table.group_id in began, f"{table.item_id} goes on from nothing"
            headed[first_row == firsts[table.group_id]] += 1
        else:
            firsts[table.group_id] = first_row
        began.add(table.group_id)
    assert min(headed[True], headed[False]) > 20


def test_marks_are_more_than_x() -> None:
    found = Counter(cell for table in tables_of() if table.kind in SOE for row in table.rows for cell in row[1:])
    assert found["X"] > max(found["•"], found["x"], found["✓"]) > 0
    glued = [cell for cell in found if re.fullmatch(r"X[a-c1-3](,[a-c1-3])?", cell)]
    assert len(glued) >= 4
    assert {"(X)", "D", "PET-CT"} <= set(found)


def test_look_alikes_have_marks_too() -> None:
    marked = {table.kind for table in tables_of() for row in table.rows for cell in row[1:] if cell in ("X", "x", "•")}
    assert {"x_grid_other", "pk_sampling_list", "treatment_schema"} <= marked


def test_amendments_quote_the_schedule() -> None:
    texts = [json.dumps(t.rows).lower() for t in tables_of() if t.kind in ("amendment", "amendment_text")]
    assert sum("schedule of a" in text for text in texts) > 20
    assert "amendment_copy" in SOE
    assert "amendment_text" in OTHER


def test_no_two_protocols_share_a_style() -> None:
    styles = [ProtocolTables(f"p{n}", Random(f"0/{n}")).style for n in range(1, 61)]
    for one, other in combinations(styles, 2):
        assert sum(getattr(one, name) != getattr(other, name) for name in words.STYLES) >= 8
    for name, options in words.STYLES.items():
        assert len({getattr(style, name) for style in styles}) > 1, f"{name} never varies"
        assert len(options) > 1


def test_a_protocol_keeps_its_drug_its_company_and_the_head_of_its_pages() -> None:
    with_head = 0
    for n in range(1, 11):
        heads = {table.page_text.split("\n")[0] for table in corpus.protocol(n, 0)}
        with_head += len(heads) == 1
    assert with_head >= 5


def test_texts_end() -> None:
    """Word lists name each other; on average a text must name less than one that names others, or it never ends."""
    at = {name: i for i, name in enumerate(words.WORDS)}
    calls = np.zeros((len(at), len(at)))
    for name, templates in words.WORDS.items():
        for template in templates:
            for called in re.findall(r"\{\^?([a-z]+)\}", template):
                if called in at:
                    calls[at[name], at[called]] += 1 / len(templates)
    assert np.abs(np.linalg.eigvals(calls)).max() < 0.9


# ------------------------------------------------------------------------------------------- views and captions


def test_the_fields_are_put_into_the_templates() -> None:
    data = made(views={"all": "{caption}|{footnotes}|{page_text}", "cells": "{cells_text}"})
    table = corpus.protocol(1, 0)[0]
    assert data.items.at[table.item_id, "all"] == f"{table.caption}|{table.footnotes}|{table.page_text}".strip()
    assert list(data.items.columns) == ["group_id", "all", "cells"]


def test_captions_say_what_the_table_is_and_stand_on_its_page() -> None:
    soe = [table for table in tables_of() if table.kind == "main" and not table.continuation]
    named = [t for t in soe if any(title.lower() in t.caption.lower() for title in words.STYLES["title"])]  # type: ignore[attr-defined]
    assert 0.6 < len(named) / len(soe) < 1
    for table in tables_of():
        assert set(filter(None, table.caption.split(" | "))) <= set(table.page_text.split("\n")), table.item_id


def test_captions_false_takes_the_caption_out_of_every_view() -> None:
    views = VIEWS | {"caption": "{caption}", "text": "{caption}\n{cells_text}"}
    shown, hidden = made(10, views=views), made(10, views=views, captions=False)
    assert hidden.items["caption"].isna().all()
    assert shown.items["caption"].notna().mean() > 0.9
    for item, caption in shown.items["caption"].dropna().items():
        lines = {" ".join(line.split()).lower() for line in caption.split(" | ")} - {""}
        left = {" ".join(line.split()).lower() for line in (hidden.items.at[item, "page"] or "").split("\n")}
        assert not lines & left, item
        assert shown.items.at[item, "text"] == f"{caption}\n{hidden.items.at[item, 'text']}".strip()
    assert_series_equal(shown.items["json"], hidden.items["json"])


# ------------------------------------------------------------------------------------------------ gold and votes


def test_gold_is_the_kind_and_stands_in_no_view() -> None:
    data = made(10, views={"all": "{cells_json} {caption} {footnotes} {page_text}"})
    kinds = {table.item_id: table.kind for table in tables_of(10)}
    assert data.gold.to_dict() == {item: "soe" if kind in SOE else "other" for item, kind in kinds.items()}
    assert data.gold.index.equals(data.items.index)
    for name in {*SOE, *OTHER} - {"main", "other", "amendment", "abbreviations", "product", "statistics", "synopsis"}:
        if "_" in name:
            assert not data.items["all"].str.contains(name, regex=False).any(), name


def test_the_expert_votes_as_gold_says_and_nobody_else_votes() -> None:
    data = made()
    assert set(data.annotations["annotator"]) == {"expert"}
    assert data.annotations.set_index("item_id")["label"].to_dict() == data.gold.to_dict()
    votes.check(data.annotations, TASK.classes, data.items.index, "test")


# ------------------------------------------------------------------------------------------- settings and yaml


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"protocols": 0}, "dataset.protocols=0: want a whole number from 1"),
        ({"protocols": "many"}, "dataset.protocols=many: want a whole number from 1"),
        ({"views": {}}, "dataset.views={}: want at least one view"),
        ({"views": {"json": "{cells}"}}, "dataset.views.json='{cells}': no field 'cells'"),
    ],
)
def test_wrong_settings_are_told_in_one_line(changed: Mapping[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        made(**changed)
    assert "\n" not in str(caught.value)


def test_another_task_is_refused() -> None:
    task = Task(name="cause", classes=["other", "cause"], positive="cause")
    with pytest.raises(UserError, match="task=cause has no 'soe'"):
        load(task, protocols=1, seed=0, captions=True, views=VIEWS)


def test_the_shipped_yaml_loads() -> None:
    dataset = yaml.safe_load((CONF / "dataset" / "synthetic_protocols.yaml").read_text(encoding="utf-8"))
    task = yaml.safe_load((CONF / "task" / "soe.yaml").read_text(encoding="utf-8"))
    data = load_data({"dataset": dataset | {"protocols": 2}, "task": task, "tracking": {"dir": "mlruns"}})
    assert list(data.items.columns) == ["group_id", "json", "text"]
    assert data.items["group_id"].nunique() == 2
