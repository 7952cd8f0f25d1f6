"""A run is FINISHED, FAILED or KILLED, and what it logs can be read again."""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from silvertune.evaluation import findings, label_quality, metrics
from silvertune.evaluation.result_tables import ResultTables
from silvertune.evaluation.students import Student
from silvertune.interfaces import Tuned
from silvertune.items import Data
from silvertune.reports import label_figures
from silvertune.runner import Result
from silvertune.schema import Task
from silvertune.tracking import processes, runs, store
from silvertune.votes import table

PETS = Task(name="pets", classes=["other", "cat"], positive="cat")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowClient, str]:
    return store.prepare({"uri": None, "dir": str(tmp_path_factory.mktemp("mlruns"))}, "study")


@pytest.fixture
def client(prepared: tuple[MlflowClient, str]) -> MlflowClient:
    return prepared[0]


@pytest.fixture
def run(prepared: tuple[MlflowClient, str]) -> str:
    """The id of a run that is under way."""
    return str(prepared[0].create_run(prepared[1]).info.run_id)


def text(client: MlflowClient, run: str, artifact: str, folder: Path) -> str:
    return Path(client.download_artifacts(run, artifact, str(folder))).read_text(encoding="utf-8")


def tracking(client: MlflowClient) -> dict[str, Any]:
    """The configuration's `tracking` of the store that the client is of."""
    return {"uri": None, "dir": client.tracking_uri.removeprefix("sqlite:///").removesuffix("/mlflow.db")}


def opened(prepared: tuple[MlflowClient, str], error: BaseException | None, parent: str | None = None) -> Run:
    """A run that was left with `error`."""
    client, experiment = prepared
    seen: list[str] = []

    def enter() -> None:
        with runs.open_run(client, experiment, "all/m/s0", {"arm": "all"}, parent, tracking(client)) as run_id:
            seen.append(run_id)
            assert client.get_run(run_id).info.status == "RUNNING"
            if error is not None:
                raise error

    if error is None:
        enter()
    else:
        with pytest.raises(type(error)) as raised:
            enter()
        assert raised.value is error  # it comes through as it was
    return client.get_run(seen[0])


# -------------------------------------------------------------------------------------------------------- open_run


def test_a_run_that_is_left_is_finished(prepared: tuple[MlflowClient, str]) -> None:
    run = opened(prepared, None)
    assert run.info.status == "FINISHED"
    assert run.info.end_time is not None
    assert run.info.run_name == "all/m/s0"
    assert "error" not in run.data.tags
    assert [found.path for found in prepared[0].list_artifacts(run.info.run_id)] == []


def test_a_run_that_raises_has_failed_with_its_traceback(prepared: tuple[MlflowClient, str], tmp_path: Path) -> None:
    run = opened(prepared, ValueError("no such\n  table"))
    assert run.info.status == "FAILED"
    assert run.info.end_time is not None
    assert run.data.tags["error"].startswith("ValueError: no such table (test_runs.py:")
    trace = text(prepared[0], run.info.run_id, "traceback.txt", tmp_path)
    assert trace.startswith("Traceback (most recent call last)")
    assert "ValueError: no such" in trace
    assert "raise error" in trace


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["interrupt", "exit"])
def test_a_run_that_is_interrupted_is_killed(
    prepared: tuple[MlflowClient, str], error: BaseException, tmp_path: Path
) -> None:
    run = opened(prepared, error)
    assert run.info.status == "KILLED"
    assert run.data.tags["error"]
    assert type(error).__name__ in text(prepared[0], run.info.run_id, "traceback.txt", tmp_path)


def test_an_error_without_words_is_called_by_its_kind(prepared: tuple[MlflowClient, str]) -> None:
    assert opened(prepared, RuntimeError()).data.tags["error"].startswith("RuntimeError (test_runs.py:")
    assert opened(prepared, KeyboardInterrupt()).data.tags["error"].startswith("KeyboardInterrupt (")


