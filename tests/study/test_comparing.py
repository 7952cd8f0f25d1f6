"""What the end of a sweep says."""

from types import SimpleNamespace
from typing import Any

import pytest

from silvertune.study import comparing


def run(**ran_on: str) -> Any:
    return SimpleNamespace(data=SimpleNamespace(tags={f"tuned_on.{name}": value for name, value in ran_on.items()}))


def test_it_says_what_networks_were_tuned_on() -> None:
    runs = [run(), run(precision="bfloat16", device="cpu"), run(precision="bfloat16", device="cpu")]
    (line,) = comparing._tuned_on(runs)
    assert line.startswith("networks tuned in bfloat16 on cpu: another precision or device gives other figures")


@pytest.mark.parametrize(
    "other", [{"precision": "float32", "device": "cpu"}, {"precision": "bfloat16", "device": "cuda NVIDIA H200"}]
)
def test_it_says_where_runs_of_a_study_differ_in_it(other: dict[str, str]) -> None:
    (line,) = comparing._tuned_on([run(precision="bfloat16", device="cpu"), run(**other)])
    assert other["precision"] in line
    assert other["device"] in line
    assert "not comparable to the last digit" in line


def test_it_says_nothing_where_no_network_was_tuned() -> None:
    assert comparing._tuned_on([run(), run()]) == []
