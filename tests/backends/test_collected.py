"""What a job has left is collected, or one line says why it can't be."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests import made

from silvertune.backends import collected
from silvertune.backends.cloud_storage import CloudFolder


def left(bucket: str, content: Any) -> CloudFolder:
    """A job's folder with its result."""
    output = CloudFolder(f"{bucket}/jobs/label", "backend.service.storage")
    if content is not None:
        output.create(content if isinstance(content, bytes) else json.dumps(content).encode(), "result.json")
    return output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "job a succeeded, and there is no gs://"),
        ({"format": 99, "version": "9.9.9"}, "this version of silvertune can't read it, and 9.9.9 can"),
        ({"model": {}}, "can't read it, and an older can"),
    ],
)
def test_a_result_that_is_gone_or_of_another_version_is_told(
    bucket: str, tmp_path: Path, content: Any, words: str
) -> None:
    with made.refused(words, "silvertune-jobs forget"):
        collected.collect(left(bucket, content), [], tmp_path, "a")


def test_a_model_file_that_was_changed_is_told_and_nothing_of_it_is_kept(bucket: str, tmp_path: Path) -> None:
    output = left(bucket, None)
    output.create(b"half", f"{'0' * 64}/weights")
    result = {"format": collected.FORMAT, "model": {"weights": f"{output.url}/{'0' * 64}/weights"}, "made_in": "/x"}
    output.create(json.dumps(result).encode(), "result.json")
    with made.refused("weights: is not what the job stored"):
        collected.collect(output, [], tmp_path, "a")
    assert list((tmp_path / "vertex_job").iterdir()) == []
