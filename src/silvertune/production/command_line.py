"""What the command lines that apply a tuned model have in common: how the model and its columns are named."""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from silvertune.errors import WAITS_FOR_PEOPLE, UserError, WaitingForAnswersError, in_one_line, working_directory

if TYPE_CHECKING:
    from silvertune.datasets.mapping import ColumnMapping
    from silvertune.production.model import LoadedModel


def parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser with the arguments that every command has: the model and the files.

    Args:
        name: The program's name.
        description: What it does.
        epilog: Examples, what it writes, and its exit statuses; the lines stay as they are.
    """
    parser = argparse.ArgumentParser(
        prog=name, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID, or a folder")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="a .jsonl, .csv, .tsv or .parquet file, text also with .gz, .bz2, .xz or .zst; - is standard input",
    )
    return parser


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how views are made of columns, and where models are."""
    columns = parser.add_argument_group("columns, where they differ from those that the model was tuned on")
    columns.add_argument("--id", help="the column of ids; '' numbers the rows")
    columns.add_argument("--view", action="append", default=[], metavar="NAME=TEMPLATE", help="such as text='{body}'")
    columns.add_argument("--encoding", help="of text files, such as utf-8 or cp1252")
    columns.add_argument("--separator", help="of the columns of a CSV: ';', '|' or tab")
    columns.add_argument("--format", choices=("jsonl", "csv", "tsv", "parquet"), help="where no ending says it")
    store = parser.add_argument_group("where models:/ and runs:/ are")
    store.add_argument("--uri", help="MLflow tracking URI (default: MLFLOW_TRACKING_URI, else the store in --dir)")
    store.add_argument("--dir", help="folder of the local store (default: mlruns)")


def tracking(options: argparse.Namespace) -> dict[str, str | None]:
    """Where the store is, as the configuration's `tracking` says it."""
    from silvertune.tracking import database

    return database.named(options.uri, options.dir)


@contextmanager
def model_of(options: argparse.Namespace) -> "Iterator[tuple[LoadedModel, Path]]":
    """Load the model, for the block.

    Yields:
        The model, and a folder to download to, which goes with the block.

    Raises:
        UserError: There is no such model, or it can't be loaded here.
    """
    from silvertune.production import model

    with tempfile.TemporaryDirectory(prefix="silvertune-model-") as folder:
        yield model.load(options.model, tracking(options), Path(folder)), Path(folder)


def inputs_of(options: argparse.Namespace, *, read_twice: bool = False) -> list[tuple[str, str]]:
    """Name and kind of each file. Raises UserError where one is none, or can't be read twice and has to be."""
    from silvertune.datasets import batches

    if read_twice and "-" in options.inputs:
        raise UserError("-: the files are read twice; name a file")
    inputs = [(file, batches.kind_of(file, options.format)) for file in options.inputs]
    for file, _ in inputs:
        if file != "-" and not Path(file).is_file():
            raise UserError(f"{file}: no such file")
    return inputs


def mapping_of(options: argparse.Namespace, model: "LoadedModel") -> "ColumnMapping":
    """How the model's views are made of the columns of the files. Raises UserError for a view that it does not read."""
    from dataclasses import replace

    mapping = model.columns
    views = dict(mapping.views)
    for text in options.view:
        name, is_said, template = text.partition("=")
        if not is_said or name not in views:
            raise UserError(f"--view={text}: want NAME=TEMPLATE; {model.name} reads {', '.join(views)}")
        views[name] = template
    changes = {name: getattr(options, name) for name in ("encoding", "separator") if getattr(options, name) is not None}
    mapping = replace(mapping, views=views, **changes)
    return mapping if options.id is None else replace(mapping, id=options.id or None)


def run(
    name: str, do: Callable[[argparse.Namespace], int], options: argparse.Namespace, interrupted: str = "interrupted"
) -> None:
    """Do what a command line says, and exit with the status that it returns, or with one line that says what is wrong.

    Where people have to answer first the line says so, and the status is `silvertune.errors.WAITS_FOR_PEOPLE`.

    Args:
        name: The program's name.
        do: What to do; it returns the exit status.
        options: The command line's options.
        interrupted: What to say when it is interrupted (exit status 130), by SIGTERM as well.
    """
    from silvertune import import_path
    from silvertune.study import console

    console.make_printable()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        import_path.look_in(working_directory())
        with console.lasting():
            status = do(options)
    except WaitingForAnswersError as waiting:
        print(f"{name}: {in_one_line(waiting)}", file=sys.stderr)
        sys.exit(WAITS_FOR_PEOPLE)
    except UserError as error:
        sys.exit(f"{name}: {in_one_line(error)}")
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        sys.exit(130)
    if status:
        sys.exit(status)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def share(key: str, value: float) -> float:
    """Check an option that is a number above 0 and below 1. Raises UserError where it is not."""
    from silvertune.errors import check_number

    check_number(key, value, most=1, above=True, below=True)
    return value


def unique(names: Sequence[str], what: str) -> None:
    """Refuse ids that are empty or there twice. Raises UserError."""
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name or name in seen:
            problem = f"id {name!r} is there twice" if name else "has no id"
            raise UserError(f"{what}: row {number} {problem}; want one row an item, or --id '' to number the rows")
        seen.add(name)
