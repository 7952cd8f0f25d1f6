"""`mode=check`: would the composed sweep work here? Packages, credentials, reachability and permissions."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from silvertune import composition
from silvertune.errors import UserError, cause_and_place
from silvertune.llms.interface import Finding
from silvertune.study.job import Job
from silvertune.tracking import store


def show(console: Console, jobs: list[Job]) -> bool:
    """Print what was looked at and how to mend what would fail; whether all is well. Labels nothing, asks nobody.

    The jobs have been composed and bound to their data, so what the configuration says is known to be right.
    """
    table = Table(title="check (nothing was done)", title_justify="left")
    for column in ("", "what", "to mend it"):
        table.add_column(column, overflow="fold")
    found = [*_tracking(jobs[0].config["tracking"]), *_labelers(jobs)]
    for finding in found:
        table.add_row("[green]ok[/]" if finding.ok else "[red]fails[/]", escape(finding.what), escape(finding.mend))
    console.print(table)
    return all(finding.ok for finding in found)


def _tracking(tracking: dict[str, Any]) -> Iterator[Finding]:
    folder = Path(tracking["dir"]).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            yield Finding(f"tracking.dir={tracking['dir']} can be written", True)
    except OSError as error:
        mend = f"{error.strerror}: choose another tracking.dir, or make it writable for {os.environ.get('USER', 'you')}"
        yield Finding(f"tracking.dir={tracking['dir']} can be written", False, mend)
    address = store.uri(tracking)
    if address.startswith("http"):
        try:
            store.client(tracking).search_experiments(max_results=1)
            yield Finding(f"tracking.uri={address} answers", True)
        except Exception as error:  # whatever MLflow's client makes of a server
            yield Finding(
                f"tracking.uri={address} answers", False, f"{cause_and_place(error)[:200]}: is it up, and yours?"
            )


def _labelers(jobs: list[Job]) -> Iterator[Finding]:
    """What each different labeler says of itself; most need nothing but their configuration."""
    seen: set[str] = set()
    for job in jobs:
        built = job.parts
        for part, which, source in composition.labeling_sources(job.config, built):
            if which in seen:
                continue
            seen.add(which)
            check = getattr(source.labeler, "check", None)
            try:
                found = check() if check is not None else [Finding("nothing to reach", True)]
            except UserError as error:
                found = [Finding("usable", False, str(error))]
            name = job.names[part]
            yield from (Finding(f"{part}={name}: {finding.what}", finding.ok, finding.mend) for finding in found)
