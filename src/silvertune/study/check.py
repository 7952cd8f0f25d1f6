"""`mode=check`: would the composed sweep work here? Packages, credentials, reachability and permissions."""

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from silvertune import composition
from silvertune.errors import cause_and_place
from silvertune.interfaces import CheckResult, LabelerTraits
from silvertune.study.job import Job
from silvertune.tracking import store


def show(console: Console, jobs: list[Job]) -> bool:
    """Print what each part says of this machine, and how to mend what would fail. Nothing is labelled or paid for.

    Args:
        console: Where to print.
        jobs: All jobs of the sweep. Their parts are built, so their configuration is right.

    Returns:
        Whether all is well.
    """
    table = Table(title="check (nothing was done)", title_justify="left")
    for column in ("", "what", "to mend it"):
        table.add_column(column, overflow="fold")
    results = [*_tracking(jobs[0].config["tracking"]), *_labelers(jobs), *_backends(jobs)]
    for result in results:
        table.add_row("[green]ok[/]" if result.ok else "[red]fails[/]", escape(result.what), escape(result.mend))
    console.print(table)
    return all(result.ok for result in results)


def _tracking(tracking: dict[str, Any]) -> Iterator[CheckResult]:
    folder = Path(tracking["dir"]).absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            yield CheckResult(f"tracking.dir={tracking['dir']} can be written", True)
    except OSError as error:
        mend = f"{error.strerror}: choose another tracking.dir, or make it writable for {os.environ.get('USER', 'you')}"
        yield CheckResult(f"tracking.dir={tracking['dir']} can be written", False, mend)
    address = store.uri(tracking)
    if address.startswith("http"):
        try:
            store.client(tracking).search_experiments(max_results=1)
            yield CheckResult(f"tracking.uri={address} answers", True)
        except Exception as error:  # whatever MLflow's client makes of a server
            yield CheckResult(
                f"tracking.uri={address} answers", False, f"{cause_and_place(error)[:200]}: is it up, and yours?"
            )


def _labelers(jobs: list[Job]) -> Iterator[CheckResult]:
    """What each different labeler says of itself; most need nothing but their configuration."""
    keys: set[str] = set()
    for job in jobs:
        for part, labeler_key, source in composition.labeling_sources(job.config, job.parts):
            if labeler_key not in keys:
                keys.add(labeler_key)
                yield from _named(f"{part}={job.names[part]}", LabelerTraits.of(source.labeler).check)


def _backends(jobs: list[Job]) -> Iterator[CheckResult]:
    """What each different backend says of the model that it would tune."""
    keys: set[str] = set()
    for job in jobs:
        parts, key = job.parts, repr((job.config["backend"], job.config["model"]))
        if parts.model is not None and key not in keys:
            keys.add(key)
            name = f"backend={job.names['backend']}, model={job.names['model']}"
            yield from _named(name, partial(parts.backend.probe, parts.model))


def _named(name: str, check: Callable[[], list[CheckResult]]) -> Iterator[CheckResult]:
    """The results of a part's check, under the part's name; a check that fails is a result as well."""
    try:
        results = check()
    except Exception as error:  # of a part of the user's, or of a provider's library
        results = [CheckResult("usable", False, cause_and_place(error)[:300])]
    yield from (CheckResult(f"{name}: {result.what}", result.ok, result.mend) for result in results)
