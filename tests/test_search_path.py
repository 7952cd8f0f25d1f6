"""The user's ./conf and ./experiments come first, and nothing beside them is a config."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf
from tests import cli, forked

from hydra_plugins.silvertune.sweeper import SilvertuneSweeper
from silvertune import composition
from silvertune.__main__ import libraries_first
from silvertune.errors import UserError
from silvertune.schema import SHIPPED

TOP = Path(__file__).resolve().parents[1]


def silvertune(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`silvertune ...` in `folder`."""
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return forked.run("silvertune.__main__", folder, arguments, environment, timeout=60)


def composed(folder: Path, *arguments: str) -> dict[str, Any]:
    """The configuration that `silvertune --cfg job ...` shows."""
    done = silvertune(folder, "--cfg", "job", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def refused(folder: Path, *arguments: str) -> str:
    """What `silvertune --cfg job ...` says as it fails; one line, and no traceback."""
    done = silvertune(folder, "--cfg", "job", *arguments)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


MINE = """# @package _global_
defaults:
  - override /filter: none
study:
  name: mine
  seeds: 3
"""
AGREEMENT = """agreement:
  _target_: my_filters.agreement
  at_least: 0.75
"""


def test_without_folders_of_the_user_the_shipped_configs_are_found(tmp_path: Path) -> None:
    found = composed(tmp_path)
    assert found["filter"]["iterated"]["_target_"] == "silvertune.filters.iterated"
    assert list(composed(tmp_path, "experiments=soe_table3")["study"]["arms"])[:2] == ["base", "all"]


def test_the_users_config_wins_over_the_shipped_one_and_the_others_stay(tmp_path: Path) -> None:
    write(tmp_path / "conf" / "filter" / "agreement.yaml", AGREEMENT)
    assert composed(tmp_path, "filter=agreement")["filter"] == {
        "agreement": {"_target_": "my_filters.agreement", "at_least": 0.75}
    }
    assert "none" in composed(tmp_path, "filter=none")["filter"]


def test_a_new_config_of_the_user_is_an_option(tmp_path: Path) -> None:
    write(tmp_path / "conf" / "filter" / "mine.yaml", AGREEMENT.replace("agreement", "mine"))
    assert list(composed(tmp_path, "filter=[agreement,mine]")["filter"]) == ["agreement", "mine"]


def test_the_users_study_is_found_and_so_are_the_shipped_ones(tmp_path: Path) -> None:
    write(tmp_path / "experiments" / "mine.yaml", MINE)
    found = composed(tmp_path, "experiments=mine")
    assert (found["study"]["name"], found["study"]["seeds"], list(found["filter"])) == ("mine", 3, ["none"])
    assert composed(tmp_path, "experiments=crowd_vs_expert")["study"]["arms"]


def test_the_users_study_wins_over_a_shipped_one_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "experiments" / "soe_table3.yaml", MINE)
    assert composed(tmp_path, "experiments=soe_table3")["study"]["name"] == "mine"


