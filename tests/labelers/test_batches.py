"""Labelling by a provider's batches: each is made once, whatever is killed, lost or refused on the way."""

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import made
from tests.llms import anthropic_batches_double, gemini_batches_double, made_llms, openai_batches_double

from silvertune.backends.ledger import Ledger
from silvertune.backends.remote import Remote
from silvertune.labelers import batches
from silvertune.labelers.llm import StorePlace
from silvertune.llms import (
    Anthropic,
    Gemini,
    anthropic,
    anthropic_batches,
    asking,
    gemini,
    gemini_batches,
    openai_batches,
    openai_compatible,
)
from silvertune.llms.asking import OtherModelError
from silvertune.llms.interface import Price, UnusableError
from silvertune.schema import Task

fork = multiprocessing.get_context("fork")
N = 10
Double = openai_batches_double.Double | anthropic_batches_double.Double | gemini_batches_double.Double
PROVIDERS: dict[str, Any] = {
    "openai": openai_batches_double, "anthropic": anthropic_batches_double, "gemini": gemini_batches_double,
}  # fmt: skip


@pytest.fixture
def task() -> Task:
    return replace(made.SOE, answers={"soe": "YES", "other": "NO"})


@pytest.fixture(params=["openai", "anthropic"])
def double(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    yield from served(request, monkeypatch)


@pytest.fixture(params=PROVIDERS)
def each_double(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    yield from served(request, monkeypatch)


def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.setattr(batches, "GATHER_S", 0.05)
    monkeypatch.setattr(batches, "LOOK_AGAIN_S", 0.02)
    monkeypatch.setenv("BATCH_KEY", "AIzaSyTest-4f9a8b7c6d5e4f3a2b1c")
    provider = PROVIDERS[request.param]
    with provider.serving(provider.Double()) as running:
        yield running


def llm_of(double: Double, **changed: Any) -> Any:
    settings: dict[str, Any] = {"batch": True, "batch_poll_s": 0.02, "price": Price(1.0, 2.0)} | changed
    if isinstance(double, openai_batches_double.Double):
        return made_llms.openai(double.url, **settings)
    if isinstance(double, gemini_batches_double.Double):
        shipped: dict[str, Any] = {
            "model": "gemini-3.5-flash-lite", "project": None, "location": "global", "api_key_env": "BATCH_KEY",
            "temperature": None, "max_tokens": 50, "thinking_budget": None, "thinking_level": "minimal",
            "top_logprobs": None, "base_url": double.url, "limits": made_llms.limits(),
        }  # fmt: skip
        return Gemini(**(shipped | settings))
    usual: dict[str, Any] = {
        "model": "claude-double-1", "accept_model": None, "base_url": double.url, "api_key_env": None, "max_tokens": 50,
        "thinking": "disabled", "effort": "low", "structured": True, "limits": made_llms.limits(),
    }  # fmt: skip
    return Anthropic(**(usual | settings))


def half(double: Double) -> float:
    """What a request costs in a batch, at the prices of `llm_of`."""
    sent, received = double.tokens
    return 0.5 * (sent * 1e-6 + received * 2e-6)


def labeler(task: Task, double: Double, folder: Path, **changed: Any) -> Any:
    settings = {name: changed.pop(name) for name in ("price", "batch", "model") if name in changed}
    return made_llms.labeler(task, {"gpt": llm_of(double, **settings)}, folder, views=["text"], **changed)


def spent(folder: Path) -> float:
    store = StorePlace(None, 60.0, 3600.0).open(folder, None)
    try:
        return store.spent_usd()
    finally:
        store.close()


def statuses(table: pd.DataFrame) -> dict[str, int]:
    return {str(status): int(n) for status, n in table["status"].value_counts().items()}


def killed(run: Callable[[], Any]) -> None:
    """Run it in a process of its own, which kills itself."""
    process = fork.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == 9


# ------------------------------------------------------------------------------------------------------ what it gives


def test_votes_are_those_of_single_requests_at_half_the_price(task: Task, each_double: Double, tmp_path: Path) -> None:
    double = each_double
    singly = labeler(task, double, tmp_path / "singly", batch=False).label(made.items(N))
    before = double.received
    one = labeler(task, double, tmp_path)
    table = one.label(made.items(N))
    assert len(double.batches) == 1
    assert double.received == before + 1  # a question of ours, which shows what the model takes
    columns = ["item_id", "annotator", "label", "status", "confidence", "model", "raw", "prob:soe", "signs"]
    pd.testing.assert_frame_equal(table[columns], singly[columns])
    # Our question costs a whole request.
    assert spent(tmp_path) == pytest.approx(N * half(double) + 2 * half(double))
    pd.testing.assert_frame_equal(one.label(made.items(N)), table)
    assert len(double.batches) == 1
    # Answers bought singly are found by batches, and the other way round: nothing else is asked.
    labeler(task, double, tmp_path / "singly").label(made.items(N))
    assert len(double.batches) == 1


def test_many_requests_go_by_several_batches(
    task: Task, double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[Any, tuple[Any, Any]] = {
        openai_batches_double.Double: (openai_batches.OpenAIBatches, openai_compatible),
        anthropic_batches_double.Double: (anthropic_batches.AnthropicBatches, anthropic),
        gemini_batches_double.Double: (gemini_batches.GeminiBatches, gemini),
    }
    kind, module = kinds[type(double)]
    monkeypatch.setattr(module, kind.__name__, lambda *settings: kind(*settings, most_requests=4))
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert sorted(double.sizes()) == [2, 4, 4]
    monkeypatch.setattr(module, kind.__name__, lambda *settings: kind(*settings, most_bytes=5000))
    labeler(task, double, tmp_path / "bytes").label(made.items(N))
    assert len(double.batches) > 5
    assert sum(double.sizes()) == 2 * N


def test_each_repeat_is_a_request_of_its_own(task: Task, double: Double, tmp_path: Path) -> None:
    sampled = {"temperature": 1.0} if isinstance(double, openai_batches_double.Double) else {}
    table = made_llms.labeler(task, {"gpt": llm_of(double, **sampled)}, tmp_path, views=["text"], repeats=3).label(
        made.items(4)
    )
    assert statuses(table) == {"ok": 12}
    assert len(double.answered) == 12


def test_an_answer_that_can_not_be_read_is_asked_for_once_more_in_a_batch(
    task: Task, double: Double, tmp_path: Path
) -> None:
    double.says = lambda text: "MAYBE"
    table = labeler(task, double, tmp_path).label(made.items(N))
    assert statuses(table) == {"parse_error": N}
    assert len(double.batches) == 2
    assert spent(tmp_path) == pytest.approx((2 * N + 2) * half(double))


def test_a_plan_shows_both_prices(task: Task, double: Double, tmp_path: Path) -> None:
    price = Price(1000.0, 2000.0, "2026-11-29")
    singly = labeler(task, double, tmp_path, batch=False, price=price).estimate(made.items(N))["gpt"]
    by_batches = labeler(task, double, tmp_path, price=price).estimate(made.items(N))["gpt"]
    assert by_batches.dollars == pytest.approx(singly.dollars / 2)
    assert singly.notes == by_batches.notes
    words = (
        f"gpt: ${by_batches.dollars:.2f} by batches (labeler.llm.gpt.batch=true), ${singly.dollars:.2f} singly; prices"
    )
    assert singly.notes[0].startswith(words)


# --------------------------------------------------------------------------------------------------- made only once


@pytest.mark.parametrize("where", ["made", "before the first look", "answered"])
def test_a_batch_that_outlives_its_process_is_found_again(
    task: Task, each_double: Double, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the provider has the batch and the answer is on its way, when it is noted down, and at its end."""
    double = each_double

    def dies(*_: Any, **__: Any) -> Any:
        os._exit(9)

    with monkeypatch.context() as dying:
        if where == "made":
            dying.setattr(Ledger, "mark_running", dies)
        elif where == "before the first look":
            dying.setattr(Remote, "_look", dies)
        else:
            dying.setattr(batches._Run, "_end", dies)
        killed(lambda: labeler(task, double, tmp_path).label(made.items(N)))
    assert len(double.batches) == 1
    assert spent(tmp_path) == 0
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 1
    assert set(double.answered.values()) == {1}
    assert spent(tmp_path) == pytest.approx((N + 2) * half(double))


def test_a_batch_whose_results_are_gone_is_made_anew_and_it_is_said(
    task: Task, double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not isinstance(double, gemini_batches_double.Double)
    with monkeypatch.context() as dying:
        dying.setattr(batches._Run, "_end", lambda *_: os._exit(9))
        killed(lambda: labeler(task, double, tmp_path).label(made.items(N)))
    double.forget_results()
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 2
    assert "does not have the results of batch" in capsys.readouterr().err


def _with_marks(lines: list[str]) -> list[str]:
    """Marks that Unicode takes for ends of lines, in the lines."""
    told = ({"more": "a\u2028b\x85c"} | json.loads(line) for line in lines)
    return [json.dumps(line, ensure_ascii=False) + "\n" for line in told]


@pytest.mark.parametrize(
    ("alter", "unread"),
    [
        (lambda lines: [lines[0], "no JSON\n", "[]\n", "{}\n", *lines[1:]], 3),
        (lambda lines: [part for line in lines for part in (line, "\n")], 0), (_with_marks, 0),
        (lambda lines: [*lines, *lines[:2]], 0),
    ],
    ids=["other lines", "blank lines", "marks of lines in lines", "twice"],
)  # fmt: skip
def test_results_are_taken_from_a_file_that_has_other_lines_too(
    task: Task,
    double: Double,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    alter: Callable[[list[str]], list[str]],
    unread: int,
) -> None:
    assert not isinstance(double, gemini_batches_double.Double)
    double.alter = alter
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 1
    told = f"{unread} of the {N + unread} results of batch"
    assert (told in capsys.readouterr().err) == (unread > 0)


def test_a_result_that_can_not_be_read_costs_its_request_alone(
    task: Task, double: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not isinstance(double, gemini_batches_double.Double)
    double.alter = lambda lines: [*lines[:-1], lines[-1][:60]] if len(lines) == N else lines
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert sorted(double.sizes()) == [1, N]
    assert "without 1 result(s)" in capsys.readouterr().err


def test_results_that_are_not_there_at_the_first_look_are_paid_for_once(
    task: Task, double: Double, tmp_path: Path
) -> None:
    assert not isinstance(double, gemini_batches_double.Double)
    double.not_yet = 3
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 1


@pytest.fixture
def of_openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[openai_batches_double.Double]:
    monkeypatch.setattr(batches, "GATHER_S", 0.05)
    monkeypatch.setattr(batches, "LOOK_AGAIN_S", 0.02)
    with openai_batches_double.serving(openai_batches_double.Double()) as running:
        yield running


@pytest.mark.parametrize(
    "states",
    [{"in_progress": "queued"}, {"in_progress": "IN_PROGRESS", "completed": "COMPLETED"}, {"completed": "succeeded"},
     {"completed": "all_done"}],
    ids=str,
)  # fmt: skip
def test_a_state_by_another_name_makes_no_second_batch(
    task: Task, of_openai: openai_batches_double.Double, tmp_path: Path, states: dict[str, str]
) -> None:
    of_openai.looks, of_openai.states = 2, states
    assert statuses(labeler(task, of_openai, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(of_openai.batches) == 1


def test_a_batch_that_names_its_results_late_is_paid_for_once(
    task: Task, of_openai: openai_batches_double.Double, tmp_path: Path
) -> None:
    of_openai.late = 4
    assert statuses(labeler(task, of_openai, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(of_openai.batches) == 1


def test_a_process_that_dies_before_the_request_leaves_leaves_no_batch(
    task: Task, double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(Ledger, "mark_sent", lambda *_: os._exit(9))
        killed(lambda: labeler(task, double, tmp_path).label(made.items(N)))
    assert len(double.batches) == 0
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 1


def test_more_items_after_a_kill_make_a_batch_of_the_others(
    task: Task, double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(Remote, "_look", lambda *_: os._exit(9))
        killed(lambda: labeler(task, double, tmp_path).label(made.items(N)))
    assert statuses(labeler(task, double, tmp_path).label(made.items(N + 5))) == {"ok": N + 5}
    assert len(double.batches) == 2
    assert set(double.answered.values()) == {1}


def test_a_batch_whose_answer_is_lost_is_found_by_its_label(task: Task, each_double: Double, tmp_path: Path) -> None:
    double = each_double
    labeler(task, double, tmp_path / "a").label(made.items(2))
    labeler(task, double, tmp_path / "b").label(made.items(2))
    labeler(task, double, tmp_path / "c").label(made.items(2))  # others, so that the list has several pages
    double.lost = 1
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 4


def test_a_batch_that_is_in_doubt_is_not_sent_again(task: Task, each_double: Double, tmp_path: Path) -> None:
    double = each_double
    double.refusals = [double.refusal(503, "overloaded")]
    with made.refused("labeler.llm.gpt.batch: it is unknown whether a batch was made", "silvertune-jobs forget"):
        labeler(task, double, tmp_path).label(made.items(N))
    with made.refused("it is unknown whether a batch was made"):
        labeler(task, double, tmp_path).label(made.items(N))
    assert len(double.batches) == 0
    ledger = Ledger(f"sqlite:///{tmp_path / 'batches.sqlite'}", budget_usd=None, lease_s=60.0)
    (entry,) = ledger.entries()
    ledger.forget(entry.key)
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 1


# ---------------------------------------------------------------------------------------------- what does not go well


def test_a_provider_that_has_no_room_is_waited_for(task: Task, each_double: Double, tmp_path: Path) -> None:
    double = each_double
    double.refusals = [double.refusal(429, "slower", {"Retry-After": "0.05"}) for _ in range(2)]
    if isinstance(double, openai_batches_double.Double):
        double.fates = ["token_limit_exceeded"]  # of waiting tokens: the batch fails when it is looked at
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 2 if isinstance(double, openai_batches_double.Double) else 1
    assert set(double.answered.values()) == {1}


@pytest.mark.parametrize("fate", ["expired", "cancelled"])
def test_half_a_batch_is_taken(task: Task, each_double: Double, tmp_path: Path, fate: str) -> None:
    double = each_double
    double.fates = [fate]
    table = labeler(task, double, tmp_path).label(made.items(N))
    assert set(double.answered.values()) == {1}
    if fate == "expired":  # the others are asked again
        assert statuses(table) == {"ok": N}
        assert len(double.batches) == 2
        assert spent(tmp_path) == pytest.approx((N + 2) * half(double))
        return
    # Somebody cancelled it: the others wait for another start.
    assert statuses(table) == {"ok": N // 2, "api_error": N // 2}
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert len(double.batches) == 2


def test_a_request_that_fails_in_its_batch_goes_with_another(task: Task, each_double: Double, tmp_path: Path) -> None:
    double = each_double
    seen: Counter[str] = Counter()

    def fails(text: str) -> bool:
        seen[text] += 1
        return sum(seen.values()) <= 3

    double.fails = fails
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    assert sum(seen.values()) == N + 3
    assert spent(tmp_path) == pytest.approx((N + 2) * half(double))


def test_a_batch_that_the_provider_refuses_stops_it(task: Task, double: Double, tmp_path: Path) -> None:
    double.refusals = [double.refusal(400, "invalid window")]
    with made.refused("labeler.llm.gpt.batch: the provider refused the batch: 400: invalid window"):
        labeler(task, double, tmp_path).label(made.items(N))
    if isinstance(double, openai_batches_double.Double):
        double.fates = ["invalid_json_line"]
        with made.refused("labeler.llm.gpt.batch: batch batch_0 failed", "invalid_json_line"):
            labeler(task, double, tmp_path).label(made.items(N))
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}


def test_a_model_that_is_rerouted_or_refuses_is_found_out_before_a_batch_is_made(
    task: Task, each_double: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    double = each_double
    if not isinstance(double, gemini_batches_double.Double):
        double.refuses = ("response_format", "output_config.format")
    assert statuses(labeler(task, double, tmp_path).label(made.items(N))) == {"ok": N}
    if not isinstance(double, gemini_batches_double.Double):
        assert "format; asking without it" in capsys.readouterr().err
    double.fixed = lambda: double.refusal(401, "no")
    with pytest.raises(UnusableError, match="refused"):
        labeler(task, double, tmp_path / "key").label(made.items(N))
    double.fixed = None
    if isinstance(double, openai_batches_double.Double):  # the other answers in the name that it was asked by
        with pytest.raises(OtherModelError, match="accept_model=double-1"):
            labeler(task, double, tmp_path / "other", model="other-1").label(made.items(N))
    assert len(double.batches) == 1


def test_batches_of_others_are_not_taken_for_ours(
    task: Task, double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others with as many requests, one that has ended and one that runs, and the answer to our own is lost."""
    labeler(task, double, tmp_path / "ended").label(made.items(2 * N).iloc[N:])
    double.looks = 10**6
    with monkeypatch.context() as dying:
        dying.setattr(Remote, "_look", lambda *_: os._exit(9))
        killed(lambda: labeler(task, double, tmp_path / "runs").label(made.items(3 * N).iloc[2 * N :]))
    for batch in double.batches.values():
        batch["at"] = batch.get("at", 0.0) - 3600
    double.looks, double.lost = 1, 1
    table = labeler(task, double, tmp_path).label(made.items(N))
    assert statuses(table) == {"ok": N}
    assert len(double.batches) == 3


def test_a_budget_counts_what_runs_on_at_the_provider(
    task: Task, double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = 0.05  # of a request of these items, at most
    price = Price(10.0, 20.0)
    with made.refused("labeler.budget_usd=0.001"):
        labeler(task, double, tmp_path / "little", price=price, budget_usd=0.001).label(made.items(N))
    assert len(double.batches) == 0
    with monkeypatch.context() as dying:
        dying.setattr(Remote, "_look", lambda *_: os._exit(9))
        killed(lambda: labeler(task, double, tmp_path, price=price, budget_usd=N * reserve).label(made.items(N)))
    # Others find no room, though nobody has written down a cost yet.
    others = made.items(3 * N).iloc[N:]
    with made.refused("labeler.budget_usd"):
        labeler(task, double, tmp_path, price=price, budget_usd=N * reserve / 4).label(others)
    table = labeler(task, double, tmp_path, price=price, budget_usd=N * reserve).label(made.items(N))
    assert statuses(table) == {"ok": N}
    assert spent(tmp_path) <= N * reserve


def test_an_interrupt_leaves_the_batch_to_the_next_start(
    task: Task, double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "GRACE_S", 0.05)
    double.looks = 10**6

    with monkeypatch.context() as stopping:
        stopping.setattr(asking._Asking, "_renew", interrupted_when(lambda: len(double.batches) == 1))
        with pytest.raises(KeyboardInterrupt):
            labeler(task, double, tmp_path, store=StorePlace(None, 0.5, 3600.0)).label(made.items(N))
    told = capsys.readouterr().err
    assert "1 batch(es) run on and bill at the provider; the same command takes their results" in told
    next(iter(double.batches.values()))["looks"] = 0
    assert statuses(labeler(task, double, tmp_path, store=StorePlace(None, 0.5, 3600.0)).label(made.items(N))) == {
        "ok": N
    }
    assert len(double.batches) == 1


def interrupted_when(is_time: Callable[[], bool]) -> Callable[[Any], Any]:
    async def renew(asking: Any) -> None:
        import asyncio
        import signal

        while not is_time():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    return renew


# ------------------------------------------------------------------------------------------------------- what runs on


def left_running(task: Task, double: Double, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kill a labelling whose batch runs on; the batch's key in the ledger."""
    with monkeypatch.context() as dying:
        dying.setattr(Remote, "_look", lambda *_: os._exit(9))
        killed(lambda: labeler(task, double, folder).label(made.items(N)))
    (entry,) = Ledger(batches.ledger_url(None, folder), budget_usd=None, lease_s=60.0).entries()
    assert entry.state == "running"
    return entry.job


def test_a_cancelled_batch_gives_what_it_has_answered_and_the_rest_is_told(
    task: Task, each_double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = each_double
    double.looks = 10**6
    job = left_running(task, double, tmp_path, monkeypatch)
    llm = llm_of(double)
    llm.cancel_batch(job)
    table = labeler(task, double, tmp_path).label(made.items(N))
    assert statuses(table) == {"ok": N // 2, "api_error": N // 2}
    assert len(double.batches) == 1
    with pytest.raises(Exception, match=r"ended|status|cancel"):
        llm.cancel_batch(job)


def test_asking_singly_while_a_batch_runs_on_is_said(
    task: Task,
    double: Double,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labeler(task, double, tmp_path / "other", batch=False).label(made.items(N))
    assert "batch" not in capsys.readouterr().err
    double.looks = 1
    left_running(task, double, tmp_path, monkeypatch)
    labeler(task, double, tmp_path, batch=False).label(made.items(N))
    told = capsys.readouterr().err
    assert f"1 batch(es) with {N} question(s)" in told
    assert "labeler.llm.gpt.batch=true takes them" in told
