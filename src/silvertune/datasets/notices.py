"""What a user should know of the data that were read, and that is no error."""

import sys
from functools import cache


@cache
def say(text: str) -> None:
    """Print a line on stderr, once a process: many jobs of a sweep read the same file."""
    print(f"silvertune: {text}", file=sys.stderr)
