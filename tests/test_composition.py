import copy
import inspect
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from omegaconf import MISSING, DictConfig, OmegaConf
from tests import made
from tests.made import changed

from silvertune import composition, identity, part_inputs
from silvertune.schema import Config, Task
from silvertune.study.job import names_of_parts

ROOT = Path(__file__).parents[1]
CONF, EXPERIMENTS = ROOT / "conf", ROOT / "experiments"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
SHIPPED = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
SOURCES = [{"path": str(CONF), "schema": "file", "provider": "main"}]


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    made_up = {"dataset=synthetic_protocols", "experiments=demo"} & set(overrides)
    path = [] if made_up else ["dataset.path=somewhere.jsonl"]
    return compose("config", overrides=[*path, *overrides], return_hydra_config=True)


def config(*overrides: str) -> dict[str, Any]:
    return composition.plain(composed(*overrides), SOURCES)


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return config("dataset=text_jsonl", "dataset.path=null", "labeler=expert", "filter=none")


@pytest.fixture
def usable(base: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A configuration that can be built: texts with gold and an expert's labels in a file of their own."""
    rows = [
        {"id": item, "text": text, "gold": label}
        for item, text, label in zip(made.items().index, made.items()["text"], made.gold(), strict=True)
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = copy.deepcopy(base)
    content["dataset"] |= {"path": str(path), "annotations": {"expert": {"column": "gold"}}}
    content["tracking"]["dir"] = str(tmp_path / "runs")
    return content


def nodes(content: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with a `_target_` inside, with the key where it stands."""
    if isinstance(content, Mapping):
        if content.get("_target_") is not None:  # null: model=none
            yield key, content
        for name, value in content.items():
            yield from nodes(value, f"{key}.{name}" if key else str(name))


# -------------------------------------------------------------------------------------------------- shipped configs


def test_every_folder_of_configs_is_a_part_of_the_schema_and_has_configs() -> None:
    assert set(GROUPS) < set(Config.__dataclass_fields__)
    assert {group for group, _ in SHIPPED} == set(GROUPS)


@pytest.mark.parametrize("number", range(max(Counter(group for group, _ in SHIPPED).values())))
def test_shipped_configs_compose_and_list_every_parameter_of_their_targets(number: int) -> None:
    # One of each group at a time, as composing takes a tenth of a second: those that have fewer begin anew.
    names = {group: [name for of, name in SHIPPED if of == group] for group in GROUPS}
    chosen = {group: names[group][number % len(names[group])] for group in GROUPS}
    content = OmegaConf.to_container(composed(*(f"{group}={name}" for group, name in chosen.items())), resolve=True)
    assert isinstance(content, dict)
    assert list(content["filter"]) == [chosen["filter"]]
    for group, name in chosen.items():
        for key, node in nodes(content[group]):
            parameters = set(inspect.signature(get_object(node["_target_"])).parameters)
            listed = {str(own) for own in node if not str(own).startswith("_")}
            filled = set(part_inputs.names_for(group if group in part_inputs.STAGE_OF_PART else "aggregation"))
            assert listed == parameters - filled, f"{group}={name}: {key}"


def test_filters_stand_under_the_names_of_their_files_so_that_chains_compose() -> None:
    names = [file.stem for file in sorted((CONF / "filter").glob("*.yaml"))]
    assert list(config(f"filter=[{','.join(names)}]")["filter"]) == names


ARMS = [
    (file.stem, str(arm), list(overrides))
    for file in sorted(EXPERIMENTS.glob("*.yaml"))
    for arm, overrides in OmegaConf.load(file).study.arms.items()
]


@pytest.mark.parametrize(("study", "arm", "fixed"), ARMS, ids=[f"{study}:{arm}" for study, arm, _ in ARMS])
def test_an_arm_of_a_shipped_study_composes_binds_and_is_named_honestly(study: str, arm: str, fixed: list[str]) -> None:
    cfg = composed(f"experiments={study}", *fixed, f"arm={arm}")
    content = composition.plain(cfg, SOURCES)
    composition.bind_filters(content["filter"], key="filter")
    names = names_of_parts(content, cfg.hydra.runtime.choices)
    assert names["arm"] == arm
    assert (names["simulated"] == "true") == ("simulated" in arm)
    assert set(content["study"]["references"]) <= set(content["study"]["arms"])


def test_the_parts_of_a_config_are_built(usable: dict[str, Any]) -> None:
    parts = composition.build(usable | {"seed": 7})
    assert parts.task == Task(**usable["task"])
    assert len(parts.data.items) == 24
    assert [bound.key for bound in parts.filters] == ["none"]
    assert (parts.preselect, parts.fallback, parts.seed) == (None, None, 7)
    assert parts.evaluation.split == "kfold"
    votes, labels = parts.labeler.annotate(parts.data.items)
    assert set(votes["annotator"]) == {"expert"}
    assert labels["label"].tolist() == made.gold().tolist()


def test_a_fallback_and_a_preselection_have_a_labeler_and_an_aggregation_of_their_own(usable: dict[str, Any]) -> None:
    source = {"labeler": usable["labeler"], "aggregation": {"_target_": "silvertune.aggregations.first"}}
    another = source | {"labeler": {**usable["labeler"], "annotators": ["exp*"]}, "keep": ["soe"]}
    parts = composition.build(usable | {"fallback": source, "preselect": another})
    assert parts.fallback is not None
    assert parts.fallback.annotate(parts.data.items)[1]["label"].tolist() == made.gold().tolist()
    assert parts.preselect is not None
    assert parts.preselect.keep == ("soe",)


# ----------------------------------------------------------------------------------------- what a user gets wrong


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("filter.none.at_leats", 1, ["filter.none.at_leats", "no such parameter", "it takes none"]),
        ("labeler.annotator", ["x"], ["labeler.annotator:", "it takes annotators, path, defer_to, first_only"]),
        ("model.c", 1, ["model.c:", "no such parameter", "C, class_weight"]),
        ("dataset.txet", 1, ["dataset.txet:", "no such parameter", "path, files, id, group"]),
        ("labeler.first_only", "no", ["labeler.first_only=no: want true or false"]),
        ("dataset.captions", "off", ["dataset.captions=off: want true or false"]),
        ("dataset.keep_copies_together", None, ["dataset.keep_copies_together=null: want true or false"]),
        ("model.min_df", 1.5, ["model.min_df=1.5: want a whole number"]),
        ("model.C", "high", ["model.C=high: want a number"]),
        ("backend.region", "eu", ["backend.region:", "no such parameter"]),
        ("aggregation.view", "json", ["aggregation.view:", "no such parameter"]),
        ("filter.none.labels", 1, ["filter.none.labels: the run fills it", "task, cache, annotations"]),
        ("labeler.task", 1, ["labeler.task: the run fills it"]),
        ("filter.none._target_", "silvertune.filters.nune", ["filter.none._target_=silvertune.filters.nune", "can't"]),
        ("labeler._target_", "no_such_module.It", ["labeler._target_=no_such_module.It", "can't be imported"]),
        ("model._target_", "silvertune.filters.__doc__", ["model._target_=", "can't be imported"]),
        ("filter.none", None, ["filter.none: names no _target_"]),
        ("labeler", "expert", ["labeler: names no _target_"]),
        ("backend", {"region": 1}, ["backend: names no _target_"]),
        ("task.classes", ["soe"], ["task.classes=['soe']", "at least two different classes"]),
        ("task.classes", ["soe", "soe"], ["task.classes=", "at least two different classes"]),
        ("task.classes", ["soe", " "], ["task.classes=['soe', ' ']", "a class without a name"]),
        ("task.positive", "SOE", ["task.positive=SOE", "want other or soe or null"]),
        ("task.descriptions", {"x": ["y"]}, ["task.descriptions.x", "want other or soe"]),
        ("task.colour", "red", ["task.colour: no such setting", "name, classes, positive"]),
        ("evaluation.fold", 3, ["evaluation.fold: no such setting", "folds"]),
        ("fallback", {"labler": {}}, ["fallback.labler: no such setting", "labeler, aggregation or budget"]),
        (
            "filter",
            {"oracle": {"_target_": "silvertune.filters.oracle"}},
            ["filter.oracle", "gold", "`_gold_: true`"],
        ),
        (
            "filter",
            {"agreement": {"_target_": "silvertune.filters.agreement", "over": "view"}},
            ["filter.agreement.at_least:", "needs it", "a filter may ask the run only for task"],
        ),
    ],
)
def test_a_config_that_can_not_be_built_is_told_in_one_line(
    usable: dict[str, Any], key: str, value: Any, told: list[str]
) -> None:
    composition.build(usable)
    with made.refused(*told):
        composition.build(changed(usable, key, value))


def test_items_are_not_preselected_by_the_labeler_that_labels_them(usable: dict[str, Any]) -> None:
    source = {"labeler": usable["labeler"], "aggregation": usable["aggregation"], "keep": ["soe"]}
    with made.refused("preselect:", "choose another"):
        composition.build(usable | {"preselect": source})


def test_classes_to_preselect_are_classes_of_the_task(usable: dict[str, Any]) -> None:
    another = {**usable["labeler"], "annotators": ["exp*"]}
    source = {"labeler": another, "aggregation": usable["aggregation"], "keep": ["yes"]}
    with made.refused("preselect.keep=['yes']", "want some of other, soe"):
        composition.build(usable | {"preselect": source})


def test_a_model_that_the_backend_can_not_tune_is_told(usable: dict[str, Any]) -> None:
    with made.refused("backend=local can't tune model", "fit(train, validation, seed)"):
        composition.build(usable | {"model": {"_target_": "silvertune.backends.Local"}})


@pytest.mark.parametrize("key", ["labeler._simulatd_", "filter.none._glod_"])
def test_a_misspelt_key_with_underscores_is_refused(usable: dict[str, Any], key: str) -> None:
    with made.refused(key, "_gold_", "_simulated_"):
        composition.build(changed(usable, key, True))


def test_a_users_filter_is_found_and_given_its_evidence(usable: dict[str, Any], user: Any) -> None:
    module = user("def short(items, labels, *, words):\n    return items['text'].str.split().str.len() < words\n")
    parts = composition.build(changed(usable, "filter", {"short": {"_target_": f"{module}.short", "words": 3}}))
    assert parts.filters[0].key == "short"
    assert parts.filters[0].needs == ("items", "labels")
    answer = parts.filters[0].function(items=parts.data.items, labels=None)
    assert not answer.any()


def test_misspelt_evidence_of_a_users_filter_is_told_with_all_there_is(usable: dict[str, Any], user: Any) -> None:
    module = user("def near(embedings, labels):\n    return labels\n")
    with made.refused("filter.near.embedings", "needs it", ", ".join(part_inputs.names_for("filter"))):
        composition.build(changed(usable, "filter", {"near": {"_target_": f"{module}.near"}}))


def test_a_module_that_raises_while_it_is_imported_is_told_in_one_line(usable: dict[str, Any], user: Any) -> None:
    module = user("raise RuntimeError('first line\\nsecond line')\n")
    with made.refused(f"filter.it._target_={module}.it", "RuntimeError: first line"):
        composition.build(changed(usable, "filter", {"it": {"_target_": f"{module}.it"}}))


def test_what_the_runs_of_a_sweep_have_in_common_is_rehearsed_once(usable: dict[str, Any], user: Any) -> None:
    module = user(
        "from silvertune.aggregations import majority\n"
        "from silvertune.errors import UserError\n"
        "calls = []\n"
        "def first(votes, task):\n"
        "    calls.append('aggregation')\n"
        "    return majority(votes, task)\n"
        "def short(labels, *, words):\n"
        "    calls.append(words)\n"
        "    if words < 0:\n"
        "        raise UserError(f'filter.short.words={words}: want words')\n"
        "    return labels['label'].notna()\n"
    )
    content = changed(usable, "aggregation", {"_target_": f"{module}.first"})
    calls, rehearsed = import_module(module).calls, set[str]()
    for words, seed in ((3, 0), (3, 1), (4, 1)):
        filters = {"short": {"_target_": f"{module}.short", "words": words}}
        composition.build(changed(content, "filter", filters) | {"seed": seed}, rehearsed)
    assert calls == ["aggregation", 3, 4]
    with made.refused("filter.short.words=-1: want words"):
        composition.build(
            changed(content, "filter", {"short": {"_target_": f"{module}.short", "words": -1}}), rehearsed
        )


def test_a_users_aggregation_may_fail_on_no_votes(usable: dict[str, Any], user: Any) -> None:
    module = user("def first(votes):\n    return votes['label'].iloc[0]\n")
    composition.build(changed(usable, "aggregation", {"_target_": f"{module}.first"}))


def test_a_users_labeler_that_asks_for_gold_has_to_say_so(usable: dict[str, Any], user: Any) -> None:
    module = user("class Cheat:\n    def __init__(self, gold):\n        self.gold = gold\n")
    node = {"_target_": f"{module}.Cheat"}
    with made.refused("labeler:", "asks for gold", "`_gold_: true`"):
        composition.build(changed(usable, "labeler", node))
    parts = composition.build(changed(usable, "labeler", node | {"_gold_": True}))
    assert parts.labeler.labeler.gold.tolist() == made.gold().tolist()  # type: ignore[attr-defined]


# -------------------------------------------------------------------------------- from the composed config to dicts


def test_a_value_that_was_not_given_is_told(base: dict[str, Any]) -> None:
    composed = compose("config", ["dataset.path=???"], return_hydra_config=True)
    with made.refused("dataset.path=???", "say dataset.path=... on the command line"):
        composition.plain(composed, SOURCES)


@pytest.mark.parametrize("key", ["dataset", "evaluation.split", "labeler.views"])
def test_a_missing_part_or_value_is_told_wherever_it_is(key: str) -> None:
    composed = compose("config", ["dataset.path=a.jsonl"], return_hydra_config=True)
    OmegaConf.update(composed, key, MISSING)
    with made.refused(f"{key}=???: no value was given"):
        composition.plain(composed, SOURCES)


def test_the_name_of_a_filter_to_be_like_stands_for_its_config() -> None:
    content = config("filter=random_matched", "filter.random_matched.like=confidence")
    assert list(content["filter"]["random_matched"]["like"]) == ["confidence"]
    assert content["filter"]["random_matched"]["like"]["confidence"]["top"] == 0.5


def test_a_list_of_filters_to_be_like_is_a_chain() -> None:
    content = config("filter=random_matched", "filter.random_matched.like=[confidence,agreement]")
    assert list(content["filter"]["random_matched"]["like"]) == ["confidence", "agreement"]


def test_an_unknown_filter_to_be_like_is_told_with_those_there_are() -> None:
    with made.refused("filter.random_matched.like=agreemnt", "no such filter", "there is agreement, all_of, any_of"):
        config("filter=random_matched", "filter.random_matched.like=agreemnt")


def test_a_control_can_be_like_a_control(usable: dict[str, Any]) -> None:
    content = config("filter=random_matched", "filter.random_matched.like=random_matched")
    inner = content["filter"]["random_matched"]["like"]["random_matched"]
    assert composition.bind_filters(inner["like"], key="filter.random_matched.like.random_matched.like")


def test_a_misspelt_parameter_under_like_is_told_before_anything_is_labelled(usable: dict[str, Any]) -> None:
    like = {"agreement": {"_target_": "silvertune.filters.agreement", "ovre": "view", "over": "view", "at_least": 1.0}}
    node = {"_target_": "silvertune.filters.random_matched", "like": like, "per_class": False}
    with made.refused("ovre", "over, at_least"):
        composition.build(changed(usable, "filter", {"random_matched": node}))


def test_filters_may_be_made_of_filters_by_name() -> None:
    content = config("filter=any_of", "filter.any_of.of=[confidence,all_of]")
    named = content["filter"]["any_of"]["of"]
    assert list(named) == ["confidence", "all_of"]
    assert list(named["all_of"]["of"]) == ["agreement", "quantile_per_class"]
    assert composition.bind_filters(content["filter"], key="filter")


def test_gold_for_calibration_is_told_wherever_the_filter_is() -> None:
    assert names("labeler=expert", "filter=conformal")["uses_gold"] == "true"
    assert names("labeler=expert", "filter=any_of", "filter.any_of.of=[conformal]")["uses_gold"] == "true"
    assert names("labeler=expert", "filter=knn_agreement")["uses_gold"] == "false"


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"items": 5}, "fallback.budget={'items': 5}: want items and audit"),
        ({"items": 0, "audit": 0.5}, "fallback.budget.items=0"),
        ({"items": 5, "audit": 2}, "fallback.budget.audit=2"),
    ],
)
def test_a_budget_that_is_none_is_told(usable: dict[str, Any], budget: dict[str, Any], told: str) -> None:
    source = {"labeler": usable["labeler"], "aggregation": usable["aggregation"], "budget": budget}
    with made.refused(told):
        composition.build(usable | {"fallback": source})


def test_a_run_without_any_filter_is_told() -> None:
    content = composed()
    OmegaConf.set_struct(content, False)
    content.filter = {}
    with made.refused("filter: names no filter", "filter=none"):
        composition.plain(content, SOURCES)


def test_values_that_are_true_and_false_keep_their_meaning(usable: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "booleans.jsonl"
    path.write_text("".join(json.dumps({"id": f"i{k}", "text": "t", "gold": bool(k % 2)}) + "\n" for k in range(4)))
    gold = {"column": "gold", "values": {True: "soe", False: "other"}}
    usable["dataset"] |= {"path": str(path), "gold": gold, "annotations": {}}
    assert composition.load_data(usable).gold.tolist() == ["other", "soe", "other", "soe"]


def test_values_may_be_words_and_numbers(usable: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps({"id": k, "text": "t", "gold": [0, "yes"][k % 2]}) + "\n" for k in range(4)))
    gold = {"column": "gold", "values": {0: "other", "yes": "soe"}}
    usable["dataset"] |= {"path": str(path), "gold": gold, "annotations": {}}
    assert composition.load_data(usable).gold.tolist() == ["other", "soe", "other", "soe"]


def test_data_that_changed_are_read_again(usable: dict[str, Any]) -> None:
    path = Path(usable["dataset"]["path"])
    assert composition.load_data(usable) is composition.load_data(usable)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:10]))
    assert len(composition.load_data(usable).items) == 10


# -------------------------------------------------------------------------------------------------------- the names


def names(*overrides: str) -> dict[str, str]:
    cfg = composed(*overrides)
    return names_of_parts(composition.plain(cfg, SOURCES), cfg.hydra.runtime.choices)


@pytest.mark.parametrize(
    ("overrides", "arm"),
    [
        (["labeler=zero_shot", "filter=agreement"], "zero_shot/agreement"),
        (["labeler=expert", "filter=[agreement,confidence]"], "expert/agreement+confidence"),
        (["labeler=expert", "filter=none", "aggregation=majority"], "expert.majority/none"),
        (["labeler=zero_shot", "filter=agreement", "fallback=expert"], "zero_shot/agreement/expert"),
        (["labeler=zero_shot", "filter=none", "arm=mine"], "mine"),
    ],
)
def test_an_arm_is_named_by_its_parts_unless_the_study_names_it(overrides: list[str], arm: str) -> None:
    assert names(*overrides)["arm"] == arm


def test_the_names_of_all_parts_are_told() -> None:
    told = names("labeler=expert", "model=none", "filter=none", "task=cause", "dataset=crowdtruth_cause")
    assert told["labeler"] == "expert"
    assert told["dataset"] == "crowdtruth_cause"
    assert told["task"] == "cause"
    assert told["backend"] == "local"
    assert told["model"] == told["fallback"] == told["preselect"] == "none"


def test_gold_and_simulation_are_told_wherever_in_the_config_they_are() -> None:
    assert names("labeler=expert", "filter=none")["uses_gold"] == "false"
    assert names("labeler=expert", "filter=oracle")["uses_gold"] == "true"
    assert names("labeler=expert", "filter=random_matched", "filter.random_matched.like=oracle")["uses_gold"] == "true"
    told = names("labeler=expert", "filter=agreement", "fallback=simulated_panel")
    assert (told["uses_gold"], told["simulated"]) == ("true", "true")


@pytest.mark.parametrize("overrides", [["labeler=simulated_panel"], ["labeler=expert", "fallback=simulated_panel"]])
def test_the_name_of_a_simulated_arm_says_so(overrides: list[str]) -> None:
    with made.refused("study.arms.hybrid", "simulated", "does not say so"):
        names(*overrides, "arm=hybrid")
    assert names(*overrides, "arm=hybrid_simulated")["arm"] == "hybrid_simulated"


def test_what_people_label_is_counted_as_theirs(usable: dict[str, Any]) -> None:
    made_by_people = {"expert", "non_expert", "simulated_panel", "answer_sheet", "label_studio"}
    for file in (CONF / "labeler").glob("*.yaml"):
        assert ("_people_: true" in file.read_text()) == (file.stem in made_by_people), file
    for name in made_by_people:
        for fallback in {name, f"budgeted_{name}"} & {file.stem for file in (CONF / "fallback").glob("*.yaml")}:
            content = config("dataset=text_jsonl", "dataset.path=null", "labeler=expert", f"fallback={fallback}")
            if "annotators" in content["fallback"]["labeler"]:
                content["fallback"]["labeler"]["annotators"] = ["expert"]
            parts = composition.build(usable | {"labeler": content["labeler"], "fallback": content["fallback"]})
            assert parts.labeler.people
            assert parts.fallback is not None
            assert parts.fallback.people, fallback
    assert not composition.build(usable | {"labeler": usable["labeler"] | {"_people_": False}}).labeler.people


def test_reading_the_data_does_not_change_the_config(usable: dict[str, Any]) -> None:
    before = copy.deepcopy(usable)
    composition.build(usable)
    identity.of(usable)
    assert usable == before
    assert isinstance(composition.load_data(usable).items, pd.DataFrame)


# ------------------------------------------------------------------------------------------ the encoder of evidence


def test_an_encoder_that_a_filter_reads_is_checked_before_anything_is_labelled(
    usable: dict[str, Any], tmp_path: Path
) -> None:
    from tests import tiny

    folder = tiny.bert(tmp_path / "tiny")
    usable["encoder"] |= {"path": str(folder), "sha256": None, "max_tokens": 65, "kept_layer": None}
    composition.build(usable)
    usable["filter"] = config("filter=knn_agreement")["filter"]
    with made.refused("encoder.max_tokens=65", f"encoder.path={folder}", "want a whole number up to 64"):
        composition.build(usable)
    usable["encoder"]["max_tokens"] = 64
    composition.build(usable)


# ------------------------------------------------------------------------------------------------------- backends

BACKEND = """
class Whole:
    def check(self, model): {check}
    def probe(self, model): return []
    def estimate(self, model, sets): return None
    def tune(self, model, sets): return iter(())
class WithoutTune:
    check = probe = estimate = Whole.check
"""


def test_a_backend_that_lacks_a_method_is_refused_before_anything_is_labelled(
    usable: dict[str, Any], user: Any
) -> None:
    module = user(BACKEND.format(check="pass"))
    composition.build(changed(usable, "backend", {"_target_": f"{module}.Whole"}))
    with made.refused(f"backend: {module}.WithoutTune has no method tune"):
        composition.build(changed(usable, "backend", {"_target_": f"{module}.WithoutTune"}))


def test_a_backend_whose_check_falls_over_is_said_in_one_line(usable: dict[str, Any], user: Any) -> None:
    module = user(BACKEND.format(check="import no_such_library_of_a_provider"))
    words = "No module named 'no_such_library_of_a_provider'"
    with made.refused(f"backend: {module}.Whole.check failed (ModuleNotFoundError: {words})"):
        composition.build(changed(usable, "backend", {"_target_": f"{module}.Whole"}))
