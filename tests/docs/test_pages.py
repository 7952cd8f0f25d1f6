"""What the README and the pages show works as it stands there."""

import csv
import re
from functools import cache
from pathlib import Path

import pytest
from tests.docs import blocks, data
from tests.docs.site import site

PAGES = {page.name: page for page in [*sorted((blocks.ROOT / "docs").glob("*.md")), blocks.ROOT / "README.md"]}
NOT_TYPED = ("errors.md",)
"""Pages whose inline overrides are mistakes on purpose."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with the data that pages speak of."""
    data.write_all(tmp_path)
    return tmp_path


@cache
def text(name: str) -> str:
    """The page, with what the site generates in it."""
    return str(site.filled_in(PAGES[name].read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_works(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    page = text(name)
    if name in NOT_TYPED:
        page = re.sub(r"(?<!`)`[^`\n]+`(?!`)", "", page)
    blocks.check_page(page, folder, monkeypatch)


@pytest.mark.parametrize("name", PAGES)
def test_the_rows_that_a_page_shows_are_those_of_the_data(name: str, folder: Path) -> None:
    for block in blocks.blocks(text(name)):
        if block.language == "csv":
            assert block.name is not None
            shown = list(csv.reader(block.text.splitlines()))
            with (folder / block.name).open(newline="") as file:
                assert shown[0] == next(csv.reader(file))
            assert all(len(row) == len(shown[0]) for row in shown)


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_links_to_is_there(name: str) -> None:
    generated = {f"experiments/{file.name}" for file in (blocks.ROOT / "experiments").iterdir()}
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", blocks.BLOCK.sub("", text(name))):
        if "://" in link:
            continue
        there = (PAGES[name].parent / link).exists()
        assert there or (name != "README.md" and link in generated), link


def test_every_page_has_its_place_in_the_navigation() -> None:
    entries = set(re.findall(r": (\S+\.md)$", (blocks.ROOT / "mkdocs.yml").read_text(), re.M))
    assert {name for name in entries if "/" not in name} == set(PAGES) - {"README.md"}


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].read_text().splitlines()) <= 120


def test_the_messages_that_the_page_explains_are_those_of_the_code() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (blocks.ROOT / "src").rglob("*.py"))
    section = text("errors.md").partition("## What often comes up")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", section, re.M)
    assert len(messages) > 10
    missing = [part for message in messages for part in message.split("...") if part.strip(" :;") not in code]
    assert missing == []


WRONG = {
    "a filter that there isn't": "```sh\nsilvertune dataset.path=tables.jsonl filter=agremeent\n```",
    "a setting that there isn't": "```sh\nsilvertune dataset.path=tables.jsonl filter=aum filter.aum.drp=1\n```",
    "a study that there isn't": "```sh\nsilvertune experiments=soe_table4 dataset.path=tables.jsonl\n```",
    "a file that there isn't": "```sh\nsilvertune dataset.path=nothing.jsonl\n```",
    "composed only": "<!-- composed: no file -->\n```sh\nsilvertune dataset.path=x.jsonl filter=agremeent\n```",
    "a target that there isn't": "```sh\nmake coffee\n```",
    "an extra that there isn't": "```sh\npip install 'silvertune[quantum]'\n```",
    "an option that there isn't": "```sh\nsilvertune-compare demo --armz all\n```",
    "another program's option": "```sh\nmlflow ui --backend-stor-uri sqlite:///x.db\n```",
    "a program that nobody checks": "```sh\nrm -rf mlruns\n```",
    "a yaml that can't be read": "```yaml\na: [b\n```",
    "Python that fails": "```python\nassert False\n```",
    "an override in the text": "Say `labeler=gemmini`.",
}


@pytest.mark.parametrize("page", WRONG.values(), ids=WRONG)
def test_a_page_that_shows_something_wrong_is_found(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError):
        blocks.check_page(page, folder, monkeypatch)
