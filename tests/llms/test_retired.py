from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import made
from tests.llms import made_llms, openai_double

from silvertune.llms import retired
from silvertune.llms.interface import LLMTraits
from silvertune.llms.retired import ending


class On(date):
    """Stops the clock on the day that the study is written."""

    @classmethod
    def today(cls) -> date:
        return date(2026, 11, 29)


@pytest.fixture(autouse=True)
def _on_that_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retired, "date", On)
    retired._say.cache_clear()


@pytest.mark.parametrize(
    ("service", "model", "on", "instead"),
    [
        ("vertex", "gemini-2.5-flash-lite", "2026-10-20", "gemini-3.5-flash-lite"),
        ("vertex", "publishers/google/models/gemini-2.5-pro", "2026-10-20", "gemini-3.8-flash"),
        ("gemini", "models/gemini-2.5-flash", "2026-12-01", "gemini-3.5-flash-lite"),
        ("openai", "gpt-4.1-mini-2025-04-14", "2027-01-14", "gpt-6-luna"),
        ("openai", "gpt-4", "2026-10-23", "gpt-6-luna"),
        ("openai", "gpt-5-mini", "2026-12-11", "gpt-6-luna"),
        ("openai", "gpt-5.1", "2027-04-01", "gpt-6-luna"),
        ("anthropic", "claude-3-5-haiku-20241022", "2026-04-20", "claude-haiku-5-5"),
    ],
)
def test_a_model_that_ends_has_a_day_and_another_in_its_place(service: str, model: str, on: str, instead: str) -> None:
    found = ending(service, model)
    assert found is not None
    assert (found.on.isoformat(), found.instead) == (on, instead)
    assert ending(service, found.instead) is None


@pytest.mark.parametrize(
    ("service", "model"),
    [("gemini", "gemini-2.5-flash-lite"), ("gemini", "gemini-3.5-flash"), ("openai", "gpt-5.6-luna"),
     ("openai", "gpt-6-luna"), ("azure", "gpt-4"), ("ollama", "o1"), ("anthropic", "claude-haiku-4-5")],
)  # fmt: skip
def test_others_do_not(service: str, model: str) -> None:
    assert ending(service, model) is None


def test_a_model_that_has_ended_is_refused_and_one_that_will_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with made.refused("labeler.llm.<name>.model=gpt-4", "ended it on 2026-10-23", "gpt-6-luna"):
        retired.refuse("openai", "gpt-4", "labeler.llm.<name>.model")
    for _ in range(2):
        retired.refuse("openai", "gpt-4.1-mini", "labeler.llm.<name>.model")
    told = "silvertune: gpt-4.1-mini is served until 2027-01-14; then gpt-6-luna does its work\n"
    assert capsys.readouterr().err == told
    assert [(result.ok, "gpt-6-luna" in result.mend) for result in retired.check("openai", "gpt-4")] == [(False, True)]
    assert [result.ok for result in retired.check("openai", "gpt-4.1-mini")] == [True]


def test_it_is_refused_before_anything_is_asked_and_not_where_another_is_accepted(tmp_path: Path) -> None:
    task: Any = made.SOE
    with openai_double.serving(openai_double.Double()) as double:
        gpt4 = made_llms.openai(double.url, family="openai", model="gpt-4")
        with made.refused("labeler.llm.gpt.model=gpt-4", "has ended"):
            made_llms.labeler(task, {"gpt": gpt4}, tmp_path).label(made.items(2))
        assert double.received == 0
        assert not gpt4.check()[-1].ok
        accepting = made_llms.openai(double.url, family="openai", model="gpt-4", accept_model="double-1")
        double.says = lambda _: "soe"
        made_llms.labeler(task, {"gpt": accepting}, tmp_path).label(made.items(2))
        assert double.received == 4


def test_no_shipped_model_ends_soon() -> None:
    for path in Path("conf/labeler/llm").glob("*.yaml"):
        for settings in yaml.safe_load(path.read_text()).values():
            for service in ("gemini", "vertex", "openai", "anthropic"):
                assert ending(service, settings["model"] or "") is None


def test_a_plan_tells_of_models_that_end() -> None:
    (ended,) = retired.notes("openai", "o3-mini")
    assert ended == "o3-mini was ended by its provider on 2026-10-23; want gpt-6-luna or another"
    assert retired.notes("openai", "gpt-6-luna") == ()
    llm = made_llms.openai("http://127.0.0.1:1/v1", family="openai", model="gpt-4-turbo")
    assert LLMTraits.of(llm).notes == retired.notes("openai", "gpt-4-turbo") != ()
    accepted = made_llms.openai("http://127.0.0.1:1/v1", family="openai", model="gpt-4-turbo", accept_model="x")
    assert LLMTraits.of(accepted).notes == ()
