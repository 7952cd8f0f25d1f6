"""A progress bar with rate and time left, for work inside one run."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def shown(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on the terminal, gone when the block ends; none where there is no terminal.

    Gives a function to be called after each of `total` steps, with what else is to be told.
    """
    console = Console(stderr=True)
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    told = TextColumn("{task.fields[told]}")
    with Progress(*columns, told, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, told="")
        yield lambda told: progress.update(task, advance=1, told=told)


def over(steps: Collection[T], what: str) -> Iterator[T]:
    """`steps`, with a bar while they are gone through."""
    with shown(what, len(steps)) as done:
        for step in steps:
            yield step
            done("")
