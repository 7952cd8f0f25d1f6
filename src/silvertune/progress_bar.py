"""A progress bar with rate and time left, for work within one run."""

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


def on_stderr() -> Console:
    """A console on the standard error, with bars where that is a terminal.

    Returns:
        One that prints plain lines in a notebook, where rich would show a bar and a warning anew at every refresh.
    """
    return Console(stderr=True, force_jupyter=False)


@contextmanager
def shown(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar on the terminal until the block ends; show nothing where there is no terminal.

    Args:
        description: The work, such as `asking gpt`.
        total: The number of its steps.

    Yields:
        A function to call after each step, with a text to show behind the bar; and, where it was several, how many.
    """
    console = on_stderr()
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    suffix = TextColumn("{task.fields[suffix]}")
    with Progress(*columns, suffix, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total, suffix="")
        yield lambda text, steps=1: progress.update(task, advance=steps, suffix=text)


def over(steps: Collection[T], description: str) -> Iterator[T]:
    """Iterate with a bar.

    Args:
        steps: What to iterate over.
        description: The work, such as `tuning`.

    Yields:
        Each of the steps.
    """
    with shown(description, len(steps)) as advance:
        for step in steps:
            yield step
            advance("")
