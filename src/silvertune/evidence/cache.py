"""Files of evidence that is expensive to compute, named by a digest of what determines it."""

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from filelock import FileLock

PACKAGES_THAT_COMPUTE = ("numpy", "pandas", "scikit-learn", "torch", "transformers")
"""Another version of these packages may compute other numbers."""


def cached(folder: Path, name: str, determined_by: list[str], build: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read a table of evidence from disk, or build it once.

    The first process builds it; others wait and then read it. A file is written under another name and then renamed,
    so that no process reads half a file. A file that can't be read is built again.

    Args:
        folder: A folder that all runs of a study share; it is created if it is missing.
        name: The name of the evidence, for the file.
        determined_by: All that determines the table; another list is another file.
        build: Makes the table.

    Returns:
        The table, as read from disk.
    """
    key = hashlib.sha256("\0".join([*determined_by, *map(version, PACKAGES_THAT_COMPUTE)]).encode()).hexdigest()
    file = folder / f"{name}-{key}.parquet"
    if (table := _read(file)) is not None:
        return table
    folder.mkdir(parents=True, exist_ok=True)
    # One process computes; the others wait for it and then read.
    with FileLock(f"{file}.lock"):
        if (table := _read(file)) is not None:
            return table
        written = file.with_suffix(f".{os.getpid()}.tmp")
        build().to_parquet(written)
        written.replace(file)
        return pd.read_parquet(file)  # not the built table, so that the types are the same every time


def content_of(frame: pd.DataFrame) -> str:
    """Compute a digest of a table's values, columns and index that does not depend on the order of its rows.

    Args:
        frame: The table, with unique index values.

    Returns:
        The digest, hexadecimal.
    """
    digest = hashlib.sha256(repr([*map(str, frame.columns)]).encode())
    for row in frame.sort_index().itertuples(name=None):
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _read(file: Path) -> pd.DataFrame | None:
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError):  # not there, or no parquet
        return None
