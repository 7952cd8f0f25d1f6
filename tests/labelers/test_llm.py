import json
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import made
from tests.llms import made_llms
from tests.llms.made_llms import Scripted
from tests.llms.openai_double import FAULTS, RETRIED, Double, error, serving
from tests.llms.test_untrusted_text import HOSTILE

from silvertune import votes
from silvertune.labelers.llm import FewShot, StorePlace
from silvertune.llms import asking
from silvertune.llms.asking import BudgetError
from silvertune.llms.interface import Price, Request, UnusableError
from silvertune.schema import Task


@pytest.fixture
def task() -> Task:
    return replace(made.SOE, answers={"soe": "YES", "other": "NO"})


def counts(table: pd.DataFrame) -> dict[str, int]:
    return {str(name): int(n) for name, n in table["status"].value_counts().items()}


# ------------------------------------------------------------------------------------------------ prompts to votes


def test_every_prompt_view_llm_and_repeat_is_a_vote(task: Task, tmp_path: Path) -> None:
    task.prompts = {"json": "Is it?", "text": {"strict": "Is it, strictly?", "loose": "Might it be?"}}
    llms = {name: Scripted(temperature=1.0) for name in ("gpt", "gemini")}
    table = made_llms.labeler(task, llms, tmp_path, repeats=2).label(made.items(5))
    assert len(table) == 5 * 3 * 2 * 2
    by = Counter(zip(table["annotator"], table["view"], table["repeat"], strict=True))
    assert by == {
        (f"{name}{prompt}", view, repeat): 5
        for name in llms
        for view, prompt in (("json", ""), ("text", "/strict"), ("text", "/loose"))
        for repeat in (0, 1)
    }
    votes.check(table, task.classes, made.items(5).index, "it")


def test_an_llm_is_asked_the_question_of_the_view_by_the_words_of_the_task(task: Task, tmp_path: Path) -> None:
    task.prompts = {"text": "Is this a schedule?"}
    llm = Scripted()
    made_llms.labeler(task, {"gpt": llm}, tmp_path, reason=True, confidence=True).label(made.items(1))
    asked = [request for request in llm.requests if len(request.messages) == 2]
    by_question = {request.messages[0].content.splitlines()[0]: request for request in asked}
    own = by_question["Is this a schedule?"]
    assert own.words == ("NO", "YES")
    assert own.fields == ("reason", "label", "confidence")
    assert made.items(1)["text"].iloc[0] in own.messages[-1].content
    described = by_question["Say which of these a text is (soe)."]
    assert "YES: Visits across, assessments down" in described.messages[0].content


def test_what_it_says_of_its_confidence_counts_where_it_tells_no_probabilities(task: Task, tmp_path: Path) -> None:
    def says(_: Request) -> str:
        return '{"label": "YES", "confidence": 0.7}'

    table = made_llms.labeler(task, {"gpt": Scripted(says)}, tmp_path, confidence=True).label(made.items(2))
    assert set(table["confidence"]) == {0.7}
    assert table[votes.prob_columns(task.classes)].isna().all(axis=None)


def test_votes_carry_tokens_cost_and_the_raw_answer(task: Task, tmp_path: Path) -> None:
    llm = Scripted(price=Price(10.0, 100.0))
    labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path)
    table = labeler.label(made.items(3))
    assert set(table["tokens_in"]) == {100}
    assert set(table["cost_usd"]) == {100 * 10e-6 + 5 * 100e-6}
    assert set(table["model"]) == {"scripted-1"}
    assert json.loads(table["raw"].iloc[0])["label"] in ("YES", "NO")
    # What is read from the store is the same, its price included.
    pd.testing.assert_frame_equal(labeler.label(made.items(3)), table)
    assert len(llm.requests) == 6


def test_answers_that_were_paid_for_by_an_earlier_version_are_found(task: Task, tmp_path: Path) -> None:
    llm = Scripted(temperature=1.0)
    table = made_llms.labeler(task, {"gpt": llm}, tmp_path, views=["text"], repeats=2).label(made.items(1))
    assert len(table) == 2
    store = StorePlace(None, 60.0, 3600.0).open(tmp_path, None)
    keys = ["6b6e84b5ff401ea86772eefd9058c594aebd992265ab717a2a046cbf7d68884c",
            "cde2705421bb7e27dc5f641500eedc02ba27a7924a25ca1225e8d201936dfc85"]  # fmt: skip
    assert list(store.read(keys)) == keys
    store.close()


def test_the_same_question_is_asked_once_for_all_items(task: Task, tmp_path: Path) -> None:
    items = made.items(6).assign(json='[["same"]]')
    llm = Scripted()
    table = made_llms.labeler(task, {"gpt": llm}, tmp_path).label(items)
    assert len(table) == 12
    assert len(llm.requests) == 7


