"""An owner is gone only if its process could be seen from here and is not there."""

import os
import subprocess
import sys

import psutil
import pytest

from silvertune.databases import owner


@pytest.fixture(scope="module")
def name_of_the_dead() -> str:
    code = "from silvertune.databases.owner import new_owner; print(new_owner())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_every_object_of_this_process_has_a_name_and_is_there() -> None:
    names = [owner.new_owner() for _ in range(3)]
    assert len(set(names)) == 3
    assert not any(owner.is_gone(name) for name in names)


def test_a_process_that_has_ended_is_gone(name_of_the_dead: str) -> None:
    assert owner.is_gone(name_of_the_dead)


def test_a_later_process_with_the_same_number_is_another(name_of_the_dead: str) -> None:
    host, place, _, started, mark = name_of_the_dead.rsplit("/", 4)
    assert owner.is_gone("/".join([host, place, str(os.getpid()), started, mark]))


@pytest.mark.parametrize("step", [-7200, 1, 3, 86400])
def test_a_step_of_the_clock_ends_no_process(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    name = owner.new_owner()
    started = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: started(self) + step)
    assert not owner.is_gone(name)


@pytest.mark.parametrize("elsewhere", ["host", "boot", "pid_namespace"])
def test_of_a_process_that_can_not_be_seen_from_here_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, name_of_the_dead: str, elsewhere: str
) -> None:
    here = owner.place()
    monkeypatch.setattr(owner, "place", lambda: {**here, elsewhere: "another"})
    assert not owner.is_gone(name_of_the_dead)


@pytest.mark.parametrize("name", ["", "somebody", "host:1:2:3", "a/b/c"])
def test_of_a_name_in_another_form_nobody_knows(name: str) -> None:
    assert not owner.is_gone(name)


def test_a_child_that_ended_and_that_nobody_waited_for_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = owner.start_time(process.pid)
    assert owner.is_running(process.pid, started)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
    assert not owner.is_running(process.pid, started)
    process.communicate()


def test_a_name_fits_the_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner.socket, "gethostname", lambda: "a/b:" + "h" * 300)
    assert len(owner.new_owner()) <= 200
    assert not owner.is_gone(owner.new_owner())
