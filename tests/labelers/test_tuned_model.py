"""A model tuned before as the labeler. What every labeler must do is in the contract."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests import made, tiny
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune import identity
from silvertune.labelers.tuned_model import TunedModel
from silvertune.models import saved
from silvertune.models.tfidf_logreg import TfidfLogreg, TfidfPredictor
from silvertune.schema import Evaluation, Task
from silvertune.tracking import serving
from silvertune.votes import prob_columns


@pytest.fixture(scope="module")
def predictor() -> TfidfPredictor:
    student = TfidfLogreg(None, r"\w+", 1, 1, 500, 1.0, "balanced", 200)
    train = made.items(60).assign(label=made.gold(60), weight=1.0)
    return student.fit(train, train.iloc[:0], 0)


@pytest.fixture(scope="module")
def folder(predictor: TfidfPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "predictor"
    predictor.save(path)
    return path


def test_a_vote_is_the_most_probable_class_of_a_view(folder: Path, predictor: TfidfPredictor, task: Task) -> None:
    items = made.items(30, seed=9)
    table = TunedModel(task, path=str(folder), views=None).label(items)
    probs = predictor.predict_proba(items)
    for row in table.to_dict("records"):
        own = probs.loc[(row["item_id"], row["view"])]
        assert row["label"] == own.idxmax()
        assert row["confidence"] == pytest.approx(own.max())
        assert row["prob:soe"] == pytest.approx(own["soe"])
    assert (table.set_index("item_id")["label"] == made.gold(30).reindex(table["item_id"]).to_numpy()).mean() > 0.9


def test_the_views_to_vote_on_can_be_chosen(folder: Path, task: Task) -> None:
    table = TunedModel(task, path=str(folder), views=["text"]).label(made.items(6))
    assert set(table["view"]) == {"text"}
    assert len(table) == 6


def test_a_view_that_it_was_not_tuned_on_is_refused(folder: Path, task: Task) -> None:
    with made.refused("labeler.views=['html']", "was not tuned on view 'html'", "it reads json, text"):
        TunedModel(task, path=str(folder), views=["html"])


def test_a_view_that_the_items_lack_is_told(folder: Path, task: Task) -> None:
    with made.refused("labeler.path", "reads view 'json'", "the dataset does not have"):
        TunedModel(task, path=str(folder), views=None).label(made.items(6).drop(columns="json"))


def test_classes_that_changed_since_tuning_are_refused(folder: Path) -> None:
    renamed = Task(name="renamed", classes=["other", "schedule"], positive="schedule")
    with made.refused(
        f"labeler.path={folder}", "was tuned on the classes other, soe", "other, schedule", "'soe' is none"
    ):
        TunedModel(renamed, path=str(folder), views=None)


def test_a_class_that_it_never_saw_has_no_probability(folder: Path) -> None:
    more = Task(name="more", classes=["soe", "doubtful", "other"], positive=None)
    table = TunedModel(more, path=str(folder), views=None).label(made.items(12))
    assert set(table["label"]) == {"soe", "other"}
    assert (table["prob:doubtful"] == 0).all()
    assert np.allclose(table[prob_columns(more.classes)].sum(axis=1), 1)


@pytest.mark.parametrize("content", [None, "elsewhere"])
def test_a_folder_without_a_model_is_told(tmp_path: Path, content: str | None, task: Task) -> None:
    with made.refused(f"{tmp_path / (content or '')}: holds no tuned model of silvertune"):
        TunedModel(task, path=str(tmp_path / (content or "")), views=None)


def test_the_folder_may_be_the_mlflow_model_that_a_run_has_logged(
    predictor: TfidfPredictor, folder: Path, task: Task, tmp_path: Path
) -> None:
    how = Evaluation(split="kfold")
    serving.save(predictor, tmp_path / "model" / "fold0", task, how, 0.5, made.items(2))
    one = TunedModel(task, path=str(tmp_path / "model" / "fold0"), views=None).label(made.items(12))
    other = TunedModel(task, path=str(folder), views=None).label(made.items(12))
    pd.testing.assert_frame_equal(one, other)


def test_the_base_of_an_adapter_can_be_given(tmp_path: Path) -> None:
    base = tiny.bert(tmp_path / "base")
    tiny.student(base, tmp_path / "cache").fit(training(), NOTHING, 0).save(tmp_path / "saved")
    moved = Path(shutil.move(base, tmp_path / "elsewhere"))
    tea = Task(name="tea", classes=["oil", "tea"], positive="tea")
    with made.refused("set labeler.base to"):
        TunedModel(tea, path=str(tmp_path / "saved"), views=None)
    table = TunedModel(tea, path=str(tmp_path / "saved"), base=str(moved), views=None).label(ITEMS)
    assert set(table["label"].dropna()) == {"tea", "oil"}


def test_a_base_that_is_not_needed_is_told(folder: Path, task: Task) -> None:
    with made.refused("labeler.base=elsewhere", "needs no base"):
        TunedModel(task, path=str(folder), base="elsewhere", views=None)


@pytest.mark.parametrize("inside_mlflow", [True, False])
def test_notes_beside_the_model_are_not_in_the_identity(
    inside_mlflow: bool, predictor: TfidfPredictor, task: Task, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    if inside_mlflow:
        serving.save(predictor, path, task, Evaluation(split="kfold"), 0.5, made.items(2))
    else:
        predictor.save(path)
    inner = path / saved.IN_MLFLOW_MODEL if inside_mlflow else path
    node = {"_target_": "silvertune.labelers.TunedModel", "path": str(path), "views": None}
    before = identity.of_part(node)
    for folder in {path, inner}:
        (folder / "notes.txt").write_text("a note")
        (folder / ".lock").write_text("")
    assert identity.of_part(node) == before
    (inner / "pipelines.joblib").write_bytes(b"another")
    assert identity.of_part(node) != before
