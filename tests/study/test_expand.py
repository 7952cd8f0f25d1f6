"""From a command line to the jobs of a sweep."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf
from tests import made

import silvertune
from silvertune.schema import SHIPPED
from silvertune.study import expand
from silvertune.study.composing import Composer

JOBS: dict[str, list[list[str]]] = {
    "values": [["filter=confidence", f"filter.confidence.top={top}"] for top in (0.2, 0.5, "null")],
    "values that were added": [["labeler=expert", f"+dataset.annotations.more={{column: c{n}}}"] for n in range(3)],
    "values that were taken away": [["labeler=expert", "~dataset.annotations"], ["labeler=expert"]],
    "groups": [[f"filter={name}"] for name in ("none", "agreement", "[agreement,confidence]", "confidence")],
    "groups within groups": [["labeler=openai_compatible", "labeler/llm=gemini"], ["labeler=gemini"]],
    "groups in one place and values in another": [
        ["model=none", "seed=3"],
        ["seed=3", "model=minilm_lora", "model.rank=4"],
    ],
    "Hydra's own settings": [
        ["hydra.job.name=one", "seed=1"],
        ["hydra.job.name=two", "seed=1"],
        ["filter=none", "+hydra.job.env_set.A=b"],
        ["filter=none"],
    ],
    "interpolations": [["dataset.path=${oc.env:HOME}/x.jsonl", f"tracking.dir=runs{t}"] for t in (1, 2)],
}


@pytest.fixture(scope="module")
def loader() -> "Sequence[ConfigLoader]":
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(SHIPPED / "conf"), version_base="1.3"):
        return [GlobalHydra.instance().config_loader()]


@pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS.keys())
def test_jobs_that_share_their_groups_are_what_hydra_composes_one_by_one(
    loader: Sequence[ConfigLoader], jobs: list[list[str]]
) -> None:
    config = loader[0].load_configuration("config", [], RunMode.MULTIRUN)
    compose = partial(expand._compose, Composer(loader[0]), config)
    for texts in [*jobs, *jobs]:
        expected, composed = loader[0].load_sweep_config(config, texts), compose(texts)
        assert composed.hydra.runtime == expected.hydra.runtime
        assert composed.hydra.job.env_set == expected.hydra.job.env_set
        assert (composed.hydra.job.get("name"), composed.hydra.sweep.dir) == (
            expected.hydra.job.get("name"),
            expected.hydra.sweep.dir,
        )
        settings, expected_settings = OmegaConf.to_container(composed), OmegaConf.to_container(expected)
        del settings["hydra"], expected_settings["hydra"]  # type: ignore[arg-type]
        assert settings == expected_settings


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("evaluation.no_such=1", "evaluation.no_such=1: evaluation.no_such: no such setting"),
        ("filter=no_such", "filter=no_such: "),
        ("+seed=3", "+seed=3: Could not append to config. An item is already at 'seed'"),
    ],
)
def test_a_job_that_can_not_be_composed_is_told_with_its_overrides(
    loader: Sequence[ConfigLoader], text: str, told: str
) -> None:
    config = loader[0].load_configuration("config", [], RunMode.MULTIRUN)
    compose = partial(expand._compose, Composer(loader[0]), config)
    with made.refused(told):
        compose([text])


STUDY = """# @package _global_
defaults: [override /model: minilm_lora]
model: {precision: float32}
study:
  arms:
    base: [labeler=expert, filter=none, model=none]
    all: [labeler=expert, filter=none]
"""


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[expand._Composed]]:
    """The jobs of a command line in a folder with the study `mine`."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)

    def jobs_of(*arguments: str) -> list[expand._Composed]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(SHIPPED / "conf"), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            parser = OverridesParser.create(config_loader=loader)
            config = loader.load_configuration("config", [*arguments, "dataset.path=t.jsonl"], RunMode.MULTIRUN)
            return list(expand._composed(parser.parse_overrides([*arguments]), config, loader, parser))

    return jobs_of


def students(jobs: Sequence[expand._Composed]) -> dict[str, Any]:
    return {job.names["arm"]: job.config["model"] for job in jobs}


def test_what_a_study_sets_of_its_student_is_of_the_arms_that_have_one(composed: Callable[..., Any]) -> None:
    by_arm = students(composed("experiments=mine"))
    assert by_arm["base"] is None
    assert by_arm["all"]["precision"] == "float32"
    by_arm = students(composed("experiments=mine", "model=minilm_lora_all_layers", "model.rank=4"))
    assert by_arm["base"] is None
    assert (by_arm["all"]["precision"], by_arm["all"]["layers"], by_arm["all"]["rank"]) == ("float32", None, 4)


def test_a_swept_student_and_none_share_the_settings_of_the_command_line(composed: Callable[..., Any]) -> None:
    jobs = composed("labeler=expert", "filter=none", "model=none,tfidf_logreg", "model.C=2,3")
    with_student = ["expert/none/tfidf_logreg/s0/model.C=2", "expert/none/tfidf_logreg/s0/model.C=3"]
    assert sorted({job.name for job in jobs}) == ["expert/none/none/s0", *with_student]


@pytest.mark.parametrize("more", [["+model.rank=4"], ["+model.rank=4,5"]])
def test_a_setting_of_a_student_that_no_run_has_is_refused(composed: Callable[..., Any], more: list[str]) -> None:
    with made.refused("+model.rank=4: no run of this sweep has a student (model=none)"):
        composed("labeler=expert", "filter=none", "model=none", *more)


def test_the_student_of_the_evidence_is_another(composed: Callable[..., Any]) -> None:
    jobs = composed("experiments=mine", "model@evidence.student=minilm_linear_head")
    assert {job.config["evidence"]["student"]["tuning"] for job in jobs} == {"head"}


def test_jobs_that_differ_in_values_are_composed_once(
    loader: Sequence[ConfigLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = loader[0].load_configuration("config", [], RunMode.MULTIRUN)
    compositions = []
    counting = SimpleNamespace(
        load_sweep_config=lambda *asked: compositions.append(asked) or loader[0].load_sweep_config(*asked),
        get_group_options=loader[0].get_group_options,
    )
    compose = partial(expand._compose, Composer(counting), config)  # type: ignore[arg-type]
    for number in range(20):
        assert compose([f"seed={number}", "filter=none"]).seed == number
    assert len(compositions) == 1


def test_a_misspelt_view_that_the_page_with_the_items_shall_leave_out_is_refused() -> None:
    with made.refused("tracking.labels_browser.leave_out=['txt']", "no view 'txt'; there is json, text, item_id"):
        silvertune.run(
            ["dataset=synthetic_protocols", "dataset.protocols=6", "labeler=expert", "filter=none", "mode=plan",
             "tracking.labels_browser.leave_out=[txt]"]
        )  # fmt: skip


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_no_generator_takes_is_told(composed: Callable[..., list[expand._Composed]], seed: str) -> None:
    for text in (f"seed={seed}", f"seed=0,{seed}"):
        with made.refused(f"seed={seed}: want a whole number from 0 to 4294967295"):
            composed(text)
