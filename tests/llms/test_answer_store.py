import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests import made

from silvertune.llms import answer_store
from silvertune.llms.answer_store import AnswerStore
from silvertune.llms.outcomes import Outcome

OK = Outcome("ok", "YES", {"YES": 0.9, "NO": 0.1}, None, '{"label": "YES"}', None, "m-1", 100, 5, 0.25)
REFUSED = OK._replace(status="refused", word=None, probs=None, raw="no")
FAILED = Outcome("api_error", None, None, None, "503", None, "", 0, 0, 0.0)

Open = Callable[..., AnswerStore]


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def opened(url: str) -> Iterator[Open]:
    """Stores on one database; all are closed in the end."""
    stores: list[AnswerStore] = []

    def open_one(*, lease_s: float = 60.0, remember_s: float = 3600.0, budget_usd: float | None = None) -> AnswerStore:
        stores.append(AnswerStore(url, lease_s=lease_s, remember_s=remember_s, budget_usd=budget_usd))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def claim(store: AnswerStore, *keys: str, usd: float = 0.0) -> list[str]:
    return store.claim(list(keys), [usd] * len(keys)).mine


def test_what_was_saved_is_read_by_others(opened: Open) -> None:
    store = opened()
    assert claim(store, "a", "b") == ["a", "b"]
    odd = OK._replace(raw="half \ud800 a \x00 character", signs="turn", probs=None, confidence=0.5)
    store.save({"a": OK, "b": odd})
    found = opened().read(["a", "b", "c"])
    assert found["a"] == OK
    assert found["b"] == odd._replace(raw="half ? a  character")
    assert set(found) == {"a", "b"}


def test_as_many_as_there_are_can_be_read_at_once(opened: Open) -> None:
    keys = [f"{k:064x}" for k in range(60_000)]
    stored = {key: OK._replace(tokens_in=place) for place, key in enumerate(keys[::61])}
    opened().save(stored)
    outcomes = opened().read(keys[::-1])
    assert dict(outcomes) == stored
    assert outcomes.lacking(keys[:62]) == keys[1:61]


def test_outcomes_are_told_by_column(opened: Open) -> None:
    store = opened()
    store.save({"ok": OK, "odd": OK._replace(probs={"NO": 0.3}), "refused": REFUSED})
    outcomes = store.read(["ok", "odd", "refused"])
    outcomes.update({"failed": FAILED})
    columns = outcomes.columns(["failed", "ok", None, "odd", "ok", "else"], REFUSED, ("YES", "NO"))
    assert columns["status"] == ["api_error", "ok", "refused", "ok", "ok", "refused"]
    assert columns["prob:YES"] == [None, 0.9, None, None, 0.9, None]
    assert columns["prob:NO"] == [None, 0.1, None, 0.3, 0.1, None]
    assert columns["cost_usd"] == [0.0, 0.25, 0.25, 0.25, 0.25, 0.25]
    assert outcomes.statuses() == {"ok": 2, "refused": 1, "api_error": 1}


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("probs", '{"YES": 0.9', "probs='"),
        ("probs", "[1]", "want a JSON object of word and probability"),
        ("word", "MAYBE", "has the label 'MAYBE'; want YES or NO"),
        ("word", None, "has the label None; want YES or NO"),
    ],
)
def test_an_answer_that_somebody_edited_is_told_with_its_key(
    tmp_path: Path, column: str, value: object, told: str
) -> None:
    url = f"sqlite:///{tmp_path}/answers.db"
    with closing(AnswerStore(url, lease_s=60, remember_s=60, budget_usd=None)) as store:
        store.save({"good": OK, "edited": OK, "refused": REFUSED})
    with closing(sqlite3.connect(tmp_path / "answers.db")) as database, database:
        database.execute(f"UPDATE answers SET {column} = ? WHERE key = 'edited'", [value])
    with closing(AnswerStore(url, lease_s=60, remember_s=60, budget_usd=None)) as store:
        outcomes = store.read(["good", "edited", "refused"])
        assert outcomes.columns(["good", "refused"], REFUSED, ("YES", "NO"))["word"] == ["YES", None]
        with made.refused(told, "the stored answer edited has "):
            outcomes.columns(["good", "edited"], REFUSED, ("YES", "NO"))


def test_what_one_asks_is_asked_by_nobody_else(opened: Open) -> None:
    one, other = opened(), opened()
    assert claim(one, "a", "b") == ["a", "b"]
    found = other.claim(["a", "c"], [0.0, 0.0])
    assert (found.mine, found.busy) == (["c"], ["a"])
    one.save({"a": OK})
    one.release(["b"])
    found = other.claim(["a", "b"], [0.0, 0.0])
    assert (found.known, found.mine, found.busy) == ({"a": OK}, ["b"], [])


def test_only_labels_are_answers_and_failures_to_reach_the_llm_are_forgotten(opened: Open) -> None:
    store = opened()
    claim(store, "ok", "refused", "failed")
    store.save({"ok": OK, "refused": REFUSED, "failed": FAILED})
    assert set(opened().read(["ok", "refused", "failed"])) == {"ok", "refused"}
    assert set(opened(remember_s=0.0).read(["ok", "refused", "failed"])) == {"ok"}
    assert claim(opened(remember_s=0.0), "ok", "refused", "failed") == ["refused", "failed"]