def test_the_help_offers_the_users_study_and_no_folder_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "experiments" / "mine.yaml", MINE)
    write(tmp_path / "notes" / "secret.yaml", "a: 1\n")
    write(tmp_path / "experiments" / "old" / "older.yaml", MINE)
    done = silvertune(tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    offered = next(line for line in done.stdout.splitlines() if line.startswith("experiments:"))
    shipped = [path.stem for path in (TOP / "experiments").glob("*.yaml")]
    assert offered.split(": ")[1].split(", ") == sorted([*shipped, "mine"])
    groups = {line.split(":")[0] for line in done.stdout.split("== Configuration")[0].splitlines() if ":" in line}
    assert {"filter", "labeler", "dataset", "experiments"} <= groups
    assert not {"notes", "experiments/old", "old", "conf", "src", "tests"} & groups


@pytest.mark.parametrize(
    ("group", "option"), [("notes", "secret"), ("conf/filter", "mine"), ("experiments/old", "older")]
)
def test_a_folder_beside_the_users_is_no_group(tmp_path: Path, group: str, option: str) -> None:
    write(tmp_path / "experiments" / "mine.yaml", MINE)
    write(tmp_path / "conf" / "filter" / "mine.yaml", AGREEMENT)
    for name, folder in (("secret", "notes"), ("older", "experiments/old")):
        write(tmp_path / folder / f"{name}.yaml", "# @package _global_\nseed: 77\n")
    # To Hydra it is a new key with that value, and not a config.
    found = composed(tmp_path, f"+{group}={option}")
    assert found[group] == option
    assert found["seed"] == 0
    assert "no such setting" in refused(tmp_path, f"{group}={option}")


@pytest.mark.parametrize("own", [False, True], ids=["shipped only", "own folder"])
def test_a_misspelt_study_is_an_error_that_names_it_and_what_there_is(tmp_path: Path, own: bool) -> None:
    if own:
        write(tmp_path / "experiments" / "mine.yaml", MINE)
    message = refused(tmp_path, "experiments=soe_tabel3")
    assert message.startswith("silvertune: ")
    assert "experiments/soe_tabel3" in message
    assert "soe_table3" in message.replace("soe_tabel3", "")
    assert ("mine" in message) == own


def test_a_misspelt_option_is_an_error_that_names_what_there_is(tmp_path: Path) -> None:
    message = refused(tmp_path, "filter=agreemnt")
    assert "filter/agreemnt" in message
    assert "agreement" in message


def test_a_key_that_is_no_setting_is_an_error(tmp_path: Path) -> None:
    assert "evaluation" in refused(tmp_path, "evaluation.fold=3")


def test_in_the_folder_of_the_shipped_configs_they_are_found_once() -> None:
    done = silvertune(TOP, "--info", "searchpath")
    assert done.returncode == 0, done.stderr
    assert str(TOP / "conf") in done.stdout
    assert "user" not in [cell.strip() for line in done.stdout.splitlines() for cell in line.split("|")]


# ---------------------------------------------------------------------------------- other applications of Hydra's

THEIRS = """defaults:
  - _self_
  - db: mysql
name: theirs
hydra: {sweeper: {n_trials: 9}, run: {dir: /nowhere}}
"""


def composed_here(*arguments: str) -> Any:
    """The configuration that `arguments` compose in the working directory."""
    path = create_config_search_path(str(SHIPPED / "conf"))
    return ConfigLoaderImpl(path).load_configuration("config", list(arguments), RunMode.MULTIRUN)


def test_only_groups_are_taken_from_a_conf_of_another_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config", "schema", "experiments", "filter"):
        write(tmp_path / "conf" / f"{name}.yaml", THEIRS)
    write(tmp_path / "conf" / "db" / "mysql.yaml", "host: there\n")
    write(tmp_path / "conf" / "hydra" / "config.yaml", "nothing: of ours\n")
    write(tmp_path / "conf" / "filter" / "mine.yaml", AGREEMENT)
    write(tmp_path / "experiments" / "notes.txt", "nothing")
    monkeypatch.chdir(tmp_path)
    found = composed_here("filter=mine", "dataset=text_jsonl")
    assert "name" not in found
    assert found.dataset.id == "id"
    assert found.hydra.sweep.dir == "mlruns/logs"
    assert list(found.filter) == ["agreement"]


def test_filters_of_the_users_are_found_by_the_names_in_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "conf" / "filter" / "mine.yaml", AGREEMENT.replace("agreement", "mine"))
    monkeypatch.chdir(tmp_path)
    found = composed_here("filter=random_matched", "filter.random_matched.like=mine", "dataset.path=x", "seed=1")
    setup_globals()
    plain = composition.plain(found, found.hydra.runtime.config_sources)
    assert "mine" in plain["filter"]["random_matched"]["like"]


def test_a_config_that_was_edited_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for at_least in (0.75, 0.875, "{a: 1}"):
        write(tmp_path / "conf" / "filter" / "mine.yaml", AGREEMENT.replace("0.75", str(at_least)))
        found = composed_here("filter=mine", "dataset.path=x")
        assert found.filter.agreement.at_least == yaml.safe_load(str(at_least))
    found.filter.agreement.at_least.a = 2  # which no later composition sees
    assert composed_here("filter=mine", "dataset.path=x").filter.agreement.at_least.a == 1


