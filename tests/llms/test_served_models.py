"""A provider that lets another model answer than the one that was asked."""

import sqlite3
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests import made
from tests.llms import gemini_double, made_llms, openai_double

from silvertune.labelers.llm import StorePlace
from silvertune.llms import Gemini, Price
from silvertune.llms import gemini as gemini_module
from silvertune.llms.asking import OtherModelError
from silvertune.llms.served_models import differs, version_of
from silvertune.schema import Task


@pytest.mark.parametrize(
    ("served", "asked"),
    [
        ("gpt-x-2026-08-01", "gpt-x"), ("gpt-x", "gpt-x-2026-08-01"), ("gpt-4-0613", "gpt-4"),
        ("gpt-6-luna-2026-09-22", "openai/gpt-6-luna"), ("models/gemini-3.5-flash-lite-001", "gemini-3.5-flash-lite"),
        ("publishers/google/models/gemini-3.5-flash", "models/gemini-3.5-flash"), ("qwen3:8b", "qwen3"),
        ("qwen3", "qwen3:latest"), ("Qwen/Qwen3-8B", "qwen/qwen3-8b"), ("claude-x@20251001", "claude-x"),
        ("Qwen/Qwen3-0.6B@main", "Qwen/Qwen3-0.6B"), ("/tmp/tiny@main", "/tmp/tiny"),
        ("claude-x-20241022", "claude-x-latest"), ("command-r-08-2024", "command-r"), ("/models/q.gguf", "my-model"),
        ("C:\\models\\q.gguf", "my-model"), ("q.gguf", "my-model"), ("", "my-model"),
        ("gemini-3.5-flash-lite", "projects/p/locations/l/endpoints/7"),
    ],
)  # fmt: skip
def test_versions_of_a_model_are_that_model(served: str, asked: str) -> None:
    assert not differs(served, asked)


@pytest.mark.parametrize(
    ("served", "asked"),
    [
        ("gemini-3.5-flash-lite", "gemini-2.5-flash"), ("gemini-3.5-flash-lite", "gemini-3.5-flash"),
        ("gpt-4.1-mini", "gpt-4.1"), ("gpt-4-32k", "gpt-4"), ("gpt-x-2026-08-01", "gpt-x-2026-01-01"),
        ("qwen3:8b", "qwen3:4b"), ("claude-opus-4-5", "claude-opus-4"), ("a/Qwen3-8B", "b/Qwen3-8B"),
        ("gemini-2.5-flash-lite-001", "gemini-2.5-flash"), ("gpt-6-luna", "my-deployment"),
    ],
)  # fmt: skip
def test_another_model_is_another_model(served: str, asked: str) -> None:
    assert differs(served, asked)
    assert differs(asked, served)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_names_can_be_compared(served: str, asked: str) -> None:
    assert not differs(served, served)
    assert isinstance(differs(served, asked), bool)


def test_where_a_file_lies_is_no_version() -> None:
    assert version_of("/a/b/q.gguf") == version_of("C:\\q.gguf") == "q.gguf"
    assert version_of("models/gemini-3.5-flash") == "gemini-3.5-flash"
    assert version_of("openai/gpt-x") == "openai/gpt-x"


# ------------------------------------------------------------------------------------------------- while it labels


@pytest.fixture
def task() -> Task:
    return replace(made.SOE, answers={"soe": "YES", "other": "NO"})


def spent(folder: Path) -> float:
    store = StorePlace(None, 60.0, 3600.0).open(folder, None)
    try:
        return store.spent_usd()
    finally:
        store.close()


def openai_as(served: Any) -> Any:
    """Answers YES, in the name of the models that `served` gives, one after another."""
    said = openai_double.completion({}, '{"label": "YES"}', "YES")
    return lambda: web.Response(text=said.replace("double-1-2026-01-01", next(served)))


