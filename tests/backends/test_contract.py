"""What every backend must do, wherever it tunes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tests import made
from tests.backends.fake_remote import FakeJobs

from silvertune.backends import Local
from silvertune.backends.ledger import Ledger
from silvertune.backends.remote import Remote
from silvertune.errors import UserError
from silvertune.interfaces import Backend, Estimate, TrainingSet

CONF = Path(__file__).parents[2] / "conf" / "backend"


def remote(folder: Path) -> Remote:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", budget_usd=None, lease_s=60)
    return Remote(FakeJobs(folder / "provider"), ledger, poll_s=0.01, deadline_s=30)


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "silvertune.backends.Local": lambda folder: Local(),
    "remote": remote,
}


def training_sets(number: int = 3) -> list[TrainingSet]:
    train = made.items(24).assign(label=made.gold(24), weight=1.0)
    return [TrainingSet(train.iloc[k:], train.iloc[:k], seed=k, settings="tfidf") for k in range(number)]


def test_every_shipped_backend_has_a_case() -> None:
    shipped = {yaml.safe_load(file.read_text())["_target_"] for file in CONF.glob("*.yaml")}
    assert shipped <= set(BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
class TestBackend:
    def test_it_tunes_on_each_set_in_their_order(self, name: str, tmp_path: Path) -> None:
        sets = training_sets()
        tuned_models = list(BACKENDS[name](tmp_path).tune(made.STUDENT, sets))
        assert len(tuned_models) == len(sets)
        for tuned, training_set in zip(tuned_models, sets, strict=True):
            own = made.STUDENT.fit(training_set.train, training_set.validation, training_set.seed)
            predicted = [predictor.predict_proba(made.items(24)) for predictor in (tuned.predictor, own)]
            pd.testing.assert_frame_equal(*predicted)
            assert tuned.cost_usd >= 0

    def test_nothing_to_tune_on_is_nothing(self, name: str, tmp_path: Path) -> None:
        assert list(BACKENDS[name](tmp_path).tune(made.STUDENT, [])) == []

    def test_a_model_that_it_can_not_tune_is_refused_in_one_line(self, name: str, tmp_path: Path) -> None:
        BACKENDS[name](tmp_path).check(made.STUDENT)
        with made.refused("backend", "object"):
            BACKENDS[name](tmp_path).check(object())

    def test_an_estimate_is_an_upper_bound(self, name: str, tmp_path: Path) -> None:
        backend, sets = BACKENDS[name](tmp_path), training_sets()
        estimate = backend.estimate(made.STUDENT, sets)
        assert isinstance(estimate, Estimate)
        assert estimate.calls == len(sets)
        assert sum(tuned.cost_usd for tuned in backend.tune(made.STUDENT, sets)) <= estimate.dollars

    def test_a_probe_says_what_it_looked_at(self, name: str, tmp_path: Path) -> None:
        results = BACKENDS[name](tmp_path).probe(made.STUDENT)
        assert results
        assert all(result.ok and result.what for result in results)

    def test_an_error_of_the_model_comes_through(self, name: str, tmp_path: Path) -> None:
        class Broken:
            def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Any:
                raise UserError("model.views: no text")

        with made.refused("model.views"):
            list(BACKENDS[name](tmp_path).tune(Broken(), training_sets()))
