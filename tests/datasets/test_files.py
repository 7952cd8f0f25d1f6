"""Any JSONL, CSV or Parquet file becomes the same items, gold and annotations; what is wrong is told in one line."""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal

from silvertune.datasets import files, rows
from silvertune.datasets.files import load
from silvertune.datasets.formats import TextFormat
from silvertune.errors import UserError
from silvertune.items import Data
from silvertune.schema import Task

Content = Sequence[Mapping[str, Any]]
TASK = Task(name="pets", classes=["other", "cat"], positive="cat")
VALUES = {0: "other", 1: "cat"}
SPREADSHEET: list[dict[str, Any]] = [
    {
        "key": "t1",
        "study": "s1",
        "cells": [["Visit", "Week 1"], ["Weight", "X"]],
        "page": "Whiskers study\nTable 1\nVisit Week 1",
        "title": "Table 1",
        "notes": "X: done",
        "cat": 1,
        "clerk": 0,
        "sure": 0.25,
    },
    {
        "key": "t2",
        "study": "s2",
        "cells": [["Dose"], ["5 mg"]],
        "page": None,
        "title": None,
        "notes": None,
        "cat": 0,
        "clerk": None,
        "sure": None,
    },
]
TABLES: dict[str, Any] = {
    "files": {"train": None, "validation": None, "test": None},
    "id": "key",
    "group": "study",
    "views": {"json": "{cells_json}", "text": "{caption}\n{cells_text}\n{footnotes}", "page": "{page_text}"},
    "cells": "cells",
    "page_text": "page",
    "caption": "title",
    "footnotes": "notes",
    "captions": True,
    "gold": {"column": "cat", "values": VALUES},
    "annotations": {"clerk": {"column": "clerk", "values": VALUES, "confidence": "sure"}},
}
TEXTS: dict[str, Any] = TABLES | {
    "id": "id",
    "group": None,
    "views": {"text": "{text}"},
    "cells": None,
    "page_text": None,
    "caption": None,
    "footnotes": None,
    "gold": None,
    "annotations": {},
}


def jsonl(path: Path, content: Content) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content), encoding="utf-8")