@pytest.mark.parametrize(
    "changed",
    [{"reason": True}, {"confidence": True}, {"max_item_tokens": 60}, {"llm": Scripted(temperature=0.5)},
     {"prompt": "Else?"}, {"example": "Visit"}, {"words": {"soe": "JA", "other": "NEIN"}}],
)  # fmt: skip
def test_whatever_can_change_the_answer_is_asked_anew(task: Task, tmp_path: Path, changed: dict[str, Any]) -> None:
    task.prompts = {"json": "Is it?", "text": "Is it?"}
    made_llms.labeler(task, {"gpt": Scripted()}, tmp_path).label(made.items(2))
    task.prompts = {"json": changed.pop("prompt", "Is it?"), "text": "Is it?"}
    task.answers = changed.pop("words", task.answers)
    shown = changed.pop("example", None)
    task.examples = [{"view": "json", "text": shown, "label": "soe"}] if shown else []
    llm = changed.pop("llm", Scripted())
    made_llms.labeler(task, {"other": llm}, tmp_path, **changed).label(made.items(2))
    assert len(llm.requests) >= 2


def test_examples_come_from_training_groups_only(task: Task, tmp_path: Path) -> None:
    items = made.items(12)
    annotations = made.data(12).annotations
    llm, shots = Scripted(), FewShot("expert", 1)
    labeler = made_llms.labeler(
        task, {"gpt": llm}, tmp_path, few_shot=shots, annotations=annotations, training=items.iloc[:3], views=["text"]
    )
    labeler.label(items.iloc[6:7])
    roles = [turn.role for turn in llm.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert items["text"].iloc[0] in llm.requests[0].messages[1].content
    assert llm.requests[0].messages[2].content == '{"label": "NO"}'
    with made.refused("labeler.few_shot", "every group is tested"):
        made_llms.labeler(task, {"gpt": llm}, tmp_path, few_shot=shots, annotations=annotations)
    with made.refused("few_shot.per_class=1", "'soe'"):
        made_llms.labeler(
            task, {"gpt": llm}, tmp_path, few_shot=shots, annotations=annotations, training=items.iloc[:1]
        )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"repeats": 0}, ("labeler.repeats=0",)),
        ({"repeats": 2}, ("labeler.repeats=2", "temperature")),
        ({"max_item_tokens": 10}, ("labeler.max_item_tokens=10",)),
        ({"budget_usd": 1.0, "llm": {"g": Scripted(price=Price(None, None))}}, ("labeler.budget_usd", "llm.g.price")),
        ({"llm": {}}, ("labeler.llm={}", "labeler/llm=")),
    ],
)
def test_settings_that_make_no_sense_are_told(
    task: Task, tmp_path: Path, changed: dict[str, Any], words: tuple[str, ...]
) -> None:
    llm = changed.pop("llm", {"gpt": Scripted()})
    with made.refused(*words):
        made_llms.labeler(task, llm, tmp_path, **changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"prompts": {"txt": "?"}}, ("task.prompts.txt", "json or text")),
        ({"prompts": {"text": {"a": 3}}}, ("task.prompts.text.a",)),
        ({"descriptions": {}}, ("task.prompts", "task.descriptions")),
        ({"answers": {"x": "y"}}, ("task.answers.x",)),
        ({"answers": {"soe": "a", "other": "a"}}, ("task.answers", "two classes")),
        ({"examples": [{"view": "text", "text": "x", "label": "y"}]}, ("task.examples[0]",)),
    ],
)
def test_a_task_that_can_not_be_asked_is_told(
    task: Task, tmp_path: Path, changed: dict[str, Any], words: tuple[str, ...]
) -> None:
    with made.refused(*words):
        made_llms.labeler(replace(task, **changed), {"gpt": Scripted()}, tmp_path).label(made.items(2))


# ------------------------------------------------------------------------------------------- what does not go well


def test_an_answer_that_can_not_be_read_is_asked_for_once_more(task: Task, tmp_path: Path) -> None:
    def says(request: Request) -> str:
        return '{"label": "YES"}' if len(request.messages) > 2 else "I think it is YES."

    llm = Scripted(says)
    table = made_llms.labeler(task, {"gpt": llm}, tmp_path).label(made.items(2))
    assert counts(table) == {"ok": 4}
    assert len(llm.requests) == 8
    assert set(table["tokens_in"]) == {200}
    repair = next(request for request in llm.requests if len(request.messages) > 2)
    assert [turn.role for turn in repair.messages] == ["system", "user", "assistant", "user"]
    assert repair.messages[2].content == "I think it is YES."


