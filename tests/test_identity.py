from pathlib import Path
from typing import Any

import pytest
from tests import made
from tests.made import changed

from silvertune import identity


@pytest.fixture
def usable(tmp_path: Path) -> dict[str, Any]:
    """A resolved configuration of texts in a file of their own; nothing of it is built here."""
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"id": {i}, "text": "row{i}", "gold": "soe"}}\n' for i in range(5)))
    return {
        "task": {"name": "soe", "classes": ["other", "soe"], "positive": "soe", "descriptions": {}},
        "dataset": {"_target_": "silvertune.datasets.load_files", "path": str(path), "files": {}, "group": None},
        "preselect": None,
        "labeler": {"_target_": "silvertune.labelers.Recorded", "annotators": ["expert"], "path": None},
        "aggregation": {"_target_": "silvertune.aggregations.majority"},
        "filter": {"none": {"_target_": "silvertune.filters.none"}},
        "fallback": None,
        "model": {"_target_": "silvertune.models.TfidfLogreg", "C": 1.0},
        "backend": {"_target_": "silvertune.backends.Local"},
        "evaluation": {"split": "kfold", "folds": 5, "replicates": 10},
        "tracking": {"dir": "mlruns"},
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking", {"uri": "http://elsewhere", "dir": "/else/where", "experiment": "x", "save_models": False}),
        ("arm", "another name"),
        ("variant", "x=1"),
        ("study", {"name": "s", "arms": {"a": ["filter=none"]}, "references": ["a"], "seeds": 9}),
        ("mode", "plan"),
        ("on_error", "stop"),
        ("resume", False),
        ("retry_of", "abc"),
        ("experiments", "x"),
    ],
)
def test_what_can_not_change_the_result_does_not_change_the_identity(
    usable: dict[str, Any], key: str, value: Any
) -> None:
    assert identity.of(usable | {key: value}) == identity.of(usable)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("model.C", 2.0),
        ("model", None),
        ("labeler.annotators", ["*"]),
        ("filter", {"agreement": {"_target_": "silvertune.filters.agreement", "over": "view", "at_least": 1.0}}),
        ("evaluation.folds", 3),
        ("evaluation.replicates", 100),
        ("task.positive", None),
        ("dataset.group", "text"),
        ("aggregation._target_", "silvertune.aggregations.first"),
    ],
)
def test_what_can_change_the_result_changes_the_identity(usable: dict[str, Any], key: str, value: Any) -> None:
    assert identity.of(changed(usable, key, value)) != identity.of(usable)


LLM = {
    "_target_": "silvertune.labelers.LLMLabeler",
    "repeats": 1,
    "budget_usd": None,
    "store": {"_target_": "silvertune.labelers.StorePlace", "url": None},
    "llm": {
        "mine": {
            "_target_": "silvertune.llms.OpenAICompatible",
            "model": "m",
            "family": "mine",
            "base_url": "http://one/v1",
            "api_key_env": None,
            "limits": {"_target_": "silvertune.llms.Limits", "concurrency": 8},
        }
    },
}


@pytest.mark.parametrize("part", ["labeler", "fallback"])
@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("llm.mine.limits.concurrency", 64, True),
        ("llm.mine.base_url", "http://two/v1", True),
        ("llm.mine.api_key_env", "KEY", True),
        ("budget_usd", 5.0, True),
        ("store.url", "postgresql+pg8000://host/labels", True),
        ("llm.mine.model", "n", False),
        ("llm.mine.family", "other", False),
        ("repeats", 2, False),
    ],
)
def test_how_an_llm_is_asked_does_not_change_the_identity(
    usable: dict[str, Any], part: str, key: str, value: Any, same: bool
) -> None:
    asking = usable | {part: LLM}
    assert (identity.of(changed(asking, f"{part}.{key}", value)) == identity.of(asking)) == same