def test_a_new_start_asks_again_for_answers_without_a_label(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_store, "_asked_again_since", 0.0)
    store = opened()
    claim(store, "ok", "refused")
    store.save({"ok": OK, "refused": REFUSED})
    answer_store.ask_failures_again(time.time() - 60)  # the same start
    assert set(opened().read(["ok", "refused"])) == {"ok", "refused"}
    answer_store.ask_failures_again(time.time() + 1)
    assert set(opened().read(["ok", "refused"])) == {"ok"}
    assert claim(opened(), "ok", "refused") == ["refused"]


def test_a_label_after_a_refusal_is_the_answer(opened: Open) -> None:
    store = opened()
    store.save({"a": REFUSED})
    store.save({"a": OK})
    assert opened().read(["a"]) == {"a": OK}
    assert store.spent_usd() == 0.5


def test_a_lease_expires_unless_it_is_renewed(opened: Open) -> None:
    short, other = opened(lease_s=0.3), opened()
    claim(short, "a")
    time.sleep(0.2)
    short.renew()
    time.sleep(0.2)
    assert claim(other, "a") == []
    time.sleep(0.2)
    assert claim(other, "a") == ["a"]
    # Whoever lost it and answers all the same has paid; the first answer counts.
    other.save({"a": OK})
    short.save({"a": OK._replace(word="NO")})
    assert opened().read(["a"])["a"].word == "YES"
    assert other.spent_usd() == 0.5


def test_a_lease_of_a_process_that_is_gone_is_void_at_once(opened: Open, url: str) -> None:
    def claims() -> None:
        AnswerStore(url, lease_s=999, remember_s=9, budget_usd=None).claim(["a"], [0.0])
        os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=claims)
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert claim(opened(), "a") == ["a"]


def test_a_closed_store_gives_its_leases_back(opened: Open) -> None:
    store = opened()
    claim(store, "a")
    store.close()
    assert claim(opened(), "a") == ["a"]


def test_a_budget_is_shared_and_counts_what_is_under_way(opened: Open) -> None:
    one, other = opened(budget_usd=1.0), opened(budget_usd=1.0)
    assert claim(one, "a", "b", usd=0.4) == ["a", "b"]
    found = other.claim(["c"], [0.4])
    assert (found.mine, found.too_dear) == ([], ["c"])
    one.save({"a": OK._replace(cost_usd=0.1), "b": OK._replace(cost_usd=0.1)})
    assert claim(other, "c", "d", "e", usd=0.4) == ["c", "d"]
    assert one.spent_usd() == pytest.approx(0.2)


def test_a_claim_counts_what_others_have_paid_since_the_last_one(opened: Open) -> None:
    one, other = opened(budget_usd=1.0), opened(budget_usd=1.0)
    for key, paid in (("a", 0.5), ("b", 0.25), ("c", 0.0)):
        assert claim(one, key, usd=0.25) == [key]
        one.release([key])
        other.save({key: OK._replace(cost_usd=paid)})
    assert claim(one, "d", "e", usd=0.25) == ["d"]
    assert opened().spent_usd() == 0.75


def test_many_claim_the_same_and_each_key_is_one_s(opened: Open) -> None:
    keys = [f"k{i}" for i in range(200)]
    stores = [opened(budget_usd=37.5) for _ in range(6)]

    def work(store: AnswerStore) -> list[str]:
        mine = []
        for start in range(0, 200, 10):
            mine += claim(store, *keys[start : start + 10], usd=0.25)
        return mine

    with ThreadPoolExecutor(6) as pool:
        taken = [key for mine in pool.map(work, stores) for key in mine]
    assert len(taken) == len(set(taken)) == 150  # as many as the budget allows


def test_reading_makes_no_database(tmp_path: Path) -> None:
    store = AnswerStore(f"sqlite:///{tmp_path / 'no' / 'labels.sqlite'}", lease_s=1, remember_s=1, budget_usd=None)
    assert store.read(["a"]) == {}
    store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:geheim@h/d", "sqlite:////proc/no/labels.sqlite"])
def test_a_place_that_is_none_is_told_without_its_password(url: str) -> None:
    store = AnswerStore(url, lease_s=1, remember_s=1, budget_usd=None)
    with made.refused("store.url"):
        store.spent_usd()
    with pytest.raises(Exception) as caught:
        store.spent_usd()
    assert "geheim" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ what fails in it


def test_a_store_of_another_version_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "labels.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, status TEXT, word TEXT)")
    store = AnswerStore(f"sqlite:///{file}", lease_s=60.0, remember_s=60.0, budget_usd=None)
    with made.refused("store.url=sqlite:///", "its table answers has no column confidence, cost_usd"):
        store.read(["a"])


def test_what_fails_in_an_opened_store_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.sqlite"
    store = AnswerStore(f"sqlite:///{file}", lease_s=60.0, remember_s=60.0, budget_usd=None)
    store.claim(["a"], [0.0])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON payments BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
        )
    with made.refused("store.url=sqlite:///", "can't be read or written", "disk is full"):
        store.save({"a": Outcome("ok", "YES", None, None, "YES", None, "m", 1, 1, 0.5)})


def test_what_others_have_set_aside_is_known(tmp_path: Path) -> None:
    def opened_store(budget: float) -> AnswerStore:
        return AnswerStore(f"sqlite:///{tmp_path}/labels.sqlite", lease_s=60.0, remember_s=60.0, budget_usd=budget)

    mine, other = opened_store(5.0), opened_store(5.0)
    other.claim(["a", "b"], [2.0, 1.0])
    mine.claim(["c"], [1.0])
    assert mine.set_aside_usd() == (3.0, 3.0)
    other.close()
    assert mine.set_aside_usd() == (0.0, 0.0)
    mine.close()
