"""What the docstring of a filter or an aggregation must have: the catalogue in the documentation is made from it."""

import inspect
import re
from collections.abc import Callable
from typing import Any


def gaps(function: Callable[..., Any]) -> list[str]:
    """What a docstring lacks: a summary, `Source:`, each parameter under `Args:`, `Returns:` and `Fails where`.

    The parts stand in this order, `Raises:` (if there is one) between `Returns:` and `Fails where`.
    """
    text = inspect.getdoc(function) or ""
    starts = {
        part: match.start() if (match := re.search(f"^{part}", text, re.MULTILINE)) else -1
        for part in ("Source: .", "Args:\n", "Returns:\n", "Raises:\n", "Fails where .")
    }
    missing = [part for part, start in starts.items() if start < 0 and part != "Raises:\n"]
    there = [start for start in starts.values() if start >= 0]
    if there != sorted(there):
        missing.append("the order of the parts")
    if not re.match(r"[A-Z].*\.$", text.partition("\n")[0]):
        missing.append("a summary of one sentence on the first line")
    described = set(re.findall(r"^    (\w+): \S", section(text, "Args"), re.MULTILINE))
    parameters = set(inspect.signature(function).parameters)
    return missing + sorted(f"Args: {name}" for name in parameters ^ described)


def section(text: str, title: str) -> str:
    """The indented lines under `title:`."""
    match = re.search(rf"^{title}:\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    return match[1] if match else ""
