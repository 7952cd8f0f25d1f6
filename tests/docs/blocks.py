"""The blocks of a page: the files that it shows, and the commands, which are composed as they stand there.

A command is planned (`mode=plan`: composed, its parts built, its data read and split), in a folder with the files that
the page shows. Over a block a page may say, in a comment that readers do not see,

- `<!-- composed: why -->`: the commands are composed only, because they need what is not in the folder;
- `<!-- not run: why -->`: Python is compiled only;
- `<!-- excerpt -->`: a yaml or Python block is a part of a file, and is read only.

A page that uses files of another one says so in its first line: `<!-- with: your-data.md -->`.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig

import silvertune
from silvertune.production import audit, cascade, predict
from silvertune.study import compare, tuning_jobs
from silvertune.study.command import CONFIG_FOLDER, CONFIG_NAME, VERSION_BASE
from silvertune.study.composing import Composer

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n\s*)?^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$",
    re.M | re.S,
)
LANGUAGES = ("", "csv", "json", "python", "sh", "text", "yaml")
MARKS = ("composed", "excerpt", "not run")
OTHER_PROGRAMS = (".", "cd", "curl", "export", "gcloud", "git", "ollama", "pre-commit", "ray", "sudo")
PRODUCTION = {"silvertune-audit": audit, "silvertune-cascade": cascade, "silvertune-predict": predict}
GROUPS = tuple(folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir() and folder.name != "hydra")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands behind the fence.
        text: Its lines.
        name: The file that it is, by its `title` or its first comment; None if it is none.
        mark: `composed`, `not run`, `excerpt`, or nothing.
    """

    language: str
    text: str
    name: str | None
    mark: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    result = []
    for match in BLOCK.finditer(page):
        language, _, rest = match["info"].strip().partition(" ")
        assert language in LANGUAGES, f"a block of {language!r}; want one of {LANGUAGES}"
        mark = (match["mark"] or "").partition(":")[0]
        mark = mark if mark in MARKS else ""
        text = re.sub(f"^{match['indent']}", "", match["body"], flags=re.M)
        title = re.search(r'title="([^"]+)"', rest)
        comment = re.match(r"(?:# @package _global_\n)?# (\S+\.(?:py|yaml|csv))\b", text)
        name = title[1] if title else comment[1] if comment and language in ("python", "yaml") else None
        result.append(Block(language, text, name, mark))
    return result


def write_files(page: Sequence[Block], folder: Path) -> list[str]:
    """Write what the page shows as a file; of data, which a page shows the first rows of, nothing. The names."""
    names = []
    for block in page:
        if block.name and block.language in ("python", "yaml") and not block.mark:
            path = folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            names.append(block.name)
    return names


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a block of shell, each as its words; without assignments before them."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and re.match(r"[A-Z_]+=", command[0]):
                command = command[1:]
            if command:
                yield command


def inline_overrides(page: str) -> Iterator[list[str]]:
    """Code within the text that is nothing but overrides of groups, such as `labeler=gemini`."""
    text = BLOCK.sub("", page)
    for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text):
        try:
            words = shlex.split(code)
        except ValueError:
            continue
        pattern = re.compile(rf"(?:{'|'.join(GROUPS)}|labeler/llm|experiments|seed|mode)(?:\.[\w.]+)?=\S")
        if words and all(pattern.match(word) for word in words) and any("=" in word for word in words):
            yield words


def check_command(words: Sequence[str], mark: str) -> None:
    """Fail if a command is wrong: it does not compose, or it names what there isn't."""
    program, *arguments = words
    if program == "silvertune":
        if mark == "composed":
            check_composes(arguments)
        elif arguments not in (["--help"], ["--version"]):
            check_planned(arguments)
    elif program == "silvertune-compare":
        compare._parser().parse_args(arguments)
    elif program == "silvertune-jobs":
        tuning_jobs._parser().parse_args(arguments)
    elif program in PRODUCTION:
        PRODUCTION[program]._parser().parse_args(arguments)
    elif program == "mlflow":
        from mlflow.cli import cli

        cli.make_context("mlflow", list(arguments))
        command = cli.get_command(None, arguments[0])
        assert command is not None, arguments
        if hasattr(command, "commands"):
            command, arguments = command.commands[arguments[1]], arguments[1:]
        command.make_context(arguments[0], list(arguments[1:]))
    elif program == "make":
        targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in arguments if "=" not in word} <= set(targets), words
    elif program in ("python", "pip") and "install" in arguments:
        known = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)) | {"silvertune"}
        extras = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        assert {name for extra in extras for name in extra.split(",")} <= known, words
    elif program == "python":
        assert (ROOT / arguments[0]).is_file(), words
    else:
        assert program in OTHER_PROGRAMS, f"nobody checks `{program}`: {words}"


