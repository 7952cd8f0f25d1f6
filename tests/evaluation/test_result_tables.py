"""Tables of a run come in parts, are read back by column, and end as one file."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from silvertune.evaluation import result_tables
from silvertune.evaluation.result_tables import ResultTables


def part(ids: str, labels: list[str | None], **columns: Any) -> pd.DataFrame:
    index = pd.Index(list(ids), name="item_id", dtype=object)
    return pd.DataFrame({"label": pd.Series(labels, index=index, dtype=object), **columns})


FIRST = part("ab", [None, None], keep=[True, False], fold=0)
SECOND = part("cb", ["cat", "other"], keep=True, fold=1)


@pytest.fixture
def tables(tmp_path: Path) -> ResultTables:
    made = ResultTables(tmp_path / "parts")
    made.add("decisions", FIRST)
    made.add("decisions", SECOND.assign(**{"score:cv": [0.5, 1.0], "prob:cat": 0.25}))
    return made


def test_parts_are_read_back_as_they_were(tables: ResultTables) -> None:
    pd.testing.assert_frame_equal(tables.read("decisions", part=0), FIRST)
    whole = tables.read("decisions")
    pd.testing.assert_frame_equal(whole.loc[["c"], ["label", "keep", "fold"]], SECOND.iloc[:1])
    assert whole.index.to_list() == list("abcb")
    assert whole["score:cv"].to_list()[2:] == [0.5, 1.0]
    assert whole["score:cv"].isna().to_list() == [True, True, False, False]


def test_columns_are_read_by_name_or_by_beginning(tables: ResultTables) -> None:
    assert list(tables.read("decisions", ["fold", "score:", "nothing"])) == ["fold", "score:cv"]
    assert tables.read("decisions", ["label"], part=1)["label"].to_list() == ["cat", "other"]


def test_parts_end_as_one_file_that_has_the_columns_of_all(tables: ResultTables, tmp_path: Path) -> None:
    tables.write("decisions", tmp_path / "decisions.parquet")
    read_back = pd.read_parquet(tmp_path / "decisions.parquet")
    expected = tables.read("decisions").reset_index()
    pd.testing.assert_frame_equal(read_back, expected.astype({"item_id": "str", "label": "str"}))


def test_a_part_is_replaced_and_its_former_file_removed(tables: ResultTables, tmp_path: Path) -> None:
    tables.replace("decisions", 0, FIRST.assign(label=["cat", None]))
    assert tables.read("decisions")["label"].to_list() == ["cat", None, "cat", "other"]
    assert len(list((tmp_path / "parts").iterdir())) == tables.count("decisions") == 2


def test_categories_of_parts_may_differ(tmp_path: Path) -> None:
    made = ResultTables(tmp_path)
    for rows in (FIRST, SECOND):
        made.add("decisions", rows.assign(label=rows["label"].astype("category")))
    made.write("decisions", tmp_path / "all.parquet")
    for table in (made.read("decisions"), pd.read_parquet(tmp_path / "all.parquet")):
        assert table["label"].isna().to_list() == [True, True, False, False]
        assert table["label"].to_list()[2:] == ["cat", "other"]


def test_a_file_has_row_groups_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_tables, "ROWS_OF_A_GROUP", 2)
    label = pd.Series([None, None, None, "cat", "other"], dtype=object)  # the first group alone would have no type
    frame = pd.DataFrame({"label": label, "confidence": [np.nan, 0.5, np.nan, 1.0, 0.25], "fold": 0})
    made = ResultTables(tmp_path)
    made.add("votes", frame)
    made.add("none", frame.iloc[:0])
    made.write("votes", tmp_path / "table.parquet")
    made.write("none", tmp_path / "empty.parquet")
    assert pq.ParquetFile(tmp_path / "table.parquet").num_row_groups == 3
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), frame.assign(label=label.astype("str")))
    assert list(pd.read_parquet(tmp_path / "empty.parquet").columns) == list(frame.columns)


def test_where_a_disk_is_full_the_next_place_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = result_tables._write_parquet

    def on_a_full_disk(table: pd.DataFrame, file: Path) -> None:
        write(table, file)
        if file.is_relative_to(tmp_path / "full"):
            raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(result_tables, "_write_parquet", on_a_full_disk)
    made = ResultTables(tmp_path / "full", tmp_path / "other")
    made.add("decisions", FIRST)
    pd.testing.assert_frame_equal(made.read("decisions"), FIRST)
    assert list((tmp_path / "full").iterdir()) == []
    with pytest.raises(OSError, match="No space left"):
        ResultTables(tmp_path / "full").add("decisions", FIRST)


def test_a_temporary_folder_goes_with_its_tables() -> None:
    made = ResultTables()
    made.add("decisions", FIRST)
    folder = Path(made._temporary.name)
    assert folder.is_dir()
    del made
    assert not folder.exists()
