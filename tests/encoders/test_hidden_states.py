"""Hidden states on disk: what is indexed is whole, whoever dies when."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silvertune.encoders.hidden_states import Store, key_of

WIDTH = 3


def rows(seed: int, tokens: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, WIDTH)).astype(np.float16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "new" / "states", WIDTH)


def test_a_text_is_known_by_its_digest() -> None:
    assert key_of("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert key_of("ä") != key_of("a")


def test_an_empty_store_misses_everything_and_has_no_size(store: Store) -> None:
    assert store.missing(["a", "b"]) == {"a", "b"}
    assert store.size() == 0
    assert store.read([]) == []
    with pytest.raises(KeyError):
        store.read(["a"])


@settings(max_examples=15, deadline=None)  # each writes to the disk
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=12), data=st.data())
def test_what_is_added_is_read_in_any_order(
    lengths: list[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "states", WIDTH)
    states = {f"k{number}": rows(number, length) for number, length in enumerate(lengths)}
    cut = data.draw(st.integers(0, len(lengths)))
    for part in (list(states)[:cut], list(states)[cut:]):
        store.add({key: states[key] for key in part})
    asked = data.draw(st.lists(st.sampled_from(list(states)), min_size=1, max_size=20))
    for key, found in zip(asked, store.read(asked), strict=True):
        assert found.dtype == np.float16
        assert np.array_equal(found, states[key])
    assert store.missing([*states, "other"]) == {"other"}
    assert store.size() == 2 * WIDTH * sum(lengths)


def test_a_part_that_is_missing_is_told_and_reading_it_is_an_error(store: Store) -> None:
    store.add({"a": rows(0, 2)})
    assert store.missing(["a", "b", "b"]) == {"b"}
    with pytest.raises(KeyError, match="b"):
        store.read(["a", "b"])


def test_what_is_there_is_left_as_it_is(store: Store) -> None:
    store.add({"a": rows(0, 2)})
    store.add({"a": rows(1, 4), "b": rows(2, 1)})
    assert np.array_equal(store.read(["a"])[0], rows(0, 2))
    assert store.size() == 2 * WIDTH * 3


def test_other_numbers_are_kept_in_half_precision(store: Store) -> None:
    exact = np.array([[1 / 3, 2 / 3, 1e-9]], dtype=np.float32)
    store.add({"a": exact})
    assert np.array_equal(store.read(["a"])[0], exact.astype(np.float16))


def test_more_keys_than_fit_in_one_query(store: Store) -> None:
    states = {f"k{number}": rows(number, 1) for number in range(1203)}
    store.add(states)
    assert store.missing([*states, "x"]) == {"x"}
    found = store.read(list(states)[::-1])
    assert all(np.array_equal(one, states[key]) for one, key in zip(found, list(states)[::-1], strict=True))


def test_states_are_a_view_of_the_file_that_can_not_be_written(store: Store) -> None:
    store.add({"a": rows(0, 2)})
    on_disk = store.file.read_bytes()
    changed, other = store.read(["a"])[0], store.read(["a"])[0]
    changed[0, 0] += 1
    assert isinstance(changed, np.memmap)
    assert store.file.read_bytes() == on_disk
    np.testing.assert_array_equal(other, rows(0, 2))


@pytest.mark.parametrize("tail", [b"x", b"garbage of a killed process" * 50])
def test_what_a_killed_process_left_behind_is_written_over(store: Store, tail: bytes) -> None:
    store.add({"a": rows(0, 2)})
    with store.file.open("ab") as file:
        file.write(tail)
    assert np.array_equal(store.read(["a"])[0], rows(0, 2))
    store.add({"b": rows(1, 3)})
    one, other = store.read(["a", "b"])
    assert np.array_equal(one, rows(0, 2))
    assert np.array_equal(other, rows(1, 3))


def _die_before_the_index(path: Path) -> None:
    """Add `b`, and be killed when the file has been written and the index not yet."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
    Store(path, WIDTH).add({"b": rows(1, 3)})


def test_a_process_that_is_killed_between_file_and_index_leaves_nothing_wrong(store: Store) -> None:
    store.add({"a": rows(0, 2)})
    process = multiprocessing.get_context("fork").Process(target=_die_before_the_index, args=(store.path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert store.size() == 2 * WIDTH * 5  # it was written ...
    assert store.missing(["a", "b"]) == {"b"}  # ... and is not known
    store.add({"c": rows(2, 1), "b": rows(3, 2)})
    found = store.read(["a", "b", "c"])
    for one, wanted in zip(found, (rows(0, 2), rows(3, 2), rows(2, 1)), strict=True):
        assert np.array_equal(one, wanted)


def test_a_disk_that_is_full_leaves_what_was_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store.add({"a": rows(0, 2)})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.add({"b": rows(1, 3)})
    monkeypatch.undo()
    assert store.missing(["a", "b"]) == {"b"}
    store.add({"b": rows(4, 1)})
    assert np.array_equal(store.read(["b"])[0], rows(4, 1))


def _compute_what_is_missing(path: Path, keys: Sequence[str], log: Path) -> None:
    store = Store(path, WIDTH)
    for start in range(0, len(keys), 10):
        some = keys[start : start + 10]
        with store.locked():
            for key in sorted(store.missing(some)):
                store.add({key: rows(int(key), 1 + int(key) % 4)})  # inside its own lock
                with log.open("a") as file:
                    file.write(f"{key}\n")
        for key, found in zip(some, store.read(some), strict=True):
            assert np.array_equal(found, rows(int(key), 1 + int(key) % 4))


def test_processes_at_once_compute_each_text_once_and_read_the_same(store: Store, tmp_path: Path) -> None:
    keys = [str(number) for number in range(60)]
    orders = [keys, keys[::-1], keys[30:] + keys[:30]]
    context = multiprocessing.get_context("fork")
    log = tmp_path / "computed.txt"
    started = [context.Process(target=_compute_what_is_missing, args=(store.path, order, log)) for order in orders]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(keys)
    with closing(sqlite3.connect(store.index)) as database:
        places = database.execute("SELECT start, length FROM states ORDER BY start").fetchall()
    ends = np.cumsum([length for _, length in places])
    assert [start for start, _ in places] == [0, *ends[:-1]]  # no gap, no overlap
    assert store.size() == 2 * WIDTH * ends[-1]