def test_a_very_long_error_is_cut_in_the_tag_and_whole_in_the_traceback(
    prepared: tuple[MlflowClient, str], tmp_path: Path
) -> None:
    run = opened(prepared, ValueError("x" * 20_000))
    assert run.info.status == "FAILED"
    assert len(run.data.tags["error"]) == 500
    assert "x" * 20_000 in text(prepared[0], run.info.run_id, "traceback.txt", tmp_path)


def test_a_run_says_who_runs_it_what_code_and_whose_child_it_is(prepared: tuple[MlflowClient, str], run: str) -> None:
    tags = opened(prepared, None, parent=run).data.tags
    assert tags["arm"] == "all"
    assert tags["mlflow.parentRunId"] == run
    assert (tags["host"], tags["pid"]) == (socket.gethostname(), str(os.getpid()))
    assert {"version.silvertune", "version.numpy", "version.mlflow"} <= set(tags)
    assert "mlflow.parentRunId" not in opened(prepared, None).data.tags


def test_a_run_that_lives_is_not_reaped(prepared: tuple[MlflowClient, str]) -> None:
    client, experiment = prepared
    with runs.open_run(client, experiment, "x", {}, None, tracking(client)) as run_id:
        processes.reap(client, experiment)
        assert client.get_run(run_id).info.status == "RUNNING"


