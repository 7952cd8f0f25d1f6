"""What a sweep prints comes out on any terminal, and on none."""

import io
import sys
from pathlib import Path

import pytest
from rich.table import Table

from silvertune import progress_bar
from silvertune.study import console

TEXT = "Δ F1 − .119 … † café 東京 ≥ 5"


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str) -> str:
    """What arrives where the standard output has this encoding and errors are errors."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    table = Table(title=TEXT)
    table.add_column("Δ expert")
    table.add_row("−.119")
    console.open_console().print(table, TEXT)
    sys.stdout.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "koi8-r", "cp437"])
def test_what_the_encoding_lacks_is_replaced_by_one_plain_character(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    output = printed(monkeypatch, encoding)
    assert "expert" in output
    assert ".119" in output
    assert "F1" in output
    if encoding == "ascii":
        assert "d F1 - .119 . + cafe ?? > 5" in output
        assert "d expert" in output


def test_utf_8_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TEXT in printed(monkeypatch, "utf-8")


def test_an_output_that_is_no_stream_of_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # as in a notebook
    console.open_console().print(TEXT)
    assert TEXT in sys.stdout.getvalue()  # type: ignore[attr-defined]


def test_in_a_notebook_plain_lines_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    for one in (console.open_console(), progress_bar.on_stderr()):
        assert not one.is_jupyter


def test_an_errors_setting_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace"))
    console.make_printable()
    assert sys.stdout.errors == "backslashreplace"
