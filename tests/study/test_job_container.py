"""What a job's container keeps of what is printed there."""

import sys

import pytest

from silvertune.study import job_container


def test_what_is_printed_is_kept_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with job_container._logging() as log:
        print("one")
        print("two", file=sys.stderr)
    assert capsys.readouterr() == ("one\n", "two\n")
    log.add("\udcff")
    assert log.encoded() == b"one\ntwo\n\\udcff"


def test_of_a_long_log_beginning_and_end_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_container, "LONGEST_LOG", 1000)
    log = job_container._Log()
    for number in range(100_000):  # a megabyte and more
        log.add(f"line {number}\n")
    text = log.encoded().decode()
    whole = "".join(f"line {number}\n" for number in range(100_000))
    gap = f"\n[{len(whole) - 1000} characters are left out here]\n"
    assert text == f"{whole[:500]}{gap}{whole[-500:]}"
    assert log.size == 1000
    assert job_container._Log().encoded() == b""
