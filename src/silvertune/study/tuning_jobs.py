"""The command line: `silvertune-jobs`. Lists the tuning jobs of a ledger, cancels them at the provider, forgets them.

Nothing is imported before the arguments are read, so that `--help` answers at once.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from silvertune.errors import UserError, in_one_line, working_directory

if TYPE_CHECKING:
    from silvertune.backends.ledger import Entry, Ledger
    from silvertune.backends.remote import Remote

DESCRIPTION = "Look after tuning jobs that a provider bills: list those of a ledger, cancel them, forget them."
EXAMPLES = """examples:
  silvertune-jobs list sqlite:///mlruns/ledger.sqlite
  silvertune-jobs cancel 3f2a9c41 backend=mine backend.service.project=my-project
  silvertune-jobs cancel 7b1d labeler=openai labeler.llm.openai.batch=true
  silvertune-jobs forget postgresql+pg8000://user@host/database 3f2a9c41

A key may be shortened to its first characters, as `list` shows it. `cancel` asks the provider, so it takes the
overrides of the study that name the backend, or the LLM whose batch it is (of batches, the ledger is the answer
store's database: labeler.store.url, or batches.sqlite in the cache of tracking.dir); `list` and `forget` take the
ledger's URL (backend.ledger.url). `forget` is for a job that somebody has looked for at the provider, and that does
not run there, or whose result is gone: the next run of the study submits it anew, and pays for it anew. What was set
aside for a job that was seen running counts as spent."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits 0, or 1 with one line that says what is wrong.

    Args:
        arguments: The command line's arguments; None: those of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        working_directory()
        options.do(options)
    except UserError as error:
        sys.exit(f"silvertune-jobs: {in_one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="silvertune-jobs",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="list | cancel | forget")
    listing = commands.add_parser("list", help="show state, dollars, age and name of each job")
    listing.add_argument("url", help="the ledger: a SQLAlchemy URL")
    listing.set_defaults(do=lambda options: _list(_existing(options.url)))
    cancelling = commands.add_parser("cancel", help="have the provider end jobs, and write down what they cost")
    cancelling.add_argument(
        "words", nargs="+", metavar="KEY|OVERRIDE", help="keys, and overrides that name the backend"
    )
    cancelling.set_defaults(do=lambda options: _cancel(options.words))
    forgetting = commands.add_parser(
        "forget", help="let jobs be submitted anew that do not run at the provider, or whose results are gone"
    )
    forgetting.add_argument("url", help="the ledger: a SQLAlchemy URL")
    forgetting.add_argument("keys", nargs="+", metavar="KEY")
    forgetting.set_defaults(do=lambda options: _forget(_existing(options.url), options.keys))
    return parser


def _existing(url: str) -> "Ledger":
    """The ledger at a URL; a mistyped one must not make a new file."""
    from silvertune.backends.ledger import Ledger
    from silvertune.databases import engine

    if not engine.exists(url):
        raise UserError(f"{url}: no such ledger; want the URL that is the study's backend.ledger.url")
    return Ledger(url, budget_usd=None, lease_s=60.0)


def _list(ledger: "Ledger") -> None:
    from rich.table import Table

    from silvertune.backends.ledger import UNFINISHED
    from silvertune.study.console import open_console

    console, entries = open_console(), ledger.entries()
    table = Table(title=f"tuning jobs of {ledger.address}", title_justify="left")
    for column in ("key", "state", "billed", "set aside", "for", "job", "message"):
        table.add_column(
            column, overflow="fold", justify="right" if column in ("billed", "set aside", "for") else "left"
        )
    for entry in entries:
        table.add_row(
            entry.key[:12], entry.state, f"${entry.billed_usd:.2f}", f"${entry.reserved_usd:.2f}",
            _age(time.time() - entry.changed_at), entry.job or entry.label, entry.message,
        )  # fmt: skip
    if entries:
        console.print(table, markup=False)
    billed = sum(entry.billed_usd for entry in entries)
    reserved = sum(entry.reserved_usd for entry in entries if entry.state in UNFINISHED)
    running = sum(entry.state == "running" for entry in entries)
    doubtful = sum(entry.state in ("sent", "unknown") for entry in entries)
    line = f"{len(entries)} job(s): ${billed:.2f} billed, ${reserved:.2f} set aside; "
    line += f"{running} run at the provider and bill"
    line += f", {doubtful} may do so: look there for their labels" * bool(doubtful)
    console.print(line, highlight=False, soft_wrap=True)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _forget(ledger: "Ledger", keys: Sequence[str]) -> None:
    for entry in [_matching(ledger, key) for key in keys]:
        before = ledger.forget(entry.key)
        print(f"{before.key}: was {before.state}; the next run of its study submits it anew")


def _cancel(words: Sequence[str]) -> None:
    keys, overrides = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    if any(override.startswith(("labeler=", "labeler.", "labeler/")) for override in overrides):
        return _cancel_batches(keys, overrides)
    remote = _remote(overrides)
    for entry in [_matching(remote.ledger, key) for key in keys]:
        after = remote.cancel(entry.key)
        print(f"{after.key}: {after.state}, ${after.billed_usd:.2f} billed")


def _cancel_batches(keys: Sequence[str], overrides: list[str]) -> None:
    """Ask the provider of the one LLM that the overrides name; the study takes what was answered until then."""
    from silvertune.backends.ledger import Ledger
    from silvertune.labelers import batches
    from silvertune.labelers.llm import LLMLabeler
    from silvertune.llms.interface import BatchedLLM
    from silvertune.study import command

    labeler = command.labeler_of(overrides)
    llms = list(labeler.llm.values()) if isinstance(labeler, LLMLabeler) else []
    if not isinstance(labeler, LLMLabeler) or len(llms) != 1 or not isinstance(llms[0], BatchedLLM):
        raise UserError(f"{' '.join(overrides)}: want the one LLM that was asked by batches: labeler=openai or another")
    ledger = Ledger(batches.ledger_url(labeler.store.url, labeler.cache), budget_usd=None, lease_s=60.0)
    for entry in [_matching(ledger, key) for key in keys]:
        if entry.state != "running":
            raise UserError(f"key={entry.key}: is {entry.state}; only a batch that runs can be cancelled")
        try:
            llms[0].cancel_batch(entry.job)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"key={entry.key}: batch {entry.job} can't be cancelled ({in_one_line(error)})") from error
        print(f"{entry.key}: its provider ends it; the same study takes what it has answered, which is paid for")


def _remote(overrides: list[str]) -> "Remote":
    """The backend that the overrides name."""
    from silvertune.backends.remote import Remote
    from silvertune.study import command

    backend = command.backend_of(overrides)
    if not isinstance(backend, Remote):
        raise UserError(f"{' '.join(overrides) or 'backend'}: has no jobs at a provider; want backend=... of the study")
    return backend


def _matching(ledger: "Ledger", key: str) -> "Entry":
    """The one entry whose key begins so."""
    entries = [entry for entry in ledger.entries() if entry.key.startswith(key)]
    if len(entries) != 1:
        raise UserError(f"key={key}: {len(entries)} jobs of {ledger.address} have a key that begins so; want one")
    return entries[0]


if __name__ == "__main__":
    main()