def test_a_traceback_that_cannot_be_logged_does_not_leave_the_run_running(
    prepared: tuple[MlflowClient, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, experiment = prepared

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(client, "log_text", full)
    with (
        pytest.raises((ValueError, OSError)),
        runs.open_run(client, experiment, "x", {}, None, tracking(client)) as seen,
    ):
        raise ValueError("the error")
    assert client.get_run(seen).info.status == "FAILED"


# ------------------------------------------------------------------------------------------------------ log_config


CONFIG: dict[str, Any] = {
    "task": {"name": "pets", "classes": ["other", "cat"], "positive": "cat", "descriptions": {"cat": ["x" * 7000]}},
    "dataset": {"path": "katzen äö.jsonl", "gold": {"column": "cat", "values": {0: "other", 1: "cat"}}, "empty": {}},
    "filter": {"agreement": {"at_least": 1.0}},
    "model": None,
    "seed": 3,
    "tracking": {"uri": None, "dir": "mlruns"},
    "study": {"arms": {"all": ["filter=none"]}},
}


def test_the_configuration_becomes_flat_params(client: MlflowClient, run: str) -> None:
    runs.log_config(client, run, CONFIG, ["seed=3"])
    params = client.get_run(run).data.params
    assert params["dataset.path"] == "katzen äö.jsonl"
    assert params["dataset.gold.values.1"] == "cat"
    assert params["dataset.empty"] == "{}"
    assert params["filter.agreement.at_least"] == "1.0"
    assert params["task.classes"] == '["other", "cat"]'
    assert params["model"] == "null"
    assert params["seed"] == "3"
    assert not [name for name in params if name.startswith(("tracking", "study"))]


def test_a_long_param_is_a_hash_and_the_whole_configuration_an_artifact(
    client: MlflowClient, run: str, tmp_path: Path
) -> None:
    runs.log_config(client, run, CONFIG, ["seed=3", "model=none"])
    value = client.get_run(run).data.params["task.descriptions.cat"]
    assert value.startswith("sha256:")
    assert "config.yaml" in value
    assert len(value) < 200
    assert yaml.safe_load(text(client, run, "config.yaml", tmp_path)) == CONFIG
    assert yaml.safe_load(text(client, run, "overrides.yaml", tmp_path)) == ["seed=3", "model=none"]


def test_different_long_params_have_different_hashes_and_short_ones_none() -> None:
    one, two = (runs._short(letter * 6001) for letter in "ab")
    assert one != two
    assert runs._short("a" * 6000) == "a" * 6000


def test_a_param_of_the_greatest_length_is_taken(client: MlflowClient, run: str) -> None:
    runs.log_config(client, run, {"long": "x" * runs.LONGEST_PARAM}, [])
    assert client.get_run(run).data.params["long"] == "x" * runs.LONGEST_PARAM


def test_more_params_than_a_batch_holds_are_all_logged(client: MlflowClient, run: str) -> None:
    runs.log_config(client, run, {"views": {f"v{i}": str(i) for i in range(230)}}, [])
    assert len(client.get_run(run).data.params) == 230


def test_keys_that_differ_in_marks_only_do_not_fail_the_run(client: MlflowClient, run: str) -> None:
    runs.log_config(client, run, {"dataset": {"gold": {"values": {"+": "cat", "?": "other"}}}}, [])
    assert {"cat", "other"} <= set(client.get_run(run).data.params.values())


# ----------------------------------------------------------------------------------------------------- log_metrics


def test_undefined_metrics_are_left_out_and_the_others_kept(client: MlflowClient, run: str) -> None:
    runs.log_metrics(client, run, {"test/f1": 0.5, "test/auroc": float("nan"), "labels_by_class/a+b?/noise": 0.0})
    assert client.get_run(run).data.metrics == {"test/f1": 0.5, "labels_by_class/a_b_/noise": 0.0}


@pytest.mark.parametrize("names", [("C+", "C#"), ("a/../b", ".."), ("", "a//b"), ("x" * 400, "x" * 399 + "y")], ids=str)
def test_classes_of_any_name_have_metrics_and_params_of_their_own(
    client: MlflowClient, run: str, names: tuple[str, str]
) -> None:
    runs.log_metrics(client, run, {f"labels_by_class/{name}/noise": k + 0.5 for k, name in enumerate(names)})
    runs.log_config(client, run, {"dataset": {"gold": {"values": {name: str(k) for k, name in enumerate(names)}}}}, [])
    data = client.get_run(run).data
    assert sorted(data.metrics.values()) == [0.5, 1.5]
    assert {"0", "1"} <= set(data.params.values())


def test_no_metrics_are_no_error(client: MlflowClient, run: str) -> None:
    runs.log_metrics(client, run, {"test/auroc": float("nan")})
    assert client.get_run(run).data.metrics == {}


def test_metrics_of_many_classes_are_all_logged(client: MlflowClient, run: str) -> None:
    runs.log_metrics(client, run, {f"labels_by_class/c{i}/noise_after": 0.5 for i in range(1001)})
    assert len(client.get_run(run).data.metrics) == 1001


# ------------------------------------------------------------------------------------------------ data and results


IDS = pd.Index(["a", "b", "c", "d"], name="item_id")
GOLD = pd.Series(["cat", "other", "cat", "other"], index=IDS, name="gold", dtype=object)
ITEMS = pd.DataFrame({"group_id": ["g", "g", "h", "h"], "text": ["x", None, "y", "z"]}, index=IDS)
DATA = Data(ITEMS, table([], PETS.classes), GOLD, None, digest="0123456789abcdef" * 4)


HISTORIES: list[list[dict[str, float]]] = [[{"loss": 0.5}, {"loss": 0.25, "validation_loss": 0.75}], []]


class Saved:
    """A predictor that saves a note, and has the history of its tuning."""

    classes, views = PETS.classes, ["text"]

    def __init__(self, history: list[dict[str, float]]) -> None:
        self.history = history

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame()

    def save(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "note.txt").write_text("tuned", encoding="utf-8")


def result() -> Result:
    votes = table(
        [
            {"item_id": item, "annotator": "m", "view": "text", "label": label}
            for item, label in zip(IDS, ["cat", None, "other", "other"], strict=True)
        ],
        PETS.classes,
    ).assign(stage="labeler")
    label = pd.Series(["cat", None, "other", "other"], index=IDS, dtype=object)
    decisions = pd.DataFrame(
        {
            "label": label,
            "confidence": [1.0, float("nan"), 0.5, 1.0],
            "n_votes": [1, 0, 1, 1],
            "keep": [True, False, True, True],
            "weight": 1.0,
            "reason": ["", "no label", "", ""],
            "train_label": label,
            "source": ["labeler", "dropped", "labeler", "labeler"],
            "cost_usd": 0.0,
            "fold": 0,
        },
        index=IDS,
    )
    predictions = pd.DataFrame(
        {
            "label": pd.Series(["cat", None, "cat", "other"], index=IDS, dtype=object),
            "prob:other": [0.25, 0.5, 0.25, 0.75],
            "prob:cat": [0.75, 0.5, 0.75, 0.25],
            "fold": 0,
            "group_id": ITEMS["group_id"],
            "gold": GOLD,
        },
        index=IDS,
    )
    tables = ResultTables()
    for name, rows in (("votes", votes), ("decisions", decisions), ("predictions", predictions)):
        tables.add(name, rows)
    return Result(
        votes=votes,
        tables=tables,
        report=metrics.evaluate(predictions, GOLD, PETS, replicates=20),
        labels=label_quality.report(decisions, votes, votes.iloc[:0], predictions, GOLD, PETS),
        students=[Student(Tuned(Saved(history)), {}) for history in HISTORIES],
        alarms=["fold 1: constant"],
    )


def write_models(made: Result) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for number, student in enumerate(made.students):
            student.predictor.save(folder / f"fold{number}")

    return write


def artifacts(client: MlflowClient, run: str, folder: str | None = None) -> set[str]:
    found = set()
    for entry in client.list_artifacts(run, folder):
        found |= artifacts(client, run, entry.path) if entry.is_dir else {entry.path}
    return found


def log_result(
    client: MlflowClient, run: str, found: Result, title: str, save_models: Callable[[Path], None] | None
) -> None:
    kept = runs.keep_result(
        found, DATA, tracking(client), run, classes=PETS.classes, identity="i", title=title,
        started=time.perf_counter(), save_models=save_models,
    )  # fmt: skip
    runs.log_kept(client, run, kept)
    assert not kept.exists()


def test_a_result_is_logged_whole(client: MlflowClient, run: str, tmp_path: Path) -> None:
    made = result()
    log_result(client, run, made, title="all/m/s0", save_models=write_models(made))
    assert artifacts(client, run) == {
        "votes.parquet",
        "decisions.parquet",
        "predictions.parquet",
        "groups.csv",
        "label_quality.html",
        "labels_browser.html",
        "findings.md",
        *(f"label_quality/{name}.csv" for name in label_quality.tables(made.labels)),
        *(f"figures/{name}.png" for name in label_figures.draw(made.labels)),
        "figures/groups.png",
        "figures/agreement.png",
        "tuning.csv",
        "model/fold0/note.txt",
        "model/fold1/note.txt",
    }
    logged = client.get_run(run).data.metrics
    assert logged.pop("wall_s") >= 0
    expected = {**made.report.metrics, **made.labels.metrics, "alarms": 1.0}
    assert logged == pytest.approx({name: value for name, value in expected.items() if value == value})
    tags = client.get_run(run).data.tags
    assert tags["findings"] == ", ".join(found.name for found in findings.find(made.labels))
    assert tags["mlflow.note.content"] == findings.markdown(findings.find(made.labels))
    decisions = pd.read_parquet(client.download_artifacts(run, "decisions.parquet", str(tmp_path)))
    assert decisions["item_id"].to_list() == list(IDS)
    assert decisions["label"].isna().to_list() == [False, True, False, False]
    groups = pd.read_csv(client.download_artifacts(run, "groups.csv", str(tmp_path)))
    assert groups["group_id"].to_list() == ["g", "h"]


def test_the_history_of_tuning_is_a_table_of_folds_and_epochs(client: MlflowClient, run: str, tmp_path: Path) -> None:
    log_result(client, run, result(), title="x", save_models=None)
    table = pd.read_csv(client.download_artifacts(run, "tuning.csv", str(tmp_path)))
    assert table[["fold", "epoch", "loss"]].to_numpy().tolist() == [[0, 0, 0.5], [0, 1, 0.25]]
    assert table["validation_loss"].isna().to_list() == [True, False]


@pytest.mark.parametrize(
    ("precisions", "tag"), [(["float32"] * 2, "float32"), (["float32", "bfloat16"], "float32, bfloat16")]
)
def test_what_the_students_were_tuned_on_is_a_tag(
    precisions: list[str], tag: str, client: MlflowClient, run: str
) -> None:
    def student(precision: str) -> Student:
        predictor = Saved([])
        predictor.ran_on = {"precision": precision, "device": "cpu"}  # type: ignore[attr-defined]
        return Student(Tuned(predictor), {})

    log_result(client, run, replace(result(), students=list(map(student, precisions))), title="x", save_models=None)
    tags = client.get_run(run).data.tags
    assert (tags["tuned_on.precision"], tags["tuned_on.device"]) == (tag, "cpu")


def test_alarms_are_a_tag_and_a_number(client: MlflowClient, run: str) -> None:
    made = result()
    log_result(client, run, made, title="x", save_models=None)
    logged = client.get_run(run).data
    assert logged.tags["alarms"] == "fold 1: constant"
    assert logged.metrics["alarms"] == 1


def test_a_run_without_a_student_has_no_alarms_and_no_history(client: MlflowClient, run: str) -> None:
    log_result(client, run, replace(result(), students=[], alarms=[]), title="x", save_models=None)
    logged = client.get_run(run).data
    assert "alarms" not in logged.tags
    assert "alarms" not in logged.metrics
    assert "tuning.csv" not in artifacts(client, run)


def test_models_are_kept_only_if_that_is_asked_for(client: MlflowClient, run: str) -> None:
    log_result(client, run, result(), title="x", save_models=None)
    assert not [path for path in artifacts(client, run) if path.startswith("model")]


def test_the_data_are_an_input_of_the_run(client: MlflowClient, run: str) -> None:
    data = DATA
    runs.log_data(client, run, data, "tables_jsonl", "somewhere/items.jsonl")
    (found,) = client.get_run(run).inputs.dataset_inputs
    assert found.dataset.name == "tables_jsonl"
    assert found.dataset.digest == data.digest[:36]
    assert json.loads(found.dataset.source)["uri"] == "somewhere/items.jsonl"
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]


def kept_with(client: MlflowClient, run: str, **page: Any) -> Path:
    """A result on disk whose page with the items is made with these settings."""
    return runs.keep_result(
        result(), DATA, {**tracking(client), "labels_browser": page}, run, classes=PETS.classes, identity="i",
        title="x", started=time.perf_counter(), save_models=None,
    )  # fmt: skip


def test_a_page_with_the_items_is_made_unless_it_is_switched_off(client: MlflowClient, run: str) -> None:
    kept = kept_with(client, run, items=0, leave_out=[])
    assert not (kept / "artifacts" / "labels_browser.html").exists()
    assert "labels_browser" not in (kept / "artifacts" / "label_quality.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("leave_out", "is_there"), [([], True), (["text"], False)])
def test_a_result_kept_earlier_shows_nothing_that_is_left_out_by_now(
    client: MlflowClient, run: str, leave_out: list[str], is_there: bool
) -> None:
    kept_with(client, run, items=5000, leave_out=[])
    client.set_terminated(run, "FAILED")
    now = {**tracking(client), "labels_browser": {"items": 5000, "leave_out": leave_out}}
    kept = runs.result_kept_earlier(client, now, "i")
    assert kept is not None
    assert (kept / "artifacts" / "labels_browser.html").exists() == is_there
    assert (kept / "artifacts" / "votes.parquet").exists()


@pytest.mark.parametrize("password", ["planted-secret", "planted%40secret", "planted@secret", "a:planted", "@@planted"])
def test_no_part_of_a_urls_password_is_logged(password: str) -> None:
    override = f"labeler.store.url='postgresql+pg8000://ada:{password}@host/database'"
    assert runs.printable_overrides([override]) == ["labeler.store.url='postgresql+pg8000://ada:***@host/database'"]
    config = {"backend": {"ledger": {"url": f"postgresql://ada:{password}@host:5432/db"}}, "notes": ["a@b, c:d@e"]}
    hidden = {"backend": {"ledger": {"url": "postgresql://ada:***@host:5432/db"}}, "notes": ["a@b, c:d@e"]}
    assert runs._without_passwords(config) == hidden
