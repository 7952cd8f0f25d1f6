import re
from collections.abc import Callable
from typing import Any

import pytest
from tests import made
from tests.made import changed
from tests.test_composition import base, hydra, usable

from silvertune import composition, part_inputs
from silvertune.schema import Config

__all__ = ["base", "hydra", "usable"]  # fixtures

KINDS = list(part_inputs.STAGE_OF_PART)


def test_the_documented_table_lists_every_name_at_its_stage() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \|$", part_inputs.__doc__ or "", flags=re.MULTILINE)
    assert rows == [(name, stage) for stage, names in part_inputs.KNOWN_AT.items() for name in names]


def test_every_part_of_a_run_has_a_stage() -> None:
    groups = set(Config.__dataclass_fields__)
    assert set(KINDS) <= groups
    made_of_others = {"preselect", "fallback", "evidence"}
    settings = {"task", "evaluation", "tracking", "study", "experiments", "seed", "arm", "variant", "retry_of", "mode"}
    assert groups - set(KINDS) - made_of_others - settings == {"on_error", "resume"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_may_ask_for_all_that_is_known_at_its_stage_and_before(kind: str) -> None:
    names = part_inputs.names_for(kind)
    assert names[:2] == ("task", "cache")
    assert ("votes" in names) == (kind in ("aggregation", "filter"))
    assert ("rng" in names) == (kind == "filter")
    assert len(set(names)) == len(names)


PARTS: dict[str, str] = {
    "dataset": "from silvertune.datasets import load_files\n"
    "def part(task, cache, **settings):\n    SEEN.update(task=task, cache=cache)\n"
    "    return load_files(task, **settings)\n",
    "model": "class part:\n"
    "    def __init__(self, task, cache):\n        SEEN.update(task=task, cache=cache)\n"
    "    def fit(self, train, validation, seed):\n        raise NotImplementedError\n",
    "labeler": "class part:\n"
    "    def __init__(self, task, cache, annotations, training, gold):\n"
    "        SEEN.update(task=task, cache=cache, annotations=annotations, training=training, gold=gold)\n"
    "    def label(self, items):\n        raise NotImplementedError\n"
    "    def estimate(self, items):\n        return {}\n",
    "aggregation": "from silvertune.aggregations import majority\n"
    "def part(votes, task, cache, annotations, training, gold):\n"
    "    SEEN.update(task=task, cache=cache, annotations=annotations, training=training, gold=gold)\n"
    "    return majority(votes, task)\n",
}


@pytest.mark.parametrize("kind", PARTS)
def test_the_run_fills_what_a_part_asks_for(usable: dict[str, Any], user: Callable[..., str], kind: str) -> None:
    module = user("SEEN = {}\n" + PARTS[kind])
    node = {"_target_": f"{module}.part", "_gold_": True}
    content = changed(usable, kind, {**usable[kind], **node} if kind == "dataset" else node)
    parts = composition.build(content)
    seen = __import__(module).SEEN
    assert seen["task"] == parts.task
    assert seen["cache"].name == "cache"
    if "gold" in seen:
        assert seen["gold"].equals(parts.data.gold)
        assert seen["annotations"].equals(parts.data.annotations)
        assert seen["training"].empty


@pytest.mark.parametrize(
    ("kind", "name"), [("dataset", "votes"), ("model", "annotations"), ("labeler", "labels"), ("aggregation", "rng")]
)
def test_what_is_not_known_yet_can_not_be_asked_for(
    usable: dict[str, Any], user: Callable[..., str], kind: str, name: str
) -> None:
    module = user(f"def part({name}):\n    pass\n")
    with made.refused(f"{kind}.{name}", f"a {kind} may ask the run only for task, cache"):
        composition.build(changed(usable, kind, {"_target_": f"{module}.part"}))