def test_codes_that_yaml_reads_as_other_numbers_are_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = ["010", "007", "0x1F", "0b11", "1:30", "08", "-012"]
    text = "# 010\nname: codes\nclasses: [" + ", ".join([*codes, "'020'", "10", "+1", "a:010"]) + "]\n"
    write(tmp_path / "conf" / "task" / "codes.yaml", text + "positive: 010\nanswers: {010: 1:30}\n")
    monkeypatch.chdir(tmp_path)
    task = composed_here("task=codes", "dataset.path=x").task
    assert list(task.classes) == [*codes, "020", 10, 1, "a:010"]
    assert task.positive == "010"
    assert dict(task.answers) == {"010": "1:30"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: t\nclasses: [été, soe]\n".encode("cp1252"), r"codes.yaml: line 2 is not UTF-8 \(byte 0xe9\); save"),
        ("name: t\n".encode("utf-16"), r"codes.yaml: line 1 is not UTF-8 \(byte 0xff\); save"),
    ],
    ids=["cp1252", "utf-16"],
)
def test_a_config_that_is_not_utf_8_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    write(tmp_path / "conf" / "task" / "codes.yaml", "")
    (tmp_path / "conf" / "task" / "codes.yaml").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        composed_here("task=codes", "dataset.path=x")


def test_a_default_that_names_another_choice_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "conf" / "dataset" / "mine.yaml", "defaults: [tables_jsonl, {/filter@also: '${filter}'}]\n")
    monkeypatch.chdir(tmp_path)
    assert composed_here("dataset=mine", "filter=none", "dataset.path=x").dataset.also.none._target_.endswith("none")


@pytest.mark.parametrize("theirs", ["conf", "configs"])
def test_in_another_application_nothing_of_ours_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """Its folders are called as ours are."""
    for group in ("conf/evaluation", "experiments", "conf/filter"):
        write(tmp_path / group / "one.yaml", "a: 1\n")
    write(tmp_path / theirs / "config.yaml", "b: 2\n")
    monkeypatch.chdir(tmp_path)
    path = create_config_search_path(str(tmp_path / theirs))
    assert [element.provider for element in path.get_path()] == ["hydra", "main", "schema"]
    loader = ConfigLoaderImpl(path)
    assert "silvertune" not in loader.get_group_options("hydra/sweeper")
    assert loader.load_configuration("config", [], RunMode.RUN).b == 2


def test_a_launcher_of_another_application_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "conf" / "hydra" / "launcher" / "theirs.yaml", "_target_: theirs.Launcher\n")
    done = silvertune(tmp_path, "dataset.path=x", "hydra/launcher=theirs")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "silvertune: hydra/launcher=theirs: no launcher that can be used here (Invalid plugin"
    )
    assert len(done.stderr.splitlines()) == 1


def test_our_sweeper_refuses_to_work_for_another_application() -> None:
    sweeper = SilvertuneSweeper.__new__(SilvertuneSweeper)
    with pytest.raises(UserError, match="for silvertune alone"):
        sweeper.setup(hydra_context=None, task_function=lambda cfg: None, config=OmegaConf.create())  # type: ignore


# ------------------------------------------------------------------------------------------- names like a library's


def test_scripts_of_the_users_that_are_called_like_libraries_are_not_imported_in_their_place(tmp_path: Path) -> None:
    names = (
        "mlflow",
        "sklearn",
        "statistics",
        "torch",
        "yaml",
        "hydra",
        "rich",
        "pandas",
        "random",
        "hashlib",
        "joblib",
    )
    for name in names:
        write(tmp_path / f"{name}.py", f"raise SystemExit('{name}.py of the user was imported')\n")
    write(tmp_path / "mine.py", "def mine(labels):\n    return labels['label'].notna()\n")
    write(tmp_path / "conf" / "filter" / "mine.yaml", "mine: {_target_: mine.mine}\n")
    cli.write_tables(tmp_path)
    done = silvertune(
        tmp_path, "dataset.path=tables.jsonl", "labeler=expert", "filter=mine", "model=tfidf_logreg", "mode=plan"
    )
    assert done.returncode == 0, done.stderr
    assert "expert/mine" in done.stdout


def test_the_working_directory_comes_last_here_and_in_processes_started_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "/lib"])
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    libraries_first()
    assert sys.path == ["/lib", str(tmp_path)]
    write(tmp_path / "statistics.py", "raise SystemExit('imported')\n")
    subprocess.run([sys.executable, "-c", "import statistics"], check=True)
