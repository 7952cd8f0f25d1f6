"""A tuned model, loaded from the store, from the registry and from a folder."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from tests import made, stores
from tests.models.tea_and_oil import NOTHING, training

from silvertune.datasets.mapping import ColumnMapping
from silvertune.evaluation import predictions
from silvertune.models.saved import IN_MLFLOW_MODEL, SETTINGS
from silvertune.models.tfidf_logreg import TfidfLogreg, TfidfPredictor
from silvertune.production import model
from silvertune.schema import Evaluation, Task
from silvertune.tracking import serving

TASK = Task(name="tea", classes=["oil", "tea"], positive="tea")
HOW = Evaluation(split="holdout", threshold=0.4)
COLUMNS = ColumnMapping(id="id", views={"json": "{a}", "text": "{b}", "html": "{c}"})
SHOWN = training(5)[["group_id", "json", "text"]]


@pytest.fixture(scope="module")
def predictor() -> TfidfPredictor:
    return TfidfLogreg(None, r"\w+", 1, 1, 500, 1.0, None, 200).fit(training(), NOTHING, 0)


@pytest.fixture(scope="module")
def folder(predictor: TfidfPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "fold0"
    serving.save(predictor, path, TASK, HOW, 0.4, SHOWN, COLUMNS)
    return path


def test_a_loaded_model_predicts_what_the_run_would(predictor: TfidfPredictor, folder: Path) -> None:
    loaded = model.from_folder(folder)
    items = training(12)[["json", "text"]]
    wanted = predictions.decide(predictor.predict_proba(items), TASK, HOW).loc[items.index]
    given = loaded.predict(items)
    pd.testing.assert_frame_equal(given[wanted.columns], wanted)
    assert list(given.columns) == ["label", *loaded.prob_columns]
    has_json = items["json"].notna()
    assert given["prob:json:tea"].notna().equals(has_json)
    assert given.loc[~has_json, "prob:text:tea"].equals(given.loc[~has_json, "prob:tea"].rename("prob:text:tea"))
    assert (loaded.task, loaded.how.threshold, loaded.how.decision) == (TASK, 0.4, "any_view")


@pytest.mark.parametrize("text", [None, "leaf"])
def test_items_without_text_have_no_prediction(folder: Path, text: str | None) -> None:
    items = pd.DataFrame({"json": [None, None], "text": [None, text]}, index=["a", "b"], dtype=object)
    given = model.from_folder(folder).predict(items)
    assert given.loc["a"].isna().all()
    assert given.loc["b"].isna().all() == (text is None)
    assert model.from_folder(folder).predict(items.iloc[:0]).empty


def test_it_knows_the_columns_of_the_views_that_it_reads(folder: Path) -> None:
    assert model.from_folder(folder).columns == ColumnMapping(id="id", views={"json": "{a}", "text": "{b}"})


def test_a_model_of_a_dataset_that_is_no_file_wants_its_views_as_columns(
    predictor: TfidfPredictor, tmp_path: Path
) -> None:
    serving.save(predictor, tmp_path / "new", TASK, HOW, 0.4, SHOWN)
    assert model.from_folder(tmp_path / "new").columns == ColumnMapping.of_views(["json", "text"])


def test_a_digest_is_of_the_files_and_the_settings_and_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = model.from_folder(folder).digest
    assert model.from_folder(copy).digest == before
    (copy / SETTINGS).write_text((copy / SETTINGS).read_text().replace("0.4", "0.6"))
    changed = model.from_folder(copy).digest
    assert changed != before
    with (copy / IN_MLFLOW_MODEL / "pipelines.joblib").open("ab") as file:
        file.write(b"\0")
    assert model.from_folder(copy).digest not in (before, changed)


def test_a_folder_without_a_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with made.refused(f"{tmp_path / 'nothing'}: no such folder; want models:/NAME@ALIAS"):
        model.from_folder(tmp_path / "nothing")
    with made.refused("is no model that silvertune has logged", f"want one of the models in it: {folder.parent}/fold0"):
        model.from_folder(folder.parent)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / SETTINGS).write_text("{}")
    with made.refused("decision.json in it can't be read"):
        model.from_folder(copy)


@pytest.mark.parametrize("columns", [{"id": None, "views": {}, "of_a_later_version": 1}, {"views": {}}, [1]], ids=str)
def test_columns_of_another_version_are_refused(folder: Path, tmp_path: Path, columns: object) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / SETTINGS).read_text())
    (copy / SETTINGS).write_text(json.dumps(settings | {"columns": columns}))
    with made.refused(f"{copy}: ", "decision.json in it can't be read (TypeError"):
        model.from_folder(copy)


@pytest.mark.parametrize("fault", ["a file is gone", "a file is broken", "its module is gone", "its class is gone"])
def test_a_model_that_can_not_be_loaded_is_told_in_one_line(folder: Path, tmp_path: Path, fault: str) -> None:
    inner = shutil.copytree(folder, tmp_path / "copy") / IN_MLFLOW_MODEL
    if fault == "a file is gone":
        (inner / "pipelines.joblib").unlink()
    elif fault == "a file is broken":
        (inner / "pipelines.joblib").write_bytes(b"xxxx")
    else:
        about = json.loads((inner / "silvertune.json").read_text())
        about["loader"] = "my_module.load" if "module" in fault else "silvertune.models.Gone"
        (inner / "silvertune.json").write_text(json.dumps(about))
    with made.refused(f"{inner}: the model in it can't be loaded here (", "requirements.txt"):
        model.from_folder(tmp_path / "copy")


# ------------------------------------------------------------------------------------------- in the store and registry


@pytest.fixture(scope="module")
def logged(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a run that has two models, registered twice; and the run's id."""
    place = tmp_path_factory.mktemp("store")
    stores.write(place)
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    experiment = client.create_experiment("tea", artifact_location=f"file://{place}/mlruns/artifacts")
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(folder), "model/fold0")
    client.create_registered_model("tea")
    for _ in range(2):
        client.create_model_version("tea", f"{run.info.artifact_uri}/model/fold0", run.info.run_id)
    client.set_registered_model_alias("tea", "champion", "2")
    return place / "mlruns", run.info.run_id