def test_a_rerouted_model_stops_the_labelling_and_what_it_answered_is_kept_for_it(task: Task, tmp_path: Path) -> None:
    with openai_double.serving(openai_double.Double()) as double:
        double.fixed = openai_as(iter(lambda: "cheap-2", ""))
        settings: dict[str, Any] = {"price": Price(1.0, 1.0), "limits_": made_llms.limits(concurrency=4)}

        def labeler(**changed: Any) -> Any:
            return made_llms.labeler(task, {"gpt": made_llms.openai(double.url, **settings, **changed)}, tmp_path)

        with pytest.raises(OtherModelError) as caught:
            labeler().label(made.items(20))
        line = str(caught.value)
        assert "labeler.llm.gpt.model: double-1 was asked, and now cheap-2 answers" in line
        assert "labeler.llm.gpt.accept_model=cheap-2" in line
        assert "\n" not in line
        paid = double.received
        assert 1 <= paid <= 4
        assert spent(tmp_path) == pytest.approx(paid * 105e-6)
        # No vote of the model that was asked came of it, and those of the other are not paid for again.
        assert labeler().estimate(made.items(20))["gpt"].stored == 0
        accepting = labeler(accept_model="cheap-2")
        assert accepting.estimate(made.items(20))["gpt"].stored == paid
        table = accepting.label(made.items(20))
        assert double.received == 40
        assert set(table["model"]) == {"cheap-2"}
        assert spent(tmp_path) == pytest.approx(40 * 105e-6)
        # Who accepts another model does not accept any.
        double.fixed = openai_as(iter(lambda: "cheap-3", ""))
        with made.refused("cheap-2 was asked, and now cheap-3 answers"):
            labeler(accept_model="cheap-2").label(made.items(30))


def test_a_version_that_changes_in_the_middle_stops_it(task: Task, tmp_path: Path) -> None:
    with openai_double.serving(openai_double.Double()) as double:
        double.fixed = openai_as(iter(["double-1-2026-01-01"] * 10 + ["double-1-2026-06-01"] * 90))
        one_by_one = made_llms.limits(concurrency=1)

        def labeler(**changed: Any) -> Any:
            return made_llms.labeler(
                task, {"gpt": made_llms.openai(double.url, limits_=one_by_one, **changed)}, tmp_path, views=["text"]
            )

        changed = "double-1 was asked and double-1-2026-01-01 answered, and now double-1-2026-06-01 answers"
        with made.refused(changed, "accept_model=double-1-2026-06-01"):
            labeler().label(made.items(20))
        assert double.received == 11
        with made.refused(changed):  # and so does a later start, which finds the answers of the first version
            labeler().label(made.items(20))
        assert double.received == 12
        table = labeler(accept_model="double-1-2026-06-01").label(made.items(20))
        assert set(table["model"]) == {"double-1-2026-06-01"}
        assert double.received == 12 + 19  # one was answered twice by it
        # What needs no question is not stopped.
        assert len(labeler().label(made.items(10))) == 10


def test_gemini_that_google_reroutes_stops(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_TEST_KEY", "AIzaSyTest-4f9a8b7c6d5e4f3a2b1c")
    gemini_module._PROBES.clear()
    with ExitStack() as stack:
        double = stack.enter_context(gemini_double.serving(gemini_double.Double()))
        model = Gemini(
            model="gemini-2.5-flash-lite", project=None, location="global", api_key_env="GEMINI_TEST_KEY",
            temperature=0.0, max_tokens=50, thinking_budget=0, top_logprobs=None, base_url=double.url,
            price=Price(1.0, 2.0), limits=made_llms.limits(concurrency=2),
        )  # fmt: skip
        with made.refused("gemini-2.5-flash-lite was asked, and now gemini-3.5-flash-lite answers"):
            made_llms.labeler(task, {"gemini": model}, tmp_path).label(made.items(10))
        assert len(double.requests) <= 2
        accepting = replace(model, accept_model="gemini-3.5-flash-lite")
        table = made_llms.labeler(task, {"gemini": accepting}, tmp_path).label(made.items(10))
        assert set(table["status"]) == {"ok"}
        assert len(double.requests) == 20


def test_stored_answers_of_two_models_are_told(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labeler = made_llms.labeler(task, {"gpt": made_llms.Scripted()}, tmp_path, views=["text"])
    labeler.label(made.items(2))
    assert capsys.readouterr().err == ""
    with sqlite3.connect(tmp_path / "labels.sqlite") as database:  # as an earlier version left it
        database.execute("UPDATE answers SET model = 'scripted-2' WHERE key = (SELECT min(key) FROM answers)")
    database.close()
    assert len(labeler.label(made.items(2))) == 2
    told = capsys.readouterr().err
    assert "gpt: the stored answers are of 2 models, scripted-1 and scripted-2" in told
