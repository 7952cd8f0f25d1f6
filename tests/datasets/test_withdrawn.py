"""Labels that an export still holds although they were taken back."""

import json
from pathlib import Path
from typing import Any

import pytest

from silvertune.datasets import notices, rows
from silvertune.datasets.label_columns import annotations_of, gold_of
from silvertune.schema import Task

TASK = Task(name="pets", classes=["other", "cat"], positive="cat")


def prodigy(answer: str | None) -> Any:
    return {"accept": ["cat"], "answer": answer}


def argilla(status: str | None) -> Any:
    return {"responses": {"pet": [{"value": "cat", "status": status}]}}


def label_studio(was_cancelled: bool) -> Any:
    return {"annotations": [{"was_cancelled": was_cancelled, "result": [{"value": {"choices": ["cat"]}}]}]}


EXPORTS = {
    "Prodigy, one label": (
        "label",
        [{"label": "cat", "_input_hash": 7, "answer": word} for word in ("accept", "reject", "ignore", None)],
    ),
    "Prodigy": ("accept", [prodigy("accept"), prodigy("reject"), prodigy("ignore"), prodigy(None)]),
    "Argilla": ("responses.pet.0.value", [argilla("submitted"), argilla("discarded"), argilla("draft"), argilla(None)]),
    "Label Studio": (
        "annotations.0.result.0.value.choices",
        [
            label_studio(False),
            label_studio(True),
            label_studio(True),
            {"annotations": label_studio(False)["annotations"]},
        ],
    ),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_a_label_that_was_taken_back_is_none(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    column, content = EXPORTS[name]
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    read, ids = rows.read(str(path), {}), ["0", "1", "2", "3"]
    notices.say.cache_clear()
    assert annotations_of({"clerk": {"column": column}}, read, ids, TASK)["item_id"].to_list() == ["0", "3"]
    told = capsys.readouterr().err
    assert f"dataset.annotations.clerk.column={column}: 2 labels that were taken back are left out (" in told
    assert gold_of({"column": column}, read, ids, TASK).to_dict() == {"0": "cat", "3": "cat"}


def test_a_column_that_is_only_called_like_a_mark_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(
        "".join(json.dumps({"said": "cat", "answer": word, "status": word}) + "\n" for word in ("reject", "draft"))
    )
    read = rows.read(str(path), {})
    assert len(annotations_of({"clerk": {"column": "said"}}, read, ["0", "1"], TASK)) == 2
    assert capsys.readouterr().err == ""