@pytest.mark.parametrize(
    ("llm", "status", "asked"),
    [
        (Scripted(lambda _: "MAYBE"), "parse_error", 2),
        (Scripted(lambda _: "I can't", "refused"), "refused", 1),
        (Scripted(lambda _: '{"lab', "length"), "truncated", 1),
    ],
)
def test_an_answer_without_a_label_has_its_status_and_is_not_paid_for_again_in_the_sweep(
    task: Task, tmp_path: Path, llm: Scripted, status: str, asked: int, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = replace(llm, requests=[])
    labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path, views=["text"])
    table = labeler.label(made.items(3))
    assert counts(table) == {status: 3}
    assert table["label"].isna().all()
    assert (table["raw"] != "").all()
    assert len(llm.requests) == 3 * asked
    assert capsys.readouterr().err == ""
    pd.testing.assert_frame_equal(labeler.label(made.items(3)), table)
    assert len(llm.requests) == 3 * asked
    told = capsys.readouterr().err
    assert f"gpt: 3 answer(s) without a label (3 {status}) are remembered" in told
    assert "labeler.store.remember_s" in told
    later = made_llms.labeler(
        task, {"gpt": Scripted()}, tmp_path, views=["text"], store=StorePlace(None, 60.0, remember_s=0.0)
    )
    assert counts(later.label(made.items(3))) == {"ok": 3}


def chaos(task: Task, folder: Path, n: int) -> tuple[pd.DataFrame, pd.DataFrame, Double]:
    """Votes against a server that fails in every fifth request, and against one that never does."""
    items = made.items(n)
    limits = made_llms.limits(concurrency=64, timeout_s=1.0, retries=8)
    with serving(Double(seed=1)) as calm:
        expected = made_llms.labeler(task, {"gpt": made_llms.openai(calm.url)}, folder / "calm").label(items)
    with serving(Double(fault_rate=0.2, seed=1)) as double:
        double.keep_requests = False
        llm = made_llms.openai(double.url, limits_=limits)
        return made_llms.labeler(task, {"gpt": llm}, folder / "chaos").label(items), expected, double


def check_chaos(found: pd.DataFrame, expected: pd.DataFrame, double: Double, task: Task) -> None:
    assert len(found) == len(expected)
    votes.check(found, task.classes, pd.Index(expected["item_id"].unique()), "chaos")
    assert set(found["status"]) <= {"ok", "refused", "parse_error", "api_error"}
    ok = found["status"] == "ok"
    assert (found.loc[ok, "label"] == expected.loc[ok, "label"]).all()
    assert found.loc[~ok, "label"].isna().all()
    assert set(double.faults) == set(FAULTS)
    assert (found["status"] == "refused").sum() <= double.faults["refusal"]
    faults = sum(double.faults.values())
    assert double.received - len(found) < 1.5 * faults
    # Whatever was worth another try got one; only refusals, and what could not be read twice, have no label.
    assert (found["status"] == "api_error").sum() <= 2
    assert sum(double.faults[kind] for kind in RETRIED) > 0.8 * faults


def test_a_server_that_fails_in_every_way_costs_no_vote_and_bends_none(task: Task, tmp_path: Path) -> None:
    found, expected, double = chaos(task, tmp_path, 150)
    check_chaos(found, expected, double, task)


@pytest.mark.soak
def test_chaos_with_5000_items(task: Task, tmp_path: Path) -> None:
    found, expected, double = chaos(task, tmp_path, 5000)
    check_chaos(found, expected, double, task)
    faults = sum(double.faults.values())
    print(f"\n{len(found)} votes {counts(found)}; {double.received} requests, {faults} faults {dict(double.faults)}; "
          f"further requests / faults {(double.received - len(found)) / faults:.3f}")  # fmt: skip


def test_a_refused_key_stops_it_at_once_and_keeps_what_was_answered(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_KEY", "sk-abcdef123456")
    with serving(Double(key="sk-abcdef123456", latency_s=0.02)) as double:
        llm = made_llms.openai(double.url, api_key_env="DOUBLE_KEY", limits_=made_llms.limits(concurrency=4))
        labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path)
        answered = 0

        def withdrawn() -> Any:
            nonlocal answered
            answered += 1
            return error(401, "revoked")

        says, double.says = double.says, lambda text: says(text) if double.received < 20 else _set(double, withdrawn)
        with made.refused("api_key_env=DOUBLE_KEY", "refused the key (401)"):
            labeler.label(made.items(100))
        assert double.received <= 20 + 2 * 4
        kept = labeler.estimate(made.items(100))["gpt"].stored
        assert kept >= 16
        double.fixed, double.says = None, says
        before = double.received
        assert counts(labeler.label(made.items(100))) == {"ok": 200}
        assert double.received - before == 200 - kept


def _set(double: Double, fixed: Any) -> str:
    double.fixed = fixed
    return "YES"


def test_an_exhausted_quota_stops_it_and_says_what_to_do(task: Task, tmp_path: Path) -> None:
    with serving(Double()) as double:
        double.fixed = lambda: error(429, "You exceeded your current quota", "insufficient_quota")
        with made.refused("quota is used up", "add credit"):
            made_llms.labeler(task, {"gpt": made_llms.openai(double.url)}, tmp_path).label(made.items(100))
        assert double.received <= 8


