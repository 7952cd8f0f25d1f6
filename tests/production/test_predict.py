"""`silvertune-predict`: a row out for each row in, whatever stops it on the way."""

import csv
import gzip
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from tests import cli, forked
from tests.production.conftest import save

from silvertune.datasets import batches
from silvertune.production import model, predict, predicting
from silvertune.schema import Task

WORDS = ["green leaf", "hot cup", "barrel price", "crude well", "black brew", "cup price leaf", "well hot"]


def write_rows(path: Path, n: int) -> Path:
    rng = random.Random(0)
    rows = [
        {"id": f"r{k}", "a": rng.choice(["", *WORDS]), "b": " ".join(rng.choices(WORDS, k=2)), "c": k} for k in range(n)
    ]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pd.DataFrame(rows).to_csv(path, index=False)
    return path


def status_of(*arguments: object) -> int | str | None:
    return cli.status_of(predict.main, *arguments)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_comes_out_for_each_row_that_goes_in(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "ROWS", 7)
    file = write_rows(tmp_path / "rows.csv", 30)
    with file.open("a") as added:
        added.write('last,,,30\n"ragged, row"\n')
    assert status_of(folder, file, "--out", tmp_path / "out.csv") == predict.BAD_ROWS
    rows = read(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == [*(f"r{k}" for k in range(30)), "last", ""]
    assert [row["status"] for row in rows] == ["ok"] * 30 + ["no_text", "bad_row"]
    assert "ragged row" in rows[-1]["reason"]
    assert {row["prob:tea"] for row in rows[-2:]} == {""}

    items = (
        pd.read_csv(file, nrows=30, keep_default_na=False)
        .set_index("id")[["a", "b"]]
        .set_axis(["json", "text"], axis=1)
    )
    wanted = model.from_folder(folder).predict(items.astype(object).where(items != "", None))
    assert [row["label"] for row in rows[:30]] == wanted["label"].tolist()
    for name in ("prob:oil", "prob:tea", "prob:json:tea", "prob:text:tea"):
        given = [float(row[name] or "nan") for row in rows[:30]]
        np.testing.assert_allclose(given, wanted[name], atol=1e-6)
    said = capsys.readouterr().out
    assert "32 rows by" in said
    assert "30 ok, 1 no_text, 1 bad_row" in said
    assert f"the first row that can't be read: {file}:33: ragged row" in said
    assert not (tmp_path / "out.csv.parts").exists()


def test_between_two_thresholds_no_label_is_given(folder: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.csv", 60)
    assert status_of(folder, file, "--out", tmp_path / "out.csv", "--abstain", 0.35, 0.6) == 0
    rows = [(float(row["prob:tea"]), row["status"], row["label"]) for row in read(tmp_path / "out.csv")]
    for value, status, label in rows:
        between = 0.35 < value < 0.6
        assert (status, label) == (("abstained", "") if between else ("ok", "tea" if value >= 0.6 else "oil"))
    assert {status for _, status, _ in rows} == {"ok", "abstained"}


def test_of_three_classes_no_label_is_given_where_none_is_probable_enough(tmp_path: Path) -> None:
    classes = ["oil", "ore", "tea"]
    model_of_three = save(tmp_path / "model", Task(name="goods", classes=classes, positive=None))
    file = write_rows(tmp_path / "rows.csv", 60)
    with file.open("a") as added:
        added.write("empty,,,\n")
    for options in ((), ("--abstain", 0.5)):
        assert status_of(model_of_three, file, "--out", tmp_path / f"{len(options)}.csv", *options) == 0
    all_labelled, rows = read(tmp_path / "0.csv"), read(tmp_path / "2.csv")
    for row, labelled in zip(rows[:60], all_labelled, strict=False):
        is_sure = max(float(row[f"prob:{name}"]) for name in classes) >= 0.5
        assert (row["status"], row["label"]) == (("ok", labelled["label"]) if is_sure else ("abstained", ""))
    assert {row["status"] for row in rows[:60]} == {"ok", "abstained"}
    assert (rows[60]["status"], rows[60]["label"]) == ("no_text", "")
    for wrong in (("0.2", "0.8"), ("1.5",)):
        said = str(status_of(model_of_three, file, "--out", tmp_path / "no.csv", "--abstain", *wrong))
        assert f"--abstain={' '.join(wrong)}: want one number from 0 to 1" in said
        assert "task 'goods' has 3 classes" in said


def test_every_form_of_output_says_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS", 7)
    file = write_rows(tmp_path / "rows.jsonl", 20)
    with file.open("a") as added:
        added.write("{bad\n")
    tables = {}
    for ending in ("csv", "csv.gz", "csv.bz2", "csv.xz", "csv.zst", "jsonl", "jsonl.gz", "parquet"):
        out = tmp_path / f"out.{ending}"
        assert status_of(folder, file, "--out", out) == predict.BAD_ROWS
        if ending == "parquet":
            tables[ending] = pq.read_table(out).to_pandas()
        else:
            reader: Callable[..., Any] = pd.read_csv if "csv" in ending else pd.read_json
            content: Any = pa.input_stream(str(out)) if ending.endswith("zst") else out
            tables[ending] = reader(content, **({} if "csv" in ending else {"lines": True}))
    for table in tables.values():
        texts = table[["id", "status", "label", "reason"]].astype(object)
        assert texts.where(texts.notna(), "").equals(tables["csv"][texts.columns].astype(object).fillna(""))
        np.testing.assert_allclose(table["prob:tea"].astype(float), tables["csv"]["prob:tea"])


def test_several_files_are_one_and_rows_without_ids_are_numbered_through(folder: Path, tmp_path: Path) -> None:
    files = [write_rows(tmp_path / name, n) for name, n in (("one.csv", 5), ("two.jsonl", 4))]
    assert status_of(folder, *files, "--out", tmp_path / "out.csv", "--id", "") == 0
    assert [row["id"] for row in read(tmp_path / "out.csv")] == [str(number) for number in range(1, 10)]


def test_columns_of_other_names_are_said(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 9)
    renamed = pd.read_csv(tmp_path / "rows.csv").rename(columns={"a": "x", "b": "y", "id": "key"})
    renamed.to_csv(tmp_path / "renamed.txt", index=False, sep=";", encoding="utf-16")
    options = ("--view", "json={x}", "--view", "text={y}", "--id", "key", "--separator", ";", "--encoding", "utf-16")
    assert status_of(folder, tmp_path / "rows.csv", "--out", tmp_path / "a.csv") == 0
    assert status_of(folder, tmp_path / "renamed.txt", "--out", tmp_path / "b.csv", "--format", "csv", *options) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


WRONG: dict[str, tuple[list[str], str]] = {
    "a model of another task": (["--task", "coffee"], "--task=coffee: {model} is a model of task 'tea'"),
    "no row of processes": (["--processes", "0"], "--processes=0: want a whole number from 1"),
    "thresholds in the wrong order": (["--abstain", "0.8", "0.2"], "--abstain=0.8 0.2: want LOW and HIGH"),
    "one threshold for two classes": (["--abstain", "0.8"], "--abstain=0.8: want LOW and HIGH from 0 to 1"),
    "a view that there isn't": (["--view", "html={a}"], "--view=html={a}: want NAME=TEMPLATE; {model} reads json"),
    "a column that there isn't": (["--view", "text={q}"], "--view text='{q}': no field 'q'; there is a, b, c, id"),
    "an id that there isn't": (["--id", "key"], "--id=key: no such column in rows.csv"),
    "an output of another kind": (["--out", "out.xlsx"], "--out=out.xlsx: want a .csv, .jsonl or .parquet file"),
    "an output that exists": (["--out", "there.csv"], "--out=there.csv: is there already; name another file"),
    "an output in no folder": (["--out", "no/out.csv"], "is no folder"),
    "an encoding that is none": (["--encoding", "utf-ate"], ": --encoding=utf-ate: no such encoding"),
    "a separator that is none": (["--separator", ";;"], ": --separator=;;: want one character"),
    "an encoding that it hasn't": (["--encoding", "ascii"], "rows.csv: line 11 is not ascii"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_line(
    folder: Path, options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.csv", 9)
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("r9,thé,,9\n")
    (tmp_path / "there.csv").write_text("mine")
    out = [] if "--out" in options else ["--out", "out.csv"]
    said = status_of(folder, "rows.csv", *out, *options)
    assert isinstance(said, str)
    assert said.startswith("silvertune-predict: ")
    assert words.replace("{model}", str(folder)) in said
    assert "\n" not in said
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "there.csv"}


def test_input_that_can_not_be_read_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", 9)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(rows.read_bytes())[:-9])
    (tmp_path / "indented.json").write_text(json.dumps({"id": "r1", "a": "cup", "b": "leaf"}, indent=1))
    wanted = {
        "no.csv": "no such file",
        "rows.csv.gz": "not a whole .gz file",
        "indented.json": "indented.json:1: not JSON (",
    }
    for file, words in ((tmp_path / name, words) for name, words in wanted.items()):
        said = status_of(folder, file, "--out", tmp_path / "out.csv")
        assert isinstance(said, str)
        assert words in said


# ------------------------------------------------------------------------------------------------ stopped on the way


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS", 10)


@pytest.fixture(scope="module")
def predicted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `rows.csv`, and what a command that nothing disturbs writes about it."""
    place = tmp_path_factory.mktemp("predicted")
    write_rows(place / "rows.csv", 100)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "ROWS", 10)
        assert status_of(folder, place / "rows.csv", "--out", place / "undisturbed.csv") == 0
    return place


@pytest.fixture
def undisturbed(predicted: Path, small: None, tmp_path: Path) -> bytes:
    shutil.copy(predicted / "rows.csv", tmp_path)
    return (predicted / "undisturbed.csv").read_bytes()


def stopping(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> list[str]:
    """Have the writing of a part fail after some; the parts that are written from here on."""
    written: list[str] = []
    real = predicting._write

    def write(*arguments: Any) -> Any:
        if len(written) == after:
            raise error
        written.append(arguments[4])
        return real(*arguments)

    monkeypatch.setattr(predicting, "_write", write)
    return written


def test_an_interrupted_command_goes_on_and_predicts_nothing_twice(
    folder: Path,
    undisturbed: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = (folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv")
    with monkeypatch.context() as patched:
        stopping(patched, 4, KeyboardInterrupt())
        assert status_of(*command) == 130
    assert not (tmp_path / "out.csv").exists()
    assert "the same command goes on" in capsys.readouterr().err
    written = stopping(monkeypatch, 99, KeyboardInterrupt())
    assert status_of(*command) == 0
    assert len(written) == 6
    assert (tmp_path / "out.csv").read_bytes() == undisturbed
    assert "60 rows in" in (said := capsys.readouterr().out)
    assert "40 rows earlier" in said


def test_what_changed_since_is_predicted_anew(
    folder: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv")
    with monkeypatch.context() as patched:
        stopping(patched, 9, KeyboardInterrupt())
        assert status_of(*command) == 130
    lines = (tmp_path / "rows.csv").read_text().splitlines(keepends=True)
    (tmp_path / "rows.csv").write_text("".join([*lines[:25], "new,green leaf,,\n", *lines[26:]]))
    written = stopping(monkeypatch, 99, KeyboardInterrupt())
    assert status_of(*command) == 0
    assert len(written) == 2  # the batch that changed, and the last one
    assert [row["id"] for row in read(tmp_path / "out.csv")][24] == "new"


@pytest.mark.parametrize("number", [28, 27])
def test_a_full_disk_is_told_and_the_command_goes_on(
    folder: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    command = (folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv")
    with monkeypatch.context() as patched:
        stopping(patched, 4, OSError(number, os.strerror(number)))
        said = status_of(*command)
    assert isinstance(said, str)
    assert "the disk is full" in said
    assert f"kept in {tmp_path / 'out.csv.parts'}" in said
    assert status_of(*command) == 0
    assert (tmp_path / "out.csv").read_bytes() == undisturbed


def test_a_command_that_was_killed_while_it_tidied_up_has_done_its_work(
    folder: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv")
    with monkeypatch.context() as patched:
        patched.setattr("silvertune.production.parts.Parts.remove", lambda parts: None)
        assert status_of(*command) == 0
    assert (tmp_path / "out.csv.parts").is_dir()
    assert status_of(*command) == 0
    assert (tmp_path / "out.csv").read_bytes() == undisturbed
    assert not (tmp_path / "out.csv.parts").exists()


@pytest.mark.parametrize("change", ["input", "model", "option", "file of the user"])
def test_an_output_of_another_command_is_not_taken_for_this_ones(
    folder: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with monkeypatch.context() as patched:  # killed between writing the output and removing the parts
        patched.setattr("silvertune.production.parts.Parts.remove", lambda parts: None)
        assert status_of(folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv") == 0
    rows, options = tmp_path / "rows.csv", list[str]()
    if change == "input":
        rows = write_rows(tmp_path / "others.csv", 12)
    elif change == "model":
        folder = save(tmp_path / "other", Task(name="tea", classes=["tea", "oil"], positive="oil"))
    elif change == "option":
        options = ["--abstain", "0.2", "0.8"]
    else:
        shutil.rmtree(tmp_path / "out.csv.parts")
    said = status_of(folder, rows, "--out", tmp_path / "out.csv", *options)
    assert (
        said == f"silvertune-predict: --out={tmp_path / 'out.csv'}: is there already; name another file, or remove it"
    )
    assert (tmp_path / "out.csv").read_bytes() == undisturbed
    (tmp_path / "out.csv").unlink()
    assert status_of(folder, rows, "--out", tmp_path / "out.csv", *options) == 0
    assert not (tmp_path / "out.csv.parts").exists()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_id_keeps_every_character(folder: Path, tmp_path: Path, form: str) -> None:
    ids = ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", "007", "-", "x\u2028x", "=1+1"]
    rows = [{"id": name, "a": "hot cup", "b": "green leaf"} for name in ids]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert status_of(folder, tmp_path / "rows.jsonl", "--out", tmp_path / f"out.{form}") == 0
    if form == "csv":
        written = read(tmp_path / "out.csv")
    else:
        written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert [row["id"] for row in written] == ids


def test_a_folder_of_the_users_own_is_not_taken_for_that_of_the_parts(folder: Path, tmp_path: Path) -> None:
    rows, kept = write_rows(tmp_path / "in.csv", 3), tmp_path / "out.csv.parts" / "mine.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    said = status_of(folder, rows, "--out", tmp_path / "out.csv")
    assert "out.csv.parts, where parts are kept, holds files of another kind" in str(said)
    assert kept.read_text() == "{}"
    assert [path.name for path in kept.parent.iterdir()] == ["mine.json"]
    kept.unlink()
    assert status_of(folder, rows, "--out", tmp_path / "out.csv") == 0
    assert not kept.parent.exists()


def test_two_commands_do_not_write_one_output(folder: Path, undisturbed: bytes, tmp_path: Path) -> None:
    (tmp_path / "out.csv.parts").mkdir()
    with FileLock(tmp_path / "out.csv.parts" / "lock"):
        said = status_of(folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv")
    assert isinstance(said, str)
    assert "another silvertune-predict is writing it" in said


def test_rows_are_predicted_where_the_summary_can_not_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_rows(tmp_path / "in.csv", 3)
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        said = status_of(folder, rows, "--out", tmp_path / "out.csv")
    assert str(said).startswith("silvertune-predict: the standard output could not be written (")
    assert len(read(tmp_path / "out.csv")) == 3


def _in_small_batches(arguments: list[str], file_size: int | None) -> None:
    batches.ROWS = 10
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    predict.main(arguments)


def process(*arguments: object, file_size: int | None = None) -> Any:
    texts = [str(argument) for argument in arguments]
    return forked.CONTEXT.Process(target=_in_small_batches, args=(texts, file_size))


def test_kill_9_loses_no_row_and_doubles_none(folder: Path, undisturbed: bytes, tmp_path: Path) -> None:
    command = (folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv")
    parts = tmp_path / "out.csv.parts"
    for wanted in (2, 5, 8):
        killed = process(*command)
        killed.start()
        while killed.is_alive() and len(list(parts.glob("*.json"))) < wanted:
            time.sleep(0.001)
        killed.kill()
        killed.join()
    last = process(*command)
    last.start()
    last.join(60)
    assert last.exitcode == 0
    assert (tmp_path / "out.csv").read_bytes() == undisturbed


def test_a_file_that_may_not_grow_is_a_full_disk(folder: Path, undisturbed: bytes, tmp_path: Path) -> None:
    limited = process(folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv", file_size=2000)
    limited.start()
    limited.join(60)
    assert limited.exitcode == 1
    assert not (tmp_path / "out.csv").exists()
    assert len(list((tmp_path / "out.csv.parts").glob("*.part"))) == 10
    assert status_of(folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_bytes() == undisturbed


COMMAND = "import sys; from silvertune.production import predict; predict.main(sys.argv[1:])"


def test_several_processes_write_what_one_writes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS", 500)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the command changes
    file = write_rows(tmp_path / "rows.csv", 2_600)
    assert status_of(folder, file, "--out", tmp_path / "one.csv") == 0
    assert status_of(folder, file, "--out", tmp_path / "two.csv", "--processes", 2) == 0
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 2])
def test_ten_kills_at_random_moments_on_100_000_rows(folder: Path, tmp_path: Path, processes: int) -> None:
    file = write_rows(tmp_path / "rows.csv", 100_000)
    assert status_of(folder, file, "--out", tmp_path / "undisturbed.csv") == 0
    arguments = [str(folder), str(file), "--out", str(tmp_path / "out.csv"), "--processes", str(processes)]
    rng = random.Random(processes)
    parts = tmp_path / "out.csv.parts"
    kept = []
    for kill in range(10):
        running = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], start_new_session=True)
        # About one part in ten is new when it is killed, at any moment of its work.
        while running.poll() is None and len(list(parts.glob("*.json"))) < kill:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.3))
        running.kill()  # the one that was started; those that it started see to themselves
        running.wait()
        if not (tmp_path / "out.csv").exists():  # else it had done its work, and tidied up
            kept.append(len(list(parts.glob("*.json"))))
    assert kept == sorted(kept)
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True)
    assert done.returncode == 0 or "is there already" in done.stderr, done.stderr
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()
    assert not parts.exists()


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys\ntry:\n    sys.argv[1:] = ['--help']; {COMMAND}\nexcept SystemExit:\n    pass\n"
    code += "print(sorted({'pandas', 'numpy', 'mlflow', 'sklearn', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "exit status: 0 all is written" in done.stdout
