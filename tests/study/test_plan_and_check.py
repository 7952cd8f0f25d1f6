"""`mode=plan` and `mode=check` ask the backend as well, and survive what it raises."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from tests import made
from tests.test_composition import base, hydra, usable

from silvertune import composition
from silvertune.errors import UserError
from silvertune.interfaces import CheckResult, Estimate, TrainingSet
from silvertune.study import check, plan
from silvertune.study.awaited import Awaited
from silvertune.study.job import Job, names_of_parts

__all__ = ["base", "hydra", "usable"]  # fixtures


class Asked:
    """A backend that keeps what it was asked, and answers as the test says."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer, self.sets = answer, [TrainingSet] * 0

    def estimate(self, model: Any, sets: Any) -> Estimate:
        self.sets = list(sets)
        return self.answer()  # type: ignore[no-any-return]

    def probe(self, model: Any) -> list[CheckResult]:
        return self.answer()  # type: ignore[no-any-return]


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


@pytest.fixture
def job(usable: dict[str, Any]) -> Job:
    parts = composition.build(usable)
    return Job([], usable, names_of_parts(usable, {"model": "tfidf", "backend": "mine"}), "identity", parts)


def with_backend(job: Job, answer: Callable[[], Any]) -> Job:
    return replace(job, parts=replace(job.parts, backend=Asked(answer)))  # type: ignore[arg-type]


def shown(show: Callable[..., Any], *arguments: Any) -> str:
    output = io.StringIO()
    show(Console(file=output, width=200), *arguments)
    return output.getvalue()


def test_a_plan_shows_what_tuning_costs_at_most(job: Job) -> None:
    asking = with_backend(job, lambda: Estimate(calls=5, tokens=1000, dollars=12.5))
    text = shown(plan.show, [asking], {}, {})
    assert "$12.50" in text
    assert "tuning takes at most 5 jobs, 1000 tokens, and $12.50" in text
    (folds,) = {len(asking.parts.backend.sets)}  # type: ignore[attr-defined]
    assert folds == job.parts.evaluation.folds


def test_a_plan_names_a_run_whose_variant_has_brackets(job: Job) -> None:
    swept = replace(job, config={**job.config, "variant": "labeler.annotators=[a]"})
    assert "/labeler.annotators=[a]" in shown(plan.show, [swept], {}, {})


def test_a_plan_says_what_a_run_waits_for(job: Job) -> None:
    def planned(awaited: Awaited) -> str:
        return " ".join(shown(plan.show, [job], {}, {job.name: awaited}).split())

    waits = planned(Awaited("answers.csv", 9, 4, "nine"))
    assert "│ wait for people │" in waits
    assert f"{job.name}: waits for people: 4 of 9 answer(s) are missing in answers.csv" in waits
    assert "go on: people have answered" in planned(Awaited("answers.csv", 9, 0, "nine"))
    assert "since it was last started: nine" in planned(Awaited("", 0, 0, "nine"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ConnectionError("no route\nto host"),
            "backend=mine, model=tfidf: the estimate failed (ConnectionError: no route",
        ),
        (UserError("backend.price=null: want dollars"), "backend.price=null: want dollars"),
    ],
)
def test_an_estimate_that_fails_is_said_in_one_line(job: Job, error: Exception, words: str) -> None:
    with made.refused(words):
        shown(plan.show, [with_backend(job, raising(error))], {}, {})


@pytest.mark.parametrize("error", [ConnectionError("no route\nto host"), UserError("backend.key_env=X: is not set")])
def test_a_probe_that_fails_is_a_result_beside_the_others(job: Job, error: Exception) -> None:
    text = shown(check.show, [with_backend(job, raising(error))])
    assert "fails" in text
    assert "backend=mine, model=tfidf: usable" in text
    assert str(error).split("\n")[0] in text
    assert "nothing to reach" in text  # the labeler's
    assert not check.show(Console(file=io.StringIO()), [with_backend(job, raising(error))])


def test_a_probe_that_is_well_is_shown(job: Job) -> None:
    text = shown(check.show, [with_backend(job, lambda: [CheckResult("quota is 4", True)])])
    assert "backend=mine, model=tfidf: quota is 4" in text
    assert "fails" not in text