def table(path: Path, content: Content) -> None:
    """A CSV; what is no plain value is written as JSON."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(content[0]))
        writer.writeheader()
        for row in content:
            writer.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})


def parquet(path: Path, content: Content) -> None:
    pd.DataFrame(list(content)).to_parquet(path, index=False)


WRITERS: dict[str, Callable[[Path, Content], None]] = {"jsonl": jsonl, "csv": table, "parquet": parquet}


def write(folder: Path, content: Content, ending: str = "jsonl", name: str = "items") -> str:
    path = folder / f"{name}.{ending}"
    WRITERS[ending](path, content)
    return str(path)


def read(settings: Mapping[str, Any], path: str | None, **changed: Any) -> Data:
    return load(TASK, **({**settings, "path": path} | changed))


def refused(settings: Mapping[str, Any], path: str | None, **changed: Any) -> str:
    """The message of the UserError that loading gives; one line."""
    with pytest.raises(UserError) as caught:
        read(settings, path, **changed)
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)
    return str(caught.value)


def same(one: Data, other: Data) -> None:
    assert_frame_equal(one.items, other.items)
    assert_series_equal(one.gold, other.gold)
    assert_frame_equal(one.annotations, other.annotations)


# ------------------------------------------------------------------------------------------------------ contents


def test_a_file_of_tables_becomes_items_gold_and_annotations(tmp_path: Path) -> None:
    data = read(TABLES, write(tmp_path, SPREADSHEET))
    assert data.items.index.name == "item_id"
    assert data.items["group_id"].to_dict() == {"t1": "s1", "t2": "s2"}
    assert list(data.items.columns) == ["group_id", "json", "text", "page"]
    assert json.loads(data.items.at["t1", "json"]) == {
        "0": {"0": "Visit", "1": "Weight"},
        "1": {"0": "Week 1", "1": "X"},
    }
    assert data.items.at["t1", "text"] == "Table 1\nVisit | Week 1\nWeight | X\nX: done"
    assert data.items.at["t1", "page"] == "Whiskers study\nTable 1\nVisit Week 1"
    assert data.items.at["t2", "text"] == "Dose\n5 mg"
    assert data.items.at["t2", "page"] is None
    assert data.gold.to_dict() == {"t1": "cat", "t2": "other"}
    assert data.gold.index.name == "item_id"
    assert data.partition is None
    assert len(data.annotations) == 1
    vote = data.annotations.iloc[0]
    assert (vote["item_id"], vote["annotator"], vote["view"], vote["label"]) == ("t1", "clerk", "item", "other")
    assert (vote["confidence"], vote["status"], vote["repeat"], vote["cost_usd"]) == (0.25, "ok", 0, 0.0)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_same_content_is_the_same_data_in_every_format(tmp_path: Path, ending: str) -> None:
    same(read(TABLES, write(tmp_path, SPREADSHEET)), read(TABLES, write(tmp_path, SPREADSHEET, ending)))


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_cells_in_camelots_form_are_the_same_data(tmp_path: Path, ending: str) -> None:
    by_column = [
        row
        | {
            "cells": {
                str(j): {str(i): line[j] for i, line in enumerate(row["cells"])} for j in range(len(row["cells"][0]))
            }
        }
        for row in SPREADSHEET
    ]
    same(read(TABLES, write(tmp_path, SPREADSHEET)), read(TABLES, write(tmp_path, by_column, ending, name="by_column")))


def test_cells_in_camelots_form_are_the_same_data_in_parquet(tmp_path: Path) -> None:
    rows = [{"id": "a", "cells": [["x", "y"]]}, {"id": "b", "cells": [["z"], ["w"]]}]
    by_column = [
        {"id": "a", "cells": {"0": {"0": "x"}, "1": {"0": "y"}}},
        {"id": "b", "cells": {"0": {"0": "z", "1": "w"}}},
    ]
    settings = TEXTS | {"cells": "cells", "views": {"json": "{cells_json}"}}
    same(read(settings, write(tmp_path, rows)), read(settings, write(tmp_path, by_column, "parquet", name="by_column")))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20) | st.sampled_from(
    ['say "hi"', "a\nb", "a\r\nb", "a\u2028b", "a\x85b", "a | b", ",", "{cells}", "\\", "\ufeff"]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=3), CELLS)
def test_any_cells_survive_csv_and_jsonl_into_the_same_views(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], note: str
) -> None:
    folder = tmp_path_factory.mktemp("views")
    content = [{"id": "a", "cells": cells, "note": note}]
    mapped = TEXTS | {
        "cells": "cells",
        "views": {"json": "{cells_json}", "text": "{cells_text}", "note": "<{note}>"},
    }
    one = read(mapped, write(folder, content)).items
    same(read(mapped, write(folder, content)), read(mapped, write(folder, content, "csv")))
    view = one.at["a", "json"]
    found = {} if view is None else {(i, j): cell for j, col in json.loads(view).items() for i, cell in col.items()}
    assert found == {(str(i), str(j)): c for i, row in enumerate(cells) for j, c in enumerate(row) if c.strip()}
    assert one.at["a", "note"] == (f"<{note}>" if note.strip() else None)


# --------------------------------------------------------------------------------------------------------- views


def test_a_view_is_a_template_over_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": 1, "a": "x", "b": 2}, {"id": 2, "a": None, "b": "{a}"}, {"id": 3}])
    items = read(TEXTS, path, views={"both": "{a}: {b}", "braces": "{{{a}}}", "b": "{b}"}).items
    assert items["both"].to_dict() == {"1": "x: 2", "2": ": {a}", "3": None}
    assert items["braces"].to_dict() == {"1": "{x}", "2": None, "3": None}
    assert items["b"].to_dict() == {"1": "2", "2": "{a}", "3": None}


def test_a_view_of_blanks_is_absent_and_others_are_stripped(tmp_path: Path) -> None:
    items = read(TEXTS, write(tmp_path, [{"id": 1, "text": " \n\t"}, {"id": 2, "text": "\n x \n"}])).items
    assert items["text"].to_list() == [None, "x"]


def test_captions_false_takes_the_caption_out_of_every_view(tmp_path: Path) -> None:
    path = write(tmp_path, SPREADSHEET)
    told, untold = read(TABLES, path).items, read(TABLES, path, captions=False).items
    assert "Table 1" in told.at["t1", "text"]
    assert "Table 1" in told.at["t1", "page"]
    assert untold.at["t1", "text"] == "Visit | Week 1\nWeight | X\nX: done"
    assert untold.at["t1", "page"] == "Whiskers study\nVisit Week 1"
    assert untold.at["t1", "json"] == told.at["t1", "json"]


@pytest.mark.parametrize("template", ["{title}\n{cells_text}", "{page}"])
def test_captions_false_takes_the_caption_out_of_views_of_the_raw_columns_too(tmp_path: Path, template: str) -> None:
    items = read(TABLES, write(tmp_path, SPREADSHEET), captions=False, views={"text": template}).items
    assert "Table 1" not in items.at["t1", "text"]


@pytest.mark.parametrize("template", ["{t\u00e9xt}", "{te\u0301xt}", '{"te\u0301xt"}'], ids=ascii)
def test_a_caption_is_taken_out_whatever_the_unicode_form_of_its_column(tmp_path: Path, template: str) -> None:
    rows = [{"te\u0301xt" if key == "title" else key: value for key, value in row.items()} for row in SPREADSHEET]
    for caption in ("t\u00e9xt", "te\u0301xt"):
        columns = {"caption": caption, "captions": False, "views": {"text": f"{template}\n{{cells_text}}"}}
        assert "Table 1" not in read(TABLES, write(tmp_path, rows), **columns).items.at["t1", "text"]


@pytest.mark.parametrize(
    ("name", "template", "told"),
    [
        ("text", "{txet}", ["dataset.views.text='{txet}'", "no field 'txet'", "id, text"]),
        ("text", "nothing", ["dataset.views.text='nothing'", "names no field", "id, text"]),
        ("text", "{}", ["dataset.views.text='{}'", "no field ''"]),
        ("text", "{cells_text}", ["dataset.views.text=", "no field 'cells_text'"]),
        ("text", "{text", ["dataset.views.text='{text'", "not a template", "twice"]),
        ("text", "}{text}", ["dataset.views.text=", "not a template"]),
        ("label", "{text}", ["dataset.views.label", "can't name a view", "group_id, item, item_id, weight"]),
        ("weight", "{text}", ["dataset.views.weight", "can't name a view"]),
        ("item_id", "{text}", ["dataset.views.item_id", "can't name a view"]),
        ("group_id", "{text}", ["dataset.views.group_id", "can't name a view"]),
        ("prob:soe", "{text}", ["dataset.views.prob:soe", "can't name a view"]),
        (True, "{text}", ["dataset.views=true: yaml reads YES, yes, on and true"]),
    ],
)
def test_a_bad_view_is_told_in_one_line(tmp_path: Path, name: Any, template: str, told: list[str]) -> None:
    message = refused(TEXTS, write(tmp_path, [{"id": 1, "text": "x"}]), views={name: template})
    assert all(part in message for part in told), message


@pytest.mark.parametrize("template", ["{text:.3}", "{text!r}", "{text:.>10}"])
def test_a_format_in_a_template_is_not_silently_dropped(tmp_path: Path, template: str) -> None:
    path = write(tmp_path, [{"id": 1, "text": "abcdef"}])
    try:
        shown = read(TEXTS, path, views={"text": template}).items.at["1", "text"]
    except UserError:
        return  # to refuse it would be right too
    assert shown == template.format(text="abcdef").strip()


def test_no_views_are_refused(tmp_path: Path) -> None:
    assert refused(TEXTS, write(tmp_path, [{"id": 1, "text": "x"}]), views={}).startswith("dataset.views={}: want")


# ------------------------------------------------------------------------------------------------ ids and groups


@pytest.mark.parametrize("ending", WRITERS)
def test_without_a_group_each_item_is_its_own(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path, [{"id": 7, "text": "x"}, {"id": 8, "text": "y"}], ending)
    assert read(TEXTS, path).items["group_id"].to_dict() == {"7": "7", "8": "8"}


def test_items_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": name, "text": "x"} for name in "cab"])
    assert list(read(TEXTS, path).items.index) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"id": "a"}, {"id": "b"}, {"id": "a"}], [":3: dataset.id=id", "'a'", "twice", "first at", ":1"]),
        ([{"id": 1}, {"id": "1"}], [":2: dataset.id=id", "'1'", "twice"]),
        ([{"id": 1}, {"id": None}], [":2: dataset.id=id", "no id", "None"]),
        ([{"id": 1}, {"text": "x"}], [":2: dataset.id=id", "no id"]),
        ([{"id": 1}, {"id": " "}], [":2: dataset.id=id", "no id", "' '"]),
        ([{"id": 1}, {"id": [2]}], [":2: dataset.id=id", "no id", "[2]"]),
    ],
    ids=str,
)
def test_a_bad_id_is_told_in_one_line(tmp_path: Path, content: Content, told: list[str]) -> None:
    path = write(tmp_path, [{"text": "x", **row} for row in content])
    message = refused(TEXTS, path)
    assert path in message
    assert all(part in message for part in told), message


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    train = write(tmp_path, [{"id": 1, "text": "x"}], name="train")
    test = write(tmp_path, [{"id": 2, "text": "x"}, {"id": 1, "text": "y"}], name="test")
    message = refused(TEXTS, None, files={"train": train, "test": test})
    assert message.startswith(f"{test}:2: dataset.id=id: '1' stands twice")
    assert f"first at {train}:1" in message


@pytest.mark.parametrize(
    ("ending", "line"), [("jsonl", 2), ("csv", 3), ("parquet", 2)], ids=["jsonl", "csv", "parquet"]
)
def test_an_item_without_a_group_is_told_in_one_line(tmp_path: Path, ending: str, line: int) -> None:
    path = write(tmp_path, [{"id": 1, "text": "x", "study": "s"}, {"id": 2, "text": "y", "study": None}], ending)
    message = refused(TEXTS, path, group="study")
    assert message.startswith(f"{path}:{line}: dataset.group=study: the item has no group")


@pytest.mark.parametrize("group", ["", "  ", None])
def test_a_blank_group_is_no_group(tmp_path: Path, group: str) -> None:
    path = write(tmp_path, [{"id": 1, "text": "x", "study": "s"}, {"id": 2, "text": "y", "study": group}])
    assert refused(TEXTS, path, group="study").startswith(f"{path}:2: dataset.group=study: the item has no group")


# ------------------------------------------------------------------------------------------------ separate files


def test_separate_files_say_which_part_an_item_is_of(tmp_path: Path) -> None:
    files = {
        "train": write(tmp_path, [{"id": 1, "text": "x"}, {"id": 2, "text": "y"}], name="train"),
        "validation": write(tmp_path, [{"id": 3, "text": "z"}], "csv", name="validation"),
        "test": write(tmp_path, [{"id": 4, "text": "w"}], "parquet", name="test"),
    }
    data = read(TEXTS, None, files=files)
    assert data.partition is not None
    assert data.partition.to_dict() == {"1": "train", "2": "train", "3": "validation", "4": "test"}
    assert data.items["text"].to_dict() == {"1": "x", "2": "y", "3": "z", "4": "w"}


# ------------------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"id": "kye"}, ["dataset.id=kye", "did you mean 'key'"]),
        ({"group": "stduy"}, ["dataset.group=stduy", "did you mean 'study'"]),
        ({"cells": "cell"}, ["dataset.cells=cell", "did you mean 'cells'"]),
        ({"page_text": "pages"}, ["dataset.page_text=pages", "did you mean 'page'"]),
        ({"caption": "titel"}, ["dataset.caption=titel", "did you mean 'title'"]),
        ({"footnotes": "note"}, ["dataset.footnotes=note", "did you mean 'notes'"]),
        ({"gold": {"column": "cta", "values": VALUES}}, ["dataset.gold.column=cta", "did you mean 'cat'"]),
        (
            {"annotations": {"clerk": {"column": "clrek", "values": VALUES}}},
            ["dataset.annotations.clerk.column=clrek", "did you mean 'clerk'"],
        ),
        (
            {"annotations": {"clerk": {"column": "clerk", "values": VALUES, "confidence": "suer"}}},
            ["dataset.annotations.clerk.confidence=suer", "did you mean 'sure'"],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("ending", WRITERS)
def test_a_misspelt_column_is_told_with_the_near_one(
    tmp_path: Path, ending: str, changed: dict[str, Any], told: list[str]
) -> None:
    path = write(tmp_path, SPREADSHEET, ending)
    message = refused(TABLES, path, **changed)
    assert path in message
    assert "It has cat, cells, clerk" in message
    assert all(part in message for part in told), message


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([["a", "b"], ["c"]], ["ragged", "row 1 has 1 cells", "row 0 has 2"]),
        ("Visit Week 1", ["not JSON", "list of rows"]),
        ("7", ["list of rows", "int"]),
        ([1, 2], ["list of rows"]),
        ({"0": [1]}, ["column -> {row: cell}"]),
    ],
    ids=str,
)
def test_bad_cells_are_told_in_one_line(tmp_path: Path, cells: object, told: list[str]) -> None:
    path = write(tmp_path, [SPREADSHEET[0], SPREADSHEET[1] | {"cells": cells}])
    message = refused(TABLES, path)
    assert message.startswith(f"{path}:2: dataset.cells=cells: ")
    assert all(part in message for part in told), message


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_the_digest_is_that_of_the_whole_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(files, "ROWS_AT_ONCE", rows_at_once)
    path = write(
        tmp_path, [*SPREADSHEET, {**SPREADSHEET[0], "key": "it's"}, {**SPREADSHEET[1], "key": "t3", "study": '"3'}]
    )
    data, of_rows = read(TABLES, path), rows.read(str(path), {}, TextFormat("utf-8", None)).digest
    text = f"{of_rows} {data.gold.to_dict()} {list(data.items['group_id'])}"
    assert data.digest == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_is_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, SPREADSHEET)
    one = read(TABLES, path).digest
    assert read(TABLES, path, captions=False).digest == one
    assert read(TABLES, write(tmp_path, SPREADSHEET[:1])).digest != one


# ------------------------------------------------------------------------------------------------ exports as they come


def test_an_export_with_nested_fields_is_read_by_paths(tmp_path: Path) -> None:
    content = [
        {"id": n, "data": {"text": f"text {n}", "doc": f"d{n}"}, "annotations": [{"result": [{"choices": ["cat"]}]}]}
        for n in range(2)
    ]
    (tmp_path / "export.json").write_text(json.dumps(content))
    column = "annotations.0.result.0.choices.0"
    data = read(
        TEXTS,
        tmp_path / "export.json",
        group="data.doc",
        views={"text": "{data.text}"},
        gold={"column": column},
        annotations={"ann": {"column": column}},
    )
    assert data.items["text"].to_list() == ["text 0", "text 1"]
    assert data.items["group_id"].to_list() == ["d0", "d1"]
    assert data.gold.to_list() == data.annotations["label"].to_list() == ["cat", "cat"]


ANNOTATIONS = [
    {"id": 1, "text": "a", "who": "ann", "label": "cat", "gold": "cat"},
    {"id": 1, "text": "a", "who": "bob", "label": "other", "gold": None},
    {"id": 2, "text": "b", "who": 7, "label": "cat", "gold": "other"},
    {"id": 2, "text": "b", "who": None, "label": None, "gold": "other"},
]
BY_ROW: dict[str, Any] = {"gold": {"column": "gold"}, "annotations": {"crowd": {"column": "label", "annotator": "who"}}}


def test_rows_of_one_id_are_annotations_of_one_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = read(TEXTS, write(tmp_path, ANNOTATIONS), **BY_ROW)
    assert data.items["text"].to_dict() == {"1": "a", "2": "b"}
    assert data.gold.to_dict() == {"1": "cat", "2": "other"}
    cast = data.annotations
    assert list(zip(cast["item_id"], cast["annotator"], cast["label"], strict=True)) == [
        ("1", "crowd/ann", "cat"),
        ("1", "crowd/bob", "other"),
        ("2", "crowd/7", "cat"),
    ]
    assert "4 rows are annotations of 2 items" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"text": "z"}, ["items.jsonl:2", "item '1' has another text than at", "items.jsonl:1"]),
        ({"who": "ann"}, ["items.jsonl:2", "'crowd/ann' labels item '1' twice", "items.jsonl:1"]),
        ({"who": None}, ["items.jsonl:2", "annotations.crowd.annotator=who: nobody is named who gave 'other'"]),
        ({"gold": "other"}, ["items.jsonl:2", "item '1' is 'other' here and 'cat' at", "items.jsonl:1"]),
    ],
    ids=str,
)
def test_rows_of_one_item_that_contradict_each_other_are_refused(
    tmp_path: Path, row: dict[str, Any], parts: list[str]
) -> None:
    content = [dict(entry) for entry in ANNOTATIONS]
    content[1] |= row
    message = refused(TEXTS, write(tmp_path, content), **BY_ROW)
    assert all(part in message for part in parts), message


def test_an_id_that_stands_twice_is_refused_with_the_way_to_say_that_rows_are_annotations(tmp_path: Path) -> None:
    message = refused(TEXTS, write(tmp_path, ANNOTATIONS))
    assert "'1' stands twice" in message
    assert "dataset.annotations.<name>.annotator" in message


def test_without_an_id_rows_are_numbered(tmp_path: Path) -> None:
    content = [{"text": "a"}, {"text": "b"}]
    assert read(TEXTS, write(tmp_path, content), id=None).items["text"].to_dict() == {"1": "a", "2": "b"}


def test_a_group_in_two_unicode_forms_is_one_group(tmp_path: Path) -> None:
    names = ["caf\u00e9", "cafe\u0301", "\u200bcafe\u0301 ", "cafe"]
    content = [{"id": number, "text": "x", "place": name} for number, name in enumerate(names)]
    items = read(TEXTS, write(tmp_path, content), group="place").items
    assert items["group_id"].to_list() == ["caf\u00e9"] * 3 + ["cafe"]


def test_an_annotator_in_two_unicode_forms_is_one_annotator(tmp_path: Path) -> None:
    names = ["Ren\u00e9", "Rene\u0301"]
    content = [{"id": number, "text": "x", "said": "cat", "who": name} for number, name in enumerate(names)]
    data = read(TEXTS, write(tmp_path, content), annotations={"crowd": {"column": "said", "annotator": "who"}})
    assert data.annotations["annotator"].to_list() == ["crowd/Ren\u00e9"] * 2


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"id": 5}, "dataset.id=5: want the name of a column, in quotes"),
        ({"group": False}, "dataset.group=False: want the name of a column"),
        ({"annotations": ["llm"]}, "dataset.annotations=['llm']: want {annotator: {column: ...}}"),
        ({"annotations": {"a": {"column": 2019}}}, "dataset.annotations.a.column=2019: want the name of a column"),
        ({"annotations": {"a": {"column": "id", "values": ["x"]}}}, "dataset.annotations.a.values=['x']: want {value"),
        (
            {"annotations": {"a": {"column": "id", "threshold": "0,5"}}},
            "annotations.a.threshold=0,5: want a number, such as 0.5",
        ),
    ],
    ids=str,
)
def test_a_setting_of_another_type_is_told_in_one_line(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    assert told in refused(TEXTS, write(tmp_path, [{"id": 1, "text": "x"}]), **changed)


def test_the_name_of_annotations_is_a_text_or_a_whole_number(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": 1, "text": "x", "said": "cat"}])
    assert read(TEXTS, path, annotations={7: {"column": "said"}}).annotations["annotator"].to_list() == ["7"]
    assert "dataset.annotations=false: yaml reads NO" in refused(TEXTS, path, annotations={False: {"column": "said"}})


def test_copies_share_a_group_where_it_is_said(tmp_path: Path) -> None:
    content = [{"id": 1, "text": "A cat."}, {"id": 2, "text": "a  CAT."}, {"id": 3, "text": "a dog."}]
    path = write(tmp_path, content)
    assert read(TEXTS, path).items["group_id"].to_list() == ["1", "2", "3"]
    together = read(TEXTS, path, keep_copies_together=True)
    assert together.items["group_id"].to_list() == ["1", "1", "3"]
    assert together.digest != read(TEXTS, path).digest


# ----------------------------------------------------------------------------------------------------- what is no text


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_nan_is_null_everywhere(tmp_path: Path, ending: str) -> None:
    content = [
        {"id": "a", "text": float("nan"), "gold": "cat", "clerk": "cat"},
        {"id": "b", "text": "x", "gold": float("nan"), "clerk": float("nan")},
    ]
    path = tmp_path / f"items.{ending}"
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        pd.DataFrame(content).to_parquet(path)
    data = read(TEXTS, path, gold={"column": "gold"}, annotations={"clerk": {"column": "clerk"}})
    assert data.items["text"].to_list() == [None, "x"]
    assert data.gold.to_dict() == {"a": "cat"}
    assert data.annotations["item_id"].to_list() == ["a"]


@pytest.mark.parametrize("column", ["id", "group"])
def test_an_id_or_group_of_nan_is_told_with_its_row(tmp_path: Path, column: str) -> None:
    content: list[dict[str, Any]] = [{"id": 1, "group": "g", "text": "x"}, {"id": 2, "group": "h", "text": "y"}]
    content[1][column] = float("nan")
    assert "items.jsonl:2: dataset." + column in refused(TEXTS, write(tmp_path, content), group="group")


def test_utf_8_bytes_are_text(tmp_path: Path) -> None:
    content = [{"id": b"1", "text": "caf\u00e9".encode(), "group": b"g", "gold": b"cat"}]
    pd.DataFrame(content).to_parquet(tmp_path / "items.parquet")
    data = read(TEXTS, tmp_path / "items.parquet", group="group", gold={"column": "gold"})
    assert data.items.loc["1"].to_dict() == {"group_id": "g", "text": "caf\u00e9"}
    assert data.gold.to_dict() == {"1": "cat"}


@pytest.mark.parametrize(
    ("value", "part"),
    [(["a", "b"], "a list"), ({"a": 1}, "an object"), (True, "a truth value"), ("half \ud800", "half a character")],
    ids=ascii,
)
@pytest.mark.parametrize("column", ["id", "group", "text", "clerk", "gold"])
def test_what_is_no_text_is_told_with_column_and_row(tmp_path: Path, column: str, value: object, part: str) -> None:
    content: list[dict[str, Any]] = [
        {"id": str(n), "group": "g", "text": "x", "clerk": "cat", "gold": "cat"} for n in (1, 2)
    ]
    content[1][column] = value
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    message = refused(TEXTS, path, group="group", gold={"column": "gold"}, annotations={"clerk": {"column": "clerk"}})
    assert "items.jsonl:2: " in message
    assert column in message
    if column in ("group", "text") or "half" in part:
        assert part in message
    assert message.isascii()


def test_a_column_of_another_type_that_nothing_reads_is_no_matter(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["1"], "text": ["x"], "image": [b"\xff\xd8"], "tags": [["a"]]}).to_parquet(
        tmp_path / "a.parquet"
    )
    assert read(TEXTS, tmp_path / "a.parquet").items["text"].to_list() == ["x"]


def test_undecodable_bytes_are_told_with_column_and_row(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["1", "2"], "text": [b"x", b"caf\xe9"]}).to_parquet(tmp_path / "a.parquet")
    message = refused(TEXTS, tmp_path / "a.parquet")
    assert "a.parquet:2: column 'text': holds bytes that are not UTF-8 text (0xe9 at byte 3)" in message


# ----------------------------------------------------------------------------------------------------- names of columns


@pytest.mark.parametrize(
    ("column", "template"),
    [
        ("Feedback: what went wrong?", "{Feedback: what went wrong?}"),
        ("Feedback: what went wrong?", '{"Feedback: what went wrong?"}'),
        ("What's wrong!", "{What's wrong!}"),
        ("a!r", "{a!r}"),
        ("text.body", "{text.body}"),
        ("text[0]", "{text[0]}"),
        ("my text ", "{my text }"),
        ("", '{""}'),
        ("Comment {free text}", '{"Comment {free text}"}'),
        ("Comment {free text}", "{'Comment {free text}'}"),
        ("Comment {free text}", "{Comment {{free text}}}"),
        ("{x}", '{"{x}"}'),
        ("}", '{"}"}'),
        ('say "hi"', '{say "hi"}'),
        ('say "{hi}"', "{'say \"{hi}\"'}"),
    ],
    ids=str,
)
def test_a_column_of_any_name_can_be_shown(tmp_path: Path, column: str, template: str) -> None:
    content = [{"id": 1, column: "shown", "x": "other"}]
    path = write(tmp_path, content)
    text = read(TEXTS, path, views={"text": f"<{template}> {{x}}"}).items.at["1", "text"]
    assert text == "<shown> other"


def test_a_conversion_or_format_of_a_field_is_told_as_such(tmp_path: Path) -> None:
    for template in ("{text!r}", "{text:>5}"):
        assert "leave the ':' or '!'" in refused(
            TEXTS, write(tmp_path, [{"id": 1, "text": "x"}]), views={"t": template}
        )
    message = refused(TEXTS, write(tmp_path, [{"id": 1, "a {b}": "x"}]), views={"t": "{c: d}"})
    assert "no field 'c: d'" in message
    assert '"a {b}", id' in message


@pytest.mark.parametrize("cell", [["a"], {"a": 1}, "half \ud800"], ids=ascii)
def test_a_cell_that_is_no_text_is_told_with_its_row(tmp_path: Path, cell: object) -> None:
    content = [dict(SPREADSHEET[0]), dict(SPREADSHEET[1]) | {"cells": [["Dose"], [cell]]}]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    assert "items.jsonl:2: dataset.cells=cells: row 1, cell 0: holds" in refused(TABLES, path)