_planned: set[tuple[str, ...]] = set()
"""Commands of shipped studies, which do not depend on a page's files: they are planned once."""


def check_planned(arguments: Sequence[str]) -> None:
    """Plan a command: UserError if it could not run. One seed of a study stands for all."""
    if "--cfg" in arguments:
        check_composes(arguments)
        return
    overrides = [word for word in arguments if word not in ("-m", "--multirun") and not word.startswith("mode=")]
    overrides = [re.sub(r"^seed=range\(\d+\)$", "seed=range(1)", word) for word in overrides]
    if any(word.startswith("experiments=") for word in overrides) and not any(
        re.match(r"\+*(seed|study\.seeds)=", word) for word in overrides
    ):
        overrides.append("study.seeds=1")
    studies = [word.removeprefix("experiments=") for word in overrides if word.startswith("experiments=")]
    is_shipped = any((ROOT / "experiments" / f"{name}.yaml").exists() for name in studies)
    deciding = tuple(word for word in overrides if not word.startswith("resume="))
    if not is_shipped or deciding not in _planned:
        silvertune.run([*overrides, "mode=plan"])
        _planned.add(deciding)


def check_composes(arguments: Sequence[str], *, arms: bool = True) -> None:
    """Compose a command, and the arms of its study, where a plan would miss files, models or servers."""
    overrides = [word for word in arguments if word not in ("-m", "--multirun", "--cfg", "job", "--help")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    composer, defaults = _composer(str(Path.cwd()) if any(map(os.path.exists, ("conf", "experiments"))) else None)
    for point in BasicSweeper.split_arguments(parsed, None)[0]:
        config = composer.compose(defaults, point)
        for name, fixed in config.study.arms.items() if arms else ():
            try:
                composer.compose(defaults, [*point, *fixed])
            except Exception as error:
                raise AssertionError(f"arm {name}: {error}") from error


@lru_cache(maxsize=2)
def _composer(folder: str | None) -> tuple[Composer, DictConfig]:
    """What composes in the working directory, one for all that have no configs of their own; and the defaults."""
    setbase(VERSION_BASE)
    loader = ConfigLoaderImpl(create_config_search_path(CONFIG_FOLDER))
    return Composer(loader), loader.load_configuration(CONFIG_NAME, [], RunMode.MULTIRUN)


def is_choice(word: str) -> bool:
    """Whether an override chooses a yaml that is there, and nothing else."""
    group, _, name = word.partition("=")
    file = Path(f"{group}/{name}.yaml") if group == "experiments" else Path(f"conf/{group}/{name}.yaml")
    return file.exists() or (ROOT / file).exists()


def check_inline(words: Sequence[str]) -> None:
    """Compose overrides that stand in the text; a setting alone is one of some choice of its group."""
    if all(is_choice(word) for word in words):
        return
    group, _, rest = words[0].partition("=")[0].partition(".")
    choices: list[list[str]] = [[]]
    if rest:
        key = rest.partition(".")[0]
        files = sorted((ROOT / "conf" / group).glob("*.yaml"))
        choices += [[f"{group}={file.stem}"] for file in files if f"{key}:" in file.read_text(encoding="utf-8")]
    for number, choice in enumerate(choices):
        try:
            return check_composes([*choice, *words], arms=False)
        except Exception:
            if number == len(choices) - 1:
                raise


def check_other(block: Block) -> None:
    """Fail if a block that is no shell can't be read; run Python that is no file."""
    if block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "python":
        code = compile(block.text, block.name or "<page>", "exec")
        if block.name is None and not block.mark:
            exec(code, {"__name__": "page"})


def forget_modules(folder: Path) -> None:
    """Forget the modules of a page's folder: another page has others of the same name."""
    for name, module in list(sys.modules.items()):
        file = vars(module).get("__file__")  # of some libraries' modules, `getattr` would import what they put off
        if file and file.startswith(f"{folder}{os.sep}"):
            del sys.modules[name]


def check_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check every block of a page, in a folder that has its data; AssertionError names the block."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    if match := re.match(r"<!-- with: (\S+) -->", page):
        write_files(blocks((ROOT / "docs" / match[1]).read_text(encoding="utf-8")), folder)
    parsed = blocks(page)
    write_files(parsed, folder)
    try:
        for block in parsed:
            for words in commands(block) if block.language == "sh" else ():
                with named(shlex.join(words)):
                    check_command(words, block.mark)
            with named(block.text):
                check_other(block)
        for words in inline_overrides(page):
            with named(shlex.join(words)):
                check_inline(words)
    finally:
        forget_modules(folder)


@contextmanager
def named(text: str) -> Iterator[None]:
    """Fail with what stands on the page."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{text}\n{type(error).__name__}: {error}") from error
