"""`silvertune-predict --cascade --defer-to`: who answers which row, what is asked, and what a repeated command pays."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import cli
from tests.llms.openai_double import Double, label_of, serving
from tests.models.tea_and_oil import NOTHING, training

from silvertune.datasets import batches
from silvertune.datasets.mapping import ColumnMapping
from silvertune.models.tfidf_logreg import TfidfLogreg
from silvertune.production import model, predict
from silvertune.production.parts import Parts
from silvertune.schema import Evaluation, Task
from silvertune.tracking import serving as saving

TASK = Task(
    name="tea", classes=["oil", "tea"], positive="tea", prompts={"text": "Is it about tea?"},
    answers={"tea": "YES", "oil": "NO"},
)  # fmt: skip
COLUMNS = ColumnMapping(id="id", views={"text": "{b}"})
WORDS = ["green leaf", "hot cup", "barrel price", "crude well", "black brew", "cup price leaf", "well hot"]
THRESHOLD = 0.6
N = 60
LLM = "labeler.llm.openai_compatible"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = training()
    predictor = TfidfLogreg(["text"], r"\w+", 1, 1, 500, 1.0, None, 200).fit(rows, NOTHING, 0)
    path = tmp_path_factory.mktemp("saved") / "model"
    saving.save(predictor, path, TASK, Evaluation(split="none"), 0.5, rows.head(5)[["text"]], COLUMNS)
    return path


@pytest.fixture
def double() -> Iterator[Double]:
    with serving(Double()) as server:
        yield server


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `rows.csv` (an id twice, a row without text and one that can't be read) and the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batches, "ROWS", 10)
    rng = random.Random(1)
    rows = [{"id": f"r{k}", "b": f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.choice(WORDS)}"} for k in range(N)]
    rows[7]["id"] = "r6"
    pd.DataFrame(rows).to_csv("rows.csv", index=False)
    with Path("rows.csv").open("a") as file:
        file.write('last,\n"ragged, row"\n')
    write_cascade(folder)
    return tmp_path


def write_cascade(folder: Path, **changed: Any) -> None:
    content = {"threshold": THRESHOLD, "model": "m", "model_digest": model.from_folder(folder).digest}
    Path("cascade.json").write_text(json.dumps(content | changed))


def status_of(*arguments: object) -> int | str | None:
    return cli.status_of(predict.main, *arguments)


def command(folder: Path, double: Double, out: str, *more: str) -> list[object]:
    labeler = ["labeler=openai_compatible", f"{LLM}.base_url={double.url}", f"{LLM}.model=double-1",
               f"{LLM}.price.input=1", f"{LLM}.price.output=2"]  # fmt: skip
    return [folder, "rows.csv", "--out", out, "--cascade", "cascade.json", "--defer-to", *labeler, *more]


def read(out: str) -> pd.DataFrame:
    return pd.read_csv(out, dtype=str, keep_default_na=False)


def texts() -> list[str]:
    return pd.read_csv("rows.csv", nrows=N)["b"].tolist()


def unsure(rows: pd.DataFrame) -> pd.Series:
    """Which of the first `N` rows are below the threshold, by their probabilities."""
    p = rows["prob:tea"][:N].astype(float)
    return p.where(p > 0.5, 1 - p) < THRESHOLD


def test_without_a_labeler_rows_below_the_threshold_get_no_label(
    folder: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("rows.csv", "--out")
    assert status_of(folder, *options, "plain.csv") == predict.BAD_ROWS
    assert status_of(folder, *options, "out.csv", "--cascade", "cascade.json") == predict.BAD_ROWS
    plain, rows = read("plain.csv"), read("out.csv")
    assert list(rows.columns) == ["id", "status", "label", "answered_by", "prob:oil", "prob:tea", "reason"]
    assert list(plain.columns) == [name for name in rows.columns if name != "answered_by"]
    below = unsure(rows)
    assert 10 <= below.sum() <= N - 10
    for k, is_below in enumerate(below):
        row = tuple(rows.loc[k, ["status", "label", "answered_by"]])
        assert row == (("deferred", "", "nobody") if is_below else ("ok", plain["label"][k], "model"))
    assert rows[["status", "answered_by"]][N:].to_numpy().tolist() == [["no_text", "nobody"], ["bad_row", "nobody"]]
    n = int(below.sum())
    assert f"answered by: model {N - n} ({(N - n) / (N + 2):.1%}), nobody {n + 2}" in capsys.readouterr().out
    assert status_of(folder, *options, "two.csv", "--cascade", "cascade.json", "--processes", 2) == predict.BAD_ROWS
    assert Path("two.csv").read_bytes() == Path("out.csv").read_bytes()


def test_the_labeler_answers_the_rest_and_is_asked_each_text_once(
    folder: Path, place: Path, double: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*command(folder, double, "out.csv")) == predict.BAD_ROWS
    rows = read("out.csv")
    below = unsure(rows)
    asked = {text for text, is_below in zip(texts(), below, strict=True) if is_below}
    assert double.received == sum(double.counts.values()) == len(double.counts) == len(asked) > 5
    said = {text: next(r["messages"][1]["content"] for r in double.requests if text in str(r)) for text in asked}
    for k, text in enumerate(texts()):
        if below[k]:
            label = {"YES": "tea", "NO": "oil"}[label_of(said[text])]
            assert tuple(rows.loc[k, ["status", "label", "answered_by"]]) == ("ok", label, "labeler")
        else:
            assert (rows["status"][k], rows["answered_by"][k]) == ("ok", "model")
    assert rows["id"][6] == rows["id"][7] == "r6"
    assert {"tea", "oil"} == set(rows["label"][:N][below])
    out = capsys.readouterr().out
    assert f"labeler {below.sum()} " in out
    paid = len(asked) * 110e-6
    assert f"${paid:.4f} paid by this command, ${paid:.4f} ever" in out

    assert status_of(*command(folder, double, "again.csv")) == predict.BAD_ROWS
    assert double.received == len(asked)
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()
    assert f"$0.0000 paid by this command, ${paid:.4f} ever" in capsys.readouterr().out


def test_a_command_that_was_stopped_pays_nothing_twice(
    folder: Path, place: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_of(*command(folder, double, "undisturbed.csv", "tracking.dir=other")) == predict.BAD_ROWS
    n = double.received
    real, written = Parts.write, []

    def write(self: Parts, name: str, *rest: Any) -> None:
        if len(written) == 2:  # what the third batch has asked is paid for, and not written
            raise KeyboardInterrupt
        written.append(name)
        real(self, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "write", write)
        assert status_of(*command(folder, double, "out.csv")) == 130
    assert not Path("out.csv").exists()
    assert n < double.received < 2 * n
    assert status_of(*command(folder, double, "out.csv")) == predict.BAD_ROWS
    assert double.received == 2 * n
    assert Path("out.csv").read_bytes() == Path("undisturbed.csv").read_bytes()


def test_a_used_up_budget_is_one_line_and_a_higher_one_goes_on(folder: Path, place: Path, double: Double) -> None:
    assert status_of(*command(folder, double, "undisturbed.csv", "tracking.dir=other")) == predict.BAD_ROWS
    n = double.received
    said = status_of(*command(folder, double, "out.csv", "labeler.budget_usd=0.005"))
    assert isinstance(said, str)
    assert "\n" not in said
    assert "labeler.budget_usd=0.005: $" in said
    assert not Path("out.csv").exists()
    assert n < double.received < 2 * n
    assert status_of(*command(folder, double, "out.csv", "labeler.budget_usd=1")) == predict.BAD_ROWS
    assert double.received == 2 * n
    assert Path("out.csv").read_bytes() == Path("undisturbed.csv").read_bytes()


def test_what_the_labeler_refuses_is_answered_by_nobody_and_not_paid_for_again(
    folder: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv("rows.csv", nrows=N).to_csv("rows.csv", index=False)
    double = Double(says=lambda text: "PERHAPS" if "cup" in text else label_of(text))
    with serving(double):
        assert status_of(*command(folder, double, "out.csv")) == predict.BAD_ROWS
        received = double.received
        rows = read("out.csv")
        assert status_of(*command(folder, double, "again.csv")) == predict.BAD_ROWS
    assert double.received == received
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()
    refused = unsure(rows) & pd.Series(["cup" in text for text in texts()])
    assert 0 < refused.sum() < unsure(rows).sum()
    wanted = ["no_answer", "", "nobody", "openai_compatible: parse_error"]
    columns = ["status", "label", "answered_by", "reason"]
    assert rows.loc[np.flatnonzero(refused), columns].to_numpy().tolist() == [wanted] * int(refused.sum())
    assert rows["status"][:N][~refused].eq("ok").all()
    assert "are remembered from earlier and not asked again" in capsys.readouterr().err


WRONG = {
    "a file of another model": (["--cascade", "other.json"], "other.json: was chosen for m with digest 0000"),
    "no file": (["--cascade", "gone.json"], "--cascade=gone.json: can't be read (FileNotFoundError"),
    "another file": (["--cascade", "rows.csv"], "--cascade=rows.csv: can't be read (JSONDecodeError"),
    "a threshold that is none": (["--cascade", "high.json"], "high.json: threshold=2; want a number from 0 to 1"),
    "a labeler without a cascade": (["--defer-to", "labeler=openai"], "--defer-to=labeler=openai: needs --cascade"),
    "a cascade and two thresholds": (["--cascade", "cascade.json", "--abstain", "0.2", "0.8"], "--abstain: does not"),
    "no labeler": (["--cascade", "cascade.json", "--defer-to", "labeler.repeats=2"], "names no labeler"),
    "a labeler that there isn't": (["--cascade", "cascade.json", "--defer-to", "labeler=gemni"], "gemni"),
    "another task": (["--cascade", "cascade.json", "--defer-to", "labeler=openai", "task.name=a"], "task.name=a: the"),
    **{
        f"an override of something else: {override}": (
            ["--cascade", "cascade.json", "--defer-to", "labeler=openai", override],
            f"--defer-to={override}: decides nothing here; want overrides of labeler, aggregation or tracking alone",
        )
        for override in ("mode=plan", "filter=none", "+seed=3", "~dataset.gold", "fallback/labeler=expert")
    },
    "several processes": (
        ["--processes", "2", "--cascade", "cascade.json", "--defer-to", "labeler=openai"],
        "--processes=2: with --defer-to one process asks",
    ),
    "examples of no dataset": (
        ["--cascade", "cascade.json", "--defer-to", "labeler=openai",
         "labeler.few_shot={_target_: silvertune.labelers.FewShot, annotator: expert, per_class: 2}"],
        "labeler.few_shot: takes examples from a dataset",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_line(folder: Path, place: Path, options: list[str], words: str) -> None:
    right = Path("cascade.json").read_text()
    write_cascade(folder, model_digest="0" * 64)
    Path("cascade.json").rename("other.json")
    write_cascade(folder, threshold=2)
    Path("cascade.json").rename("high.json")
    Path("cascade.json").write_text(right)
    said = status_of(folder, "rows.csv", "--out", "out.csv", *options)
    assert isinstance(said, str)
    assert said.startswith("silvertune-predict: ")
    assert words in said
    assert "\n" not in said
    assert not Path("out.csv").exists()
