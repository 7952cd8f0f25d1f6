"""What is shown of a sweep: each run that ends, once, by looks that do not become dearer with every run."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.store.entities import PagedList

from silvertune.study import progress


class Store:
    """A client of a store in which a run ends now and then."""

    tracking_uri = "sqlite:///runs.db"

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.queries: list[str] = []

    def end(self, name: str, status: str = "FINISHED", ended: float | None = None) -> None:
        info = SimpleNamespace(run_id=name, run_name=name, status=status, end_time=1000 * (ended or time.time()))
        data = SimpleNamespace(metrics={"wall_s": 1.0}, tags={"error": "it fell over"})
        self.runs.append(SimpleNamespace(info=info, data=data))

    def search_runs(self, experiments: list[str], query: str, **_: Any) -> Any:
        self.queries.append(query)
        since = float(query.partition("end_time >= ")[2] or 0)
        return PagedList([run for run in self.runs if run.info.end_time >= since], None)


def test_each_run_that_ends_is_shown_once_whenever_it_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LATE_S", 5.0)
    store = Store()
    store.end("before")
    with progress.shown(store, "1", "sweep", 3):  # type: ignore[arg-type]
        store.end("first")
        until = time.monotonic() + 20
        while len(store.queries) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        store.end("clock-behind", "FAILED", ended=time.time() - 3600)
    shown = capsys.readouterr().err
    assert shown.count("first: kept") == 1
    assert shown.count("FAILED clock-behind: it fell over") == 1
    assert "before" not in shown
    first, *looks, last = store.queries
    assert "end_time" not in first + last
    assert all("attributes.end_time >= " in look for look in looks)
    assert looks
