"""Tuned models as MLflow models: JSON in, labels out."""

import importlib.metadata
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests import made, tiny
from tests.models.tea_and_oil import NOTHING, training

from silvertune.backends import wheel
from silvertune.evaluation import predictions
from silvertune.models.encoder_predictor import EncoderPredictor
from silvertune.models.saved import IN_MLFLOW_MODEL, new_folder
from silvertune.models.tfidf_logreg import TfidfLogreg, TfidfPredictor
from silvertune.schema import Evaluation, Task
from silvertune.tracking import serving

TASK = Task(name="tea", classes=["oil", "tea"], positive="tea")
HOW = Evaluation(split="holdout")
SHOWN = training(5)[["group_id", "json", "text"]]
ASKED = [
    {"json": "green leaf", "text": "hot cup"},
    {"json": "", "text": "barrel price"},
    {"json": None, "text": "crude well"},
    {"json": "", "text": ""},
]
TOLD = ["tea", "oil", "oil", None]


@pytest.fixture(autouse=True)
def _loud() -> Iterator[None]:
    level = logging.getLogger("mlflow").level
    yield
    logging.getLogger("mlflow").setLevel(level)


@pytest.fixture(scope="module")
def light() -> TfidfPredictor:
    return TfidfLogreg(None, r"\w+", 1, 1, 500, 1.0, None, 200).fit(training(), NOTHING, 0)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> EncoderPredictor:
    folder = tmp_path_factory.mktemp("encoder")
    return tiny.student(tiny.bert(folder / "tiny"), folder / "cache").fit(training(), NOTHING, 0)


@pytest.fixture(scope="module", params=["light", "lora"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    predictor = request.getfixturevalue(request.param)
    path = tmp_path_factory.mktemp("model") / "fold0"
    serving.save(predictor, path, TASK, HOW, 0.5, SHOWN)
    return predictor, path


def test_a_saved_model_gives_what_the_run_would(saved: tuple[Any, Path]) -> None:
    import mlflow.pyfunc

    predictor, path = saved
    items = training(12)
    loaded = mlflow.pyfunc.load_model(str(path))
    found = loaded.predict(items[["json", "text"]])
    wanted = predictions.decide(predictor.predict_proba(items), TASK, HOW).loc[items.index]
    assert list(found.columns) == ["label", "prob:oil", "prob:tea"]
    assert found["label"].tolist() == wanted["label"].tolist()
    np.testing.assert_allclose(found["prob:tea"], wanted["prob:tea"], atol=5e-3)


def test_views_that_an_item_lacks_are_left_out_and_without_any_there_is_no_label(saved: tuple[Any, Path]) -> None:
    import mlflow.pyfunc

    found = mlflow.pyfunc.load_model(str(saved[1])).predict(pd.DataFrame(ASKED, dtype=object))
    assert [None if label is None else str(label) for label in found["label"]] == TOLD
    assert found.loc[3, ["prob:oil", "prob:tea"]].tolist() == [0.5, 0.5]


def test_the_signature_and_an_example_are_there(saved: tuple[Any, Path]) -> None:
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(saved[1]))
    assert loaded.metadata.signature.inputs.input_names() == ["json", "text"]
    assert loaded.metadata.signature.outputs.input_names() == ["label", "prob:oil", "prob:tea"]
    example = loaded.input_example
    assert list(example.columns) == ["json", "text"]
    assert len(example) == len(SHOWN)
    assert example.loc[0, "json"] == ""  # it has no such view
    assert len(loaded.predict(example)) == len(example)


def test_the_requirements_can_be_installed_from_a_registry(saved: tuple[Any, Path]) -> None:
    requirements = (saved[1] / "requirements.txt").read_text().split()
    names = {line.partition("==")[0] for line in requirements}
    assert set(serving.NEEDED) <= names
    assert "silvertune" not in names
    assert not any("+" in line for line in requirements)  # a build's label, such as +cpu, is on no registry
    assert ("torch" in names) == isinstance(saved[0], EncoderPredictor)


def test_a_base_in_a_package_is_required(lora: EncoderPredictor) -> None:
    packaged = replace(lora, encoder=replace(lora.encoder, path=None, package="a-package"))
    assert "a-package" in packaged.packages
    assert "a-package" not in lora.packages
    assert "a-package" not in replace(packaged, wrapper=None).packages


LOADED_ELSEWHERE = """
import json, sys
import mlflow.pyfunc, pandas
earlier = set(sys.modules)
model = mlflow.pyfunc.load_model(sys.argv[1])
labels = model.predict(pandas.DataFrame([{"json": "green leaf", "text": "hot cup"}]))["label"].tolist()
loaded = {name.partition(".")[0] for name in set(sys.modules) - earlier}
import silvertune
print(json.dumps([labels, silvertune.__file__, sorted(loaded)]))
"""


packages_distributions = cache(importlib.metadata.packages_distributions)


def with_what_they_require(names: set[str]) -> set[str]:
    """The distributions and all that they need in turn, as installed."""
    every, new = set(), {name.lower().replace("_", "-") for name in names}
    while new:
        every |= new
        needed = set()
        for name in new:
            try:
                lines = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            found = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines}  # type: ignore[index]
            needed |= found
        new = needed - every
    return every


