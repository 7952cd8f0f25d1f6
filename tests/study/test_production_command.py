"""What a sweep prints last: the command that makes the model of its best arm."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests import cli, made
from tests.test_composition import base, composed, hydra, usable

from silvertune import composition
from silvertune.study import production_command
from silvertune.study.job import Job, names_of_parts

__all__ = ["base", "hydra", "usable"]  # fixtures

LINE = re.compile(r"^to tune (\S+) on all labels and register the model: (silvertune .*)$", re.M)


@pytest.fixture
def config(usable: dict[str, Any]) -> dict[str, Any]:
    return made.changed(usable, "task.name", "so e")


def job(config: dict[str, Any], *overrides: str, arm: str | None = None) -> Job:
    config = {**config, "arm": arm, "seed": 3}
    names = names_of_parts(config, {"labeler": "expert", "model": "tfidf_logreg"})
    return Job([*overrides, "seed=3"], config, names, "identity", composition.build(config))


def test_it_has_what_was_typed_and_what_the_best_arm_has_of_what_was_swept(config: dict[str, Any]) -> None:
    command = production_command.of(
        job(
            config, "dataset=text_jsonl", "dataset.path='my texts.jsonl'", "labeler=expert",
            "filter=[agreement,margin]", "+dataset.annotations.x={column: a}", "~dataset.annotations.y",
            "variant='dataset.page_text=b'",
            "evaluation=holdout", "evaluation.test_fraction=0.5", "evaluation.threshold=0.4", "study.seeds=4",
            "tracking.save_models=false", "resume=false", "tracking.uri=postgresql://me:secret@host/db",
        ), {},
    )  # fmt: skip
    words = shlex.split(command)
    assert words == [
        "silvertune", "dataset=text_jsonl", "dataset.path='my texts.jsonl'", "labeler=expert",
        "filter=[agreement,margin]", "+dataset.annotations.x={column: a}", "~dataset.annotations.y",
        "evaluation.threshold=0.4", "tracking.uri=postgresql://me:***@host/db", "seed=3", "evaluation=none",
        "tracking.register=so_e",
    ]  # fmt: skip
    content = composed(*(word for word in words[1:] if word[0] != "~" and "***" not in word))
    assert content.evaluation.split == "none"
    assert content.evaluation.threshold == 0.4


def test_what_was_typed_is_spelled_as_it_was_typed(config: dict[str, Any]) -> None:
    one = job(config, "labeler.llm.ollama.model=qwen3\\:8b", "labeler.views=[a,b]", "filter=none")
    typed = ["labeler.llm.ollama.model=qwen3:8b", "labeler.views=[a, b]", "filter=none,iterated"]
    words = shlex.split(production_command.of(one, {}, typed))
    assert words[1:4] == ["labeler.llm.ollama.model=qwen3:8b", "labeler.views=[a, b]", "filter=none"]


def test_of_a_study_it_names_the_arm_and_not_what_the_arm_fixes(config: dict[str, Any]) -> None:
    arms = {"strict 2": ["labeler=expert", "filter=none"]}
    one = job(config, "experiments=mine", "model=x", "labeler=expert", "filter=none", "arm='strict 2'", arm="strict 2")
    words = shlex.split(production_command.of(one, arms))
    assert words[1:5] == ["experiments=mine", "model=x", "study.only=['strict 2']", "seed=3"]


def test_a_threshold_that_needs_test_items_is_replaced(config: dict[str, Any]) -> None:
    one = job(config, "evaluation.threshold=shift_corrected")
    one.config["evaluation"] = {**one.config["evaluation"], "threshold": "shift_corrected"}
    assert "evaluation=none evaluation.threshold=0.5 tracking.register" in production_command.of(one, {})


def test_a_study_prints_it(finished: Path) -> None:
    arm, command = LINE.findall((finished / "stdout.txt").read_text())[0]
    assert command == (f"silvertune experiments=tiny 'study.only=[{arm}]' seed=0 evaluation=none tracking.register=soe")
    (page,) = re.findall(
        r"^to look at the labels of the best arm, \w+: open (\S+) in", (finished / "stdout.txt").read_text(), re.M
    )
    assert Path(page).is_file()


@pytest.mark.soak
def test_what_an_ad_hoc_sweep_prints_makes_the_model_of_its_best_arm(tmp_path: Path) -> None:
    cli.write_tables(tmp_path)
    done = cli.silvertune(
        tmp_path, "-m", "dataset.path=tables.jsonl", "labeler=recorded", "labeler.annotators=machine",
        "+dataset.annotations.machine={column: machine, confidence: sure, values: {0: other, 1: soe}}",
        "filter=none,confidence", "seed=0,1", "evaluation.folds=2",
        "evaluation.replicates=20", "tracking.save_models=false",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ((arm, command),) = LINE.findall(done.stdout)
    made_model = cli.silvertune(tmp_path, *shlex.split(command)[1:])
    assert made_model.returncode == 0, made_model.stderr
    assert "registered as models:/soe/1, now soe@champion" in made_model.stdout
    assert "the mean of 2 tested run(s) of this arm\n" in made_model.stdout
    version = cli.client(tmp_path).get_model_version_by_alias("soe", "champion")
    assert version.tags["arm"] == arm
