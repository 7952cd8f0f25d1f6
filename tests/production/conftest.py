"""A tuned model in a folder: two classes, two views, the columns of its views."""

from pathlib import Path

import pytest
from tests.models.tea_and_oil import NOTHING, training

from silvertune.datasets.mapping import ColumnMapping
from silvertune.models.tfidf_logreg import TfidfLogreg
from silvertune.schema import Evaluation, Task
from silvertune.tracking import serving

TASK = Task(name="tea", classes=["oil", "tea"], positive="tea")
COLUMNS = ColumnMapping(id="id", views={"json": "{a}", "text": "{b}"})


def save(path: Path, task: Task) -> Path:
    """Save a model of a task whose classes are among tea, oil and ore."""
    rows = training(classes=tuple(task.classes))
    predictor = TfidfLogreg(None, r"\w+", 1, 1, 500, 1.0, None, 200).fit(rows, NOTHING, 0)
    how = Evaluation(split="none", decision="any_view" if task.positive else "mean")
    serving.save(predictor, path, task, how, 0.5, rows.head(5)[["json", "text"]], COLUMNS)
    return path


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "model", TASK)
