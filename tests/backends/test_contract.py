"""What every backend must do, wherever it tunes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import made, vertex_jobs
from tests.backends import vertex_double, vertex_parts
from tests.backends.fake_remote import FakeJobs

from silvertune.backends import Local, VertexJob
from silvertune.backends.ledger import Ledger
from silvertune.backends.remote import Remote
from silvertune.errors import UserError
from silvertune.interfaces import Backend, Estimate, TrainingSet

CONF = Path(__file__).parents[2] / "conf" / "backend"


@dataclass(frozen=True)
class Case:
    """A backend with a model for it. own: what tuning on a set is to give for some items, by another way."""

    backend: Backend
    model: Any
    own: Callable[[TrainingSet, pd.DataFrame], pd.DataFrame]
    broken: Backend | None = None  # the backend with a model that fails, where it makes the model itself


def own_fit(training_set: TrainingSet, items: pd.DataFrame) -> pd.DataFrame:
    return made.STUDENT.fit(training_set.train, training_set.validation, training_set.seed).predict_proba(items)


@contextmanager
def local(folder: Path, bucket: str, patch: pytest.MonkeyPatch) -> Iterator[Case]:
    yield Case(Local(), made.STUDENT, own_fit)


@contextmanager
def remote(folder: Path, bucket: str, patch: pytest.MonkeyPatch) -> Iterator[Case]:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", budget_usd=None, lease_s=60)
    yield Case(Remote(FakeJobs(folder / "provider"), ledger, poll_s=0.01, deadline_s=30), made.STUDENT, own_fit)


@contextmanager
def vertex(folder: Path, bucket: str, patch: pytest.MonkeyPatch) -> Iterator[Case]:
    with vertex_double.running(folder, patch) as double:
        model = vertex_parts.model(folder, double.url)

        def own(training_set: TrainingSet, items: pd.DataFrame) -> pd.DataFrame:
            lines, _ = model.examples(training_set)
            return vertex_double.own(lines, model, items)

        yield Case(vertex_parts.remote(folder, double, bucket), model, own)


@contextmanager
def vertex_job(folder: Path, bucket: str, patch: pytest.MonkeyPatch) -> Iterator[Case]:
    def backend(**settings: Any) -> Remote:
        config = {"model": {**vertex_jobs.model_config(made.STUDENT), **settings}, "task": asdict(made.SOE)}
        ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", budget_usd=None, lease_s=60)
        service = VertexJob(config, folder / "cache", **vertex_jobs.settings(bucket, url))
        return Remote(service, ledger, poll_s=0.1, deadline_s=60)

    with vertex_jobs.serving(vertex_jobs.Jobs(folder / "service")) as url:
        yield Case(backend(), made.STUDENT, own_fit, backend(views=["nothing"]))


BACKENDS: dict[str, Callable[[Path, str, pytest.MonkeyPatch], AbstractContextManager[Case]]] = {
    "local": local,
    "remote": remote,  # the fake provider
    "vertex": vertex,
    "vertex_job": vertex_job,
}
"""The name of a shipped yaml -> its case."""


@pytest.fixture
def case(name: str, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    with BACKENDS[name](tmp_path, bucket, monkeypatch) as case:
        yield case


def training_sets(number: int = 3) -> list[TrainingSet]:
    train = made.items(24).assign(label=made.gold(24), weight=1.0)
    return [TrainingSet(train.iloc[k:], train.iloc[:k], seed=k, settings="tfidf") for k in range(number)]


def test_every_shipped_backend_has_a_case() -> None:
    assert {file.stem for file in CONF.glob("*.yaml")} <= set(BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
class TestBackend:
    def test_it_tunes_on_each_set_in_their_order(self, name: str, case: Case) -> None:
        sets = training_sets()
        tuned_models = list(case.backend.tune(case.model, sets))
        assert len(tuned_models) == len(sets)
        for tuned, training_set in zip(tuned_models, sets, strict=True):
            items = made.items(24)
            predicted = tuned.predictor.predict_proba(items)
            own = case.own(training_set, items)
            pd.testing.assert_frame_equal(predicted.sort_index(), own.sort_index(), check_like=True)
            assert tuned.cost_usd >= 0

    def test_nothing_to_tune_on_is_nothing(self, name: str, case: Case) -> None:
        assert list(case.backend.tune(case.model, [])) == []

    def test_a_model_that_it_can_not_tune_is_refused_in_one_line(self, name: str, case: Case) -> None:
        case.backend.check(case.model)
        with made.refused("backend", "object"):
            case.backend.check(object())

    def test_an_estimate_is_an_upper_bound(self, name: str, case: Case) -> None:
        sets = training_sets(2)
        estimate = case.backend.estimate(case.model, sets)
        assert isinstance(estimate, Estimate)
        assert estimate.calls == len(sets)
        assert sum(tuned.cost_usd for tuned in case.backend.tune(case.model, sets)) <= estimate.dollars

    def test_a_probe_says_what_it_looked_at(self, name: str, case: Case) -> None:
        results = case.backend.probe(case.model)
        assert results
        assert all(result.ok and result.what for result in results), results

    def test_an_error_of_the_model_comes_through(self, name: str, case: Case) -> None:
        class Broken:
            def __getattr__(self, method: str) -> Any:
                if method in ("fit", "examples", "bytes_at_most"):
                    raise UserError("model.views: no text")
                return getattr(case.model, method)

        with made.refused("model.views"):
            list((case.broken or case.backend).tune(Broken(), training_sets(1)))