def load(logged: tuple[Path, str], address: str, tmp_path: Path) -> model.LoadedModel:
    return model.load(address.format(run=logged[1]), {"uri": None, "dir": str(logged[0])}, tmp_path)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("models:/tea@champion", "models:/tea/2"),
        ("models:/tea/1", "models:/tea/1"),
        ("runs:/{run}/model/fold0", "runs:/{run}/model/fold0"),
    ],
)
def test_a_model_is_found_by_its_address(logged: tuple[Path, str], address: str, name: str, tmp_path: Path) -> None:
    loaded = load(logged, address, tmp_path)
    assert loaded.name == name.format(run=logged[1])
    assert loaded.predict(training(3)[["json", "text"]])["label"].notna().all()


def test_a_store_that_was_moved_still_has_its_models(logged: tuple[Path, str], tmp_path: Path) -> None:
    moved = shutil.copytree(logged[0], tmp_path / "elsewhere" / "mlruns")
    loaded = load((moved, logged[1]), "models:/tea@champion", tmp_path)
    assert loaded.folder.is_relative_to(moved)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("models:/tea@winner", "there are models:/tea@champion or versions up to 2"),
        ("models:/tea/9", "models:/tea/9: not found in sqlite:"),
        ("models:/coffee/1", "there are tea"),
        ("models:/tea", "names no version; want models:/NAME@ALIAS"),
        ("runs:/0123", "runs:/0123: no such run in sqlite:"),
        ("runs:/{run}", "want one of the models in it: runs:/{run}/model/fold0"),
        ("runs:/{run}/nothing", "the run has no such artifact"),
    ],
)
def test_a_model_that_is_not_there_is_told_in_one_line(
    logged: tuple[Path, str], address: str, words: str, tmp_path: Path
) -> None:
    with made.refused(words.format(run=logged[1])):
        load(logged, address, tmp_path)


def test_without_a_store_none_is_made(tmp_path: Path) -> None:
    with made.refused("there is no such store"):
        model.load("models:/tea/1", {"uri": None, "dir": str(tmp_path / "mlruns")}, tmp_path)
    assert not (tmp_path / "mlruns").exists()