def test_the_data_count_by_their_content_and_not_by_their_place(usable: dict[str, Any], tmp_path: Path) -> None:
    before = identity.of(usable)
    moved = Path(usable["dataset"]["path"]).rename(tmp_path / "moved.jsonl")
    usable["dataset"]["path"] = str(moved)
    assert identity.of(usable) == before
    moved.write_text(moved.read_text().replace("row3", "row33"))
    assert identity.of(usable) != before


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_files_of_their_own_count_by_their_content_too(usable: dict[str, Any], tmp_path: Path, part: str) -> None:
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "validation", "test")}
    for name, file in files.items():
        file.write_text(name)
    usable["dataset"] |= {"path": None, "files": {name: str(file) for name, file in files.items()}}
    before = identity.of(usable)
    moved = files[part].rename(tmp_path / "moved.jsonl")
    usable["dataset"]["files"][part] = str(moved)
    assert identity.of(usable) == before
    moved.write_text("changed")
    assert identity.of(usable) != before


def test_a_votes_file_counts_by_its_content(usable: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("item_id,annotator,label\ni000,llm,soe\n")
    usable["labeler"]["path"] = str(path)
    before = identity.of(usable)
    path.write_text("item_id,annotator,label\ni000,llm,other\n")
    assert identity.of(usable) != before


def test_the_source_of_a_users_module_counts(usable: dict[str, Any], user: Any) -> None:
    module = user("def mine(labels):\n    return labels['label'] == 'soe'\n")
    content = changed(usable, "filter", {"mine": {"_target_": f"{module}.mine"}})
    before = identity.of(content)
    assert identity.of(content) == before
    user("def mine(labels):\n    return labels['label'] == 'other'\n")
    assert identity.of(content) != before


def test_the_source_of_a_users_module_counts_where_the_target_is_a_method(usable: dict[str, Any], user: Any) -> None:
    code = "class Mine:\n    @staticmethod\n    def make(labels):\n        return labels['label'] == '{}'\n"
    module = user(code.format("soe"))
    content = changed(usable, "filter", {"mine": {"_target_": f"{module}.Mine.make"}})
    before = identity.of(content)
    user(code.format("other"))
    assert identity.of(content) != before


def test_identity_is_a_digest_that_does_not_depend_on_the_order_of_the_keys(usable: dict[str, Any]) -> None:
    backwards = dict(reversed(usable.items()))
    assert identity.of(backwards) == identity.of(usable)
    assert len(identity.of(usable)) == 64


PART = "class Mine:\n    not_in_identity = frozenset({'speed'})\n    def __init__(self, *, speed, depth): pass\n"


@pytest.mark.parametrize(("key", "same"), [("speed", True), ("depth", False)])
def test_a_part_says_which_of_its_parameters_can_not_change_a_result(
    usable: dict[str, Any], user: Any, key: str, same: bool
) -> None:
    node = {"_target_": f"{user(PART)}.Mine", "speed": 1, "depth": 1}
    for place, content in (("model", node), ("labeler.inner", node)):
        mine = changed(usable, place, content)
        assert (identity.of(changed(mine, f"{place}.{key}", 2)) == identity.of(mine)) == same


def test_a_part_says_which_files_of_its_folder_count(usable: dict[str, Any], user: Any, tmp_path: Path) -> None:
    module = user(
        "class Mine:\n    @staticmethod\n    def files_in_identity(folder):\n        return folder.glob('*.weights')\n"
        "class Other:\n    pass\n"
    )
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.weights").write_text("1")
    mine, other = (
        changed(usable, "model", {"_target_": f"{module}.{name}", "path": str(folder)}) for name in ("Mine", "Other")
    )
    before = identity.of(mine), identity.of(other)
    (folder / "notes.md").write_text("a note")
    assert identity.of(mine) == before[0]
    assert identity.of(other) != before[1]
    (folder / "a.weights").write_text("22")
    assert identity.of(mine) != before[0]


FILTERS = (
    "def short(items): pass\ndef near(embeddings): pass\ndef sure(out_of_fold_probs): pass\n"
    "def all_of(kept_by, *, of): pass\n"
)


@pytest.mark.parametrize(
    ("name", "encoder_counts", "student_counts"), [("short", False, False), ("near", True, True), ("sure", False, True)]
)
@pytest.mark.parametrize("nested", [False, True])
def test_an_encoder_and_a_student_that_no_part_reads_do_not_count(
    usable: dict[str, Any], user: Any, name: str, encoder_counts: bool, student_counts: bool, nested: bool
) -> None:
    module = user(FILTERS)
    chain: dict[str, Any] = {"mine": {"_target_": f"{module}.{name}"}}
    if nested:
        chain = {"all": {"_target_": f"{module}.all_of", "of": chain}}
    usable |= {
        "filter": chain,
        "encoder": {"_target_": "silvertune.encoders.Encoder", "max_tokens": 256},
        "evidence": {"student": {"_target_": "silvertune.models.TfidfLogreg", "C": 1.0}, "folds": 5, "epochs": 20},
    }
    assert (identity.of(changed(usable, "encoder.max_tokens", 128)) != identity.of(usable)) == encoder_counts
    assert (identity.of(changed(usable, "evidence.student.C", 2.0)) != identity.of(usable)) == student_counts


def tuned_by(user: Any, code: str) -> dict[str, Any]:
    """A configuration whose model is the class `Mine` of the code."""
    model = {"_target_": f"{user(code)}.Mine", "speed": 1, "depth": 1}
    task = {"classes": ["other", "soe"], "descriptions": {}, "prompts": {"text": "Which is it?"}}
    return {"model": model, "backend": {"_target_": "silvertune.backends.Local"}, "task": task}


def test_a_digest_of_what_decides_a_tuning_does_not_depend_on_the_code(user: Any) -> None:
    config = tuned_by(user, PART)
    before = identity.of_tuning(config), identity.of_part(config["model"])
    user(PART + "# edited\n")
    assert identity.of_tuning(config) == before[0]
    assert identity.of_part(config["model"]) != before[1]
    assert identity.of_tuning(changed(config, "model.speed", 2)) == before[0]
    assert identity.of_tuning(changed(config, "model.depth", 2)) != before[0]
    assert identity.of_tuning(changed(config, "backend.region", "europe")) != before[0]


@pytest.mark.parametrize(("asks", "counts"), [("task", True), ("cache", False)])
@pytest.mark.parametrize("part", ["model", "model.inner", "backend"])
def test_the_task_decides_a_tuning_where_the_model_or_the_backend_asks_for_it(
    user: Any, asks: str, counts: bool, part: str
) -> None:
    config = tuned_by(user, PART + f"class Asks:\n    def __init__(self, {asks}): pass\n")
    asking = changed(config, part, {"_target_": config["model"]["_target_"].replace("Mine", "Asks")})
    other_prompts = changed(asking, "task.prompts.text", "What is it?")
    assert (identity.of_tuning(other_prompts) != identity.of_tuning(asking)) == counts


@pytest.mark.parametrize("text", ["word " * 60, "x" * 300, "a/" * 400, "\0", "~/none\ud800"])
def test_a_text_that_is_no_path_counts_as_it_is(text: str) -> None:
    assert identity.by_content({"prompt": text, "path": text}) == {"prompt": text, "path": text}


def test_a_file_that_can_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "votes.csv"
    file.write_text("id\n")

    def denied(self: Path, *arguments: object, **settings: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with made.refused(f"{file}: ", "can't be read (Permission denied)"):
        identity.by_content({"path": str(file)})


def test_a_string_in_the_place_of_a_collection_of_names_is_one_name(user: Any) -> None:
    code = "class Mine:\n    not_in_identity = 'speed'\n    def __init__(self, *, speed, pe): pass\n"
    node = {"_target_": f"{user(code)}.Mine", "speed": 1, "pe": 1}
    assert list(identity.parameters_not_in_identity(node["_target_"])) == ["speed"]
    assert identity.by_content(node) == {"_target_": node["_target_"], "pe": 1}


@pytest.mark.parametrize("name", ["path", "model", "train", "test"])
def test_the_files_of_a_folder_or_pattern_count_by_their_content(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("id\n2\n")
    for path in (str(tmp_path), str(tmp_path / "*.csv"), str(tmp_path / "**" / "[a-c].csv")):
        before = identity.by_content({name: path})
        assert "sha256:" in repr(before)
        (tmp_path / "c.csv").write_text("id\n3\n")
        assert identity.by_content({name: path}) != before
        (tmp_path / "c.csv").unlink()
        assert identity.by_content({name: path}) == before
