"""Names of files with marks in them: told how to quote them, and the advice works as typed in a shell."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hypothesis import given
from hypothesis import strategies as st

from silvertune.errors import UserError
from silvertune.study import overrides

NAMES = ["a=b.jsonl", "a(1).jsonl", "[x].jsonl", "a#b.jsonl", "it's.jsonl", "x{1}.jsonl", "a;b", "a!b.jsonl",
         'a"b.jsonl', "é.jsonl", "a<b>.jsonl", "`x`", "(x)", "a&b.jsonl"]  # fmt: skip
READ_OTHERWISE = ["a,b.jsonl", "[x]", "1.50", " lead.jsonl", "{a:1}"]


def parsed(text: str) -> object:
    return OverridesParser.create().parse_overrides([text])[0].value()


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda name: "${" not in name))
def test_the_advised_quoting_gives_back_the_name(name: str) -> None:
    (word,) = shlex.split(overrides.quoted(f"dataset.path={name}"))
    assert parsed(word) == name


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_hydra_can_not_read_is_one_line_with_what_to_type(name: str) -> None:
    with pytest.raises(OverrideParseException) as caught:
        parsed(f"dataset.path={name}")
    line = str(overrides.unreadable(caught.value))
    assert "\n" not in line
    assert line.startswith(f"dataset.path={name}: can't be read (")
    echo = f"{sys.executable} -c 'import sys; sys.stdout.write(sys.argv[1])'"
    typed = line.partition("quote it: ")[2]
    shell = subprocess.run(["bash", "-c", f"{echo} {typed}"], capture_output=True, text=True, check=True)
    assert parsed(shell.stdout) == name


@pytest.mark.parametrize("name", READ_OTHERWISE)
def test_a_file_whose_name_is_read_as_something_else_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides.check([f"dataset.path={name}"])  # no such file: it may be meant
    Path(name).touch()
    with pytest.raises(UserError) as caught:
        overrides.check(["seed=0,1", f"dataset.path={name}"])
    (word,) = shlex.split(str(caught.value).partition("quote the name: ")[2])
    assert parsed(word) == name
    overrides.check([word])


def test_a_tilde_is_told_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    with pytest.raises(OverrideParseException) as caught:
        parsed("dataset.path=~/data.jsonl")
    assert str(overrides.unreadable(caught.value)).endswith("""want 'dataset.path="/home/ada/data.jsonl"'""")


@pytest.mark.parametrize("name", ["~a.csv", "~$report.csv", "~lock"])
def test_a_name_that_begins_with_a_tilde_and_is_in_nobodys_home_is_a_name(name: str) -> None:
    with pytest.raises(OverrideParseException) as caught:
        parsed(f"dataset.path={name}")
    line = str(overrides.unreadable(caught.value))
    (typed,) = shlex.split(line.partition("quote it: ")[2])
    assert parsed(typed) == name


def test_what_is_no_override_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OverrideParseException) as caught:
        parsed("data.jsonl")
    assert str(overrides.unreadable(caught.value)).startswith("data.jsonl: want key=value")


def test_plain_values_and_choices_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("true", "0", "llm", "my file.jsonl", "data.jsonl"):
        Path(name).touch()
    overrides.check(["resume=true", "seed=0", "labeler=llm", "dataset.path=my file.jsonl", "filter=none,agreement"])