def test_a_server_that_is_down_stops_it(task: Task, tmp_path: Path) -> None:
    llm = made_llms.openai("http://127.0.0.1:9/v1", limits_=made_llms.limits(retries=1))
    with pytest.raises(UnusableError, match="the last 16 requests failed"):
        made_llms.labeler(task, {"gpt": llm}, tmp_path).label(made.items(100))


def test_a_budget_is_never_exceeded_and_what_was_answered_is_kept(task: Task, tmp_path: Path) -> None:
    llm = Scripted(price=Price(1000.0, 1000.0))  # 0.105 dollars a request
    labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path, budget_usd=10.0)
    with pytest.raises(BudgetError, match=r"labeler.budget_usd=10: .* run the same command to go on"):
        labeler.label(made.items(100))
    spent = 0.105 * len(llm.requests)
    # A request may cost several dollars by the prices above, were every byte a token; so much may stay unspent.
    assert 1.0 < spent <= 10.0
    with pytest.raises(BudgetError):
        made_llms.labeler(task, {"gpt": llm}, tmp_path, budget_usd=10.0).label(made.items(100))
    assert 0.105 * len(llm.requests) <= 10.0
    before = len(llm.requests)
    assert counts(made_llms.labeler(task, {"gpt": llm}, tmp_path, budget_usd=100.0).label(made.items(100))) == {
        "ok": 200
    }
    assert len(llm.requests) == 200 > before


def test_hostile_items_are_labelled_as_strictly_as_others_and_flagged(task: Task, tmp_path: Path) -> None:
    items = made.items(200).assign(text=HOSTILE, json=[json.dumps([["Visit", text]]) for text in HOSTILE])
    with serving(Double()) as double:
        table = made_llms.labeler(task, {"gpt": made_llms.openai(double.url)}, tmp_path).label(items)
    assert counts(table) == {"ok": 400}
    assert table["signs"].notna().all()
    assert len(double.requests) == 400
    for request in double.requests:
        assert [turn["role"] for turn in request["messages"]] == ["system", "user"]
        first, *_, last = request["messages"][1]["content"].split("\n")
        assert last == first.replace("<", "</")
        assert request["messages"][1]["content"].count(last) == 1


def test_an_llm_that_obeys_a_hostile_item_still_gets_no_label_but_a_listed_one(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MOST_UNREADABLE_IN_A_ROW", 1000)
    # It repeats what it read, forged answers and all.
    llm = Scripted(lambda request: request.messages[-1].content)
    table = made_llms.labeler(task, {"gpt": llm}, tmp_path, views=["text"]).label(made.items(200).assign(text=HOSTILE))
    assert counts(table) == {"parse_error": 200}


# --------------------------------------------------------------------------------------------------------- estimates


def test_an_estimate_asks_nobody_and_counts_what_is_stored(task: Task, tmp_path: Path) -> None:
    llm = Scripted(price=Price(1.0, 1.0), limits=made_llms.limits(requests_per_minute=1200))
    labeler = made_llms.labeler(task, {"gpt": llm}, tmp_path / "no")
    first = labeler.estimate(made.items(10))["gpt"]
    assert llm.requests == []
    assert not (tmp_path / "no").exists()
    assert (first.calls, first.stored, first.seconds) == (20, 0, 1)
    assert first.dollars == pytest.approx(first.tokens / 1e6)
    assert first.notes == (
        "gpt: the prices bear no date: set price.as_of",
        "gpt: an answer that can't be read is asked for once more, which is not in these figures",
    )
    labeler.label(made.items(4))
    second = labeler.estimate(made.items(10))["gpt"]
    assert (second.calls, second.stored) == (20, 8)
    assert second.tokens < first.tokens


def test_an_estimate_says_how_old_its_prices_are(task: Task, tmp_path: Path) -> None:
    read_on = (date.today() - timedelta(days=3)).isoformat()
    llms = {
        "gpt": Scripted(price=Price(1.0, 1.0, read_on)), "free": Scripted(price=Price(0.0, 0.0)),
        "own": Scripted(price=Price(None, None)),
    }  # fmt: skip
    estimates = made_llms.labeler(task, llms, tmp_path).estimate(made.items(1))
    assert [estimate.notes for estimate in estimates.values()] == [
        (
            f"gpt: prices read on {read_on}, 3 day(s) ago",
            "gpt: an answer that can't be read is asked for once more, which is not in these figures",
        ), (),
        ("own: labeler.llm.own.price is not set: what it costs is not in the dollars",),
    ]  # fmt: skip
    with made.refused("price.as_of=soon", "want a day such as"):
        Price(1.0, 1.0, "soon")