def test_a_saved_model_brings_its_code_and_names_what_it_needs(saved: tuple[Any, Path], tmp_path: Path) -> None:
    """As in an environment that was made of its requirements."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_ELSEWHERE, str(saved[1])], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    labels, source, modules = json.loads(done.stdout.splitlines()[-1])
    assert labels == ["tea"]
    assert Path(source).is_relative_to(saved[1])
    required = {line.partition("==")[0] for line in (saved[1] / "requirements.txt").read_text().split()}
    distributions = {name for module in modules for name in packages_distributions().get(module, [])}
    needed = {name.lower().replace("_", "-") for name in distributions} - {"silvertune"}  # which came with the model
    assert needed <= with_what_they_require(required)


def test_the_code_is_two_files_and_brings_the_module_that_a_user_wrote(
    light: TfidfPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_loader.py").write_text("from silvertune.models.tfidf_logreg import load\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine = Mine(light)
    serving.save(mine, tmp_path / "model", TASK, HOW, 0.5, SHOWN)
    package, loader = sorted((tmp_path / "model" / "code").iterdir())
    assert loader.name == f"{serving.LOADER}.py"
    names = set(zipfile.ZipFile(package).namelist())
    assert {"my_loader.py", "silvertune/tracking/serving.py"} <= names
    assert not any("__pycache__" in name for name in names)


@pytest.mark.parametrize(
    ("loader", "reason"), [("__main__.load", "__spec__"), ("no_source.load", "no source"), ("large.load", "MB")]
)
def test_a_model_whose_own_module_can_not_come_along_is_saved_all_the_same_and_says_so_once(
    light: TfidfPredictor,
    tmp_path: Path,
    loader: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serving._package.cache_clear()
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as in a notebook
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (tmp_path / "large" / "data").open("wb") as data:
        data.truncate(wheel.LARGEST_MODULE + 1)  # a hole: it takes no disk
    for name in ("model", "again"):
        serving.save(Mine(light, loader), tmp_path / name, TASK, HOW, 0.5, SHOWN)
    assert len(list((tmp_path / "model" / "code").iterdir())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"saved models lack the code of {loader.partition('.')[0]}" in line
    assert reason in line


@dataclass(frozen=True)
class Mine:
    """A predictor that a function of a user's own loads."""

    inner: TfidfPredictor
    loader: str = "my_loader.load"

    classes = property(lambda self: self.inner.classes)
    views = property(lambda self: self.inner.views)

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        return self.inner.predict_proba(items)

    def save(self, path: Path) -> None:
        with new_folder(path, self.loader, {}) as folder:
            (folder / "mine").write_text("")


