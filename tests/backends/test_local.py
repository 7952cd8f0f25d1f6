"""Tuning in this process: the model's own fit, and a clear word where it has none."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra.utils import get_object

from silvertune.backends import Local, local
from silvertune.errors import UserError
from silvertune.interfaces import Estimate, Predictor, TrainingSet

CONF = Path(__file__).resolve().parents[2] / "conf"
TRAIN = pd.DataFrame({"text": ["a"], "label": ["x"], "weight": [1.0]}, index=pd.Index(["i"], name="item_id"))


def sets(number: int) -> list[TrainingSet]:
    return [TrainingSet(TRAIN, TRAIN.iloc[:0], seed, "settings") for seed in range(number)]


class Constant:
    """A model that remembers its training sets, and is its own predictor."""

    classes, views = ("x",), ("text",)

    def __init__(self) -> None:
        self.fits: list[tuple[pd.DataFrame, pd.DataFrame, int]] = []

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Predictor:
        self.fits.append((train, validation, seed))
        return self

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame()

    def save(self, path: Path) -> None:
        pass


class Remote:
    """A model that is tuned somewhere else."""

    fit = "with a service"


def test_a_model_with_fit_can_be_tuned() -> None:
    Local().check(Constant())


@pytest.mark.parametrize("model", [object(), Remote(), {"fit": print}, None], ids=["object", "Remote", "dict", "None"])
def test_a_model_without_fit_is_refused_in_one_line(model: object) -> None:
    with pytest.raises(UserError) as caught:
        Local().check(model)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"backend=local can't tune model {type(model).__name__}: ")
    assert "fit(train, validation, seed)" in message
    assert "model=tfidf_logreg" in message


def test_a_set_is_tuned_on_when_its_result_is_asked_for() -> None:
    model = Constant()
    tuned_models = Local().tune(model, sets(3))
    assert model.fits == []
    first = next(tuned_models)
    assert (first.predictor, first.cost_usd, first.job) == (model, 0.0, "")
    assert [seed for _, _, seed in model.fits] == [0]
    assert len(list(tuned_models)) == 2
    assert [seed for _, _, seed in model.fits] == [0, 1, 2]
    assert model.fits[0][0] is TRAIN


@dataclass(frozen=True)
class Counted:
    """A model whose settings show, and whose fits are counted."""

    setting: int
    fits: list[int] = field(default_factory=list, repr=False)

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Predictor:
        self.fits.append(seed)
        return Constant()


def tuned_on(model: Counted, train: pd.DataFrame, settings: str = "s", seed: int = 0) -> Predictor:
    (tuned,) = Local().tune(model, [TrainingSet(train, train.iloc[:0], seed, settings)])
    return tuned.predictor


def test_on_the_same_labels_a_process_tunes_once_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    model = Counted(1)
    first = tuned_on(model, TRAIN)
    assert capsys.readouterr().err == ""
    assert tuned_on(model, TRAIN.copy()) is first
    assert model.fits == [0]
    assert "1 of 1 models were tuned on the same labels before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "settings", "seed", "setting"),
    [
        (TRAIN.assign(label="y"), "s", 0, 1), (TRAIN.assign(weight=0.5), "s", 0, 1),
        (TRAIN.assign(text="b"), "s", 0, 1), (TRAIN.rename(index={"i": "j"}), "s", 0, 1),
        (pd.concat([TRAIN, TRAIN]), "s", 0, 1), (TRAIN.rename(columns={"text": "json"}), "s", 0, 1),
        (TRAIN, "others", 0, 1), (TRAIN, "s", 1, 1), (TRAIN, "s", 0, 2),
        (TRAIN.assign(of_a_user=[["a list"]]), "s", 0, 1),
    ],
)  # fmt: skip
def test_on_anything_else_it_tunes_anew(changed: pd.DataFrame, settings: str, seed: int, setting: int) -> None:
    fits: list[int] = []
    tuned_on(Counted(1, fits), TRAIN)
    before = len(fits)
    tuned_on(Counted(setting, fits), changed, settings, seed)
    assert len(fits) == before + 1


def test_it_keeps_the_last_of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "KEPT", 2)
    model = Counted(3)
    for seed in (0, 1, 2, 1, 2, 0):
        tuned_on(model, TRAIN, seed=seed)
    assert model.fits == [0, 1, 2, 0]
    tuned_on(Counted(4), TRAIN)
    tuned_on(model, TRAIN)
    assert model.fits == [0, 1, 2, 0, 0]


def test_tuning_here_costs_no_dollars() -> None:
    assert Local().estimate(Constant(), sets(5)) == Estimate(calls=5.0)
    assert all(result.ok for result in Local().probe(Constant()))


def test_what_a_model_raises_comes_through() -> None:
    class Broken(Constant):
        def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Predictor:
            raise UserError("model.views: no text")

    with pytest.raises(UserError, match="no text"):
        next(Local().tune(Broken(), sets(1)))


def test_every_shipped_model_can_be_tuned_by_the_shipped_backend() -> None:
    backend = get_object(yaml.safe_load((CONF / "backend" / "local.yaml").read_text(encoding="utf-8"))["_target_"])()
    assert isinstance(backend, Local)
    tried = 0
    for path in (CONF / "model").glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        # model=none has no target, and gemini_tuned is for backend=vertex.
        if content.get("_target_") and path.stem != "gemini_tuned":
            # Its class is enough: making one takes what only a run has, such as an encoder.
            backend.check(get_object(content["_target_"]))
            tried += 1
    assert tried