def test_a_model_that_0_1_saved_is_loaded(saved: tuple[Any, Path], tmp_path: Path) -> None:
    """Its loader module was silvertune.serving; its code was not with it."""
    import mlflow.pyfunc

    old = Path(shutil.copytree(saved[1], tmp_path / "old"))
    shutil.rmtree(old / "code")
    about = yaml.safe_load((old / "MLmodel").read_text())
    flavor = about["flavors"]["python_function"]
    assert flavor["loader_module"] == serving.LOADER
    flavor["loader_module"] = "silvertune.serving"
    del flavor["code"]
    (old / "MLmodel").write_text(yaml.safe_dump(about))
    inner = old / IN_MLFLOW_MODEL / "silvertune.json"
    meta = json.loads(inner.read_text())
    del meta["files"]
    inner.write_text(json.dumps(meta))
    asked = pd.DataFrame(ASKED, dtype=object)
    found = mlflow.pyfunc.load_model(str(old)).predict(asked)
    pd.testing.assert_frame_equal(found, mlflow.pyfunc.load_model(str(saved[1])).predict(asked))


def test_long_texts_are_cut_in_the_example(light: TfidfPredictor, tmp_path: Path) -> None:
    import mlflow.pyfunc

    serving.save(light, tmp_path / "model", TASK, HOW, 0.5, SHOWN.assign(text="leaf " * 5000))
    example = mlflow.pyfunc.load_model(str(tmp_path / "model")).input_example
    assert example["text"].str.len().max() == serving.LONGEST


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_threshold_of_the_run_is_served(light: TfidfPredictor, tmp_path: Path, threshold: float) -> None:
    import mlflow.pyfunc

    serving.save(light, tmp_path / "model", TASK, HOW, threshold, SHOWN)
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(training(6)[["json", "text"]])
    assert set(found["label"]) == {"tea" if threshold == 0 else "oil"}


def test_the_decision_of_the_run_is_served(light: TfidfPredictor) -> None:
    torn = pd.DataFrame([{"json": "green leaf", "text": "barrel price"}])
    told = {
        how: serving.Served(light, TASK, how, 0.5).predict(torn)["label"].item() for how in ("any_view", "all_views")
    }
    assert told == {"any_view": "tea", "all_views": "oil"}


def test_several_classes_are_served(tmp_path: Path) -> None:
    import mlflow.pyfunc

    task = Task(name="three", classes=["tea", "ore", "oil"], positive=None)
    predictor = TfidfLogreg(None, r"\w+", 1, 1, 500, 1.0, None, 200).fit(
        training(30, ("tea", "oil", "ore")), NOTHING, 0
    )
    serving.save(predictor, tmp_path / "model", task, replace(HOW, decision="mean"), 0.5, SHOWN)
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame([{"json": "", "text": "deep mine"}]))
    assert found["label"].item() == "ore"
    assert list(found.columns) == ["label", "prob:tea", "prob:ore", "prob:oil"]


def test_columns_that_are_no_views_are_not_looked_at(light: TfidfPredictor) -> None:
    items = made.items(4).assign(text="green leaf", html="crude", label="oil")
    assert set(serving.Served(light, TASK, "any_view", 0.5).predict(items)["label"]) == {"tea"}


# ------------------------------------------------------------------------------------------------ from a shell, slowly


def mlflow_models(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mlflow", "models", *arguments, "--env-manager", "local"]


@pytest.fixture(scope="module")
def logged(lora: EncoderPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "fold0"
    serving.save(lora, path, TASK, HOW, 0.5, SHOWN)
    return path


@pytest.mark.soak
def test_mlflow_models_predict_takes_items_as_json(logged: Path, tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text(json.dumps({"dataframe_records": ASKED}))
    files = ("-i", str(tmp_path / "items.json"), "-o", str(tmp_path / "labels.json"), "-t", "json")
    done = subprocess.run(
        mlflow_models("predict", "-m", str(logged), *files), capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "labels.json").read_text())["predictions"]
    assert [row["label"] for row in told] == TOLD


@pytest.mark.soak
def test_mlflow_models_serve_answers_invocations(logged: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "log.txt").open("w") as log:
        server = subprocess.Popen(
            mlflow_models("serve", "-m", str(logged), "-h", "127.0.0.1", "-p", str(port)),
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},  # it looks for uvicorn
            start_new_session=True,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/ping", server, tmp_path / "log.txt")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": ASKED}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            told = json.loads(answer.read())["predictions"]
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
    assert [row["label"] for row in told] == TOLD
    assert told[0]["prob:tea"] > 0.5


def _wait_for(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text())
