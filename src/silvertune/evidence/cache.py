"""Evidence that is expensive to compute, kept on disk under the digest of what decides it."""

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from filelock import FileLock

DECIDE_NUMBERS = ("numpy", "pandas", "scikit-learn", "torch", "transformers")
"""Packages of which another version may compute other numbers."""


def cached(folder: Path, name: str, deciding: list[str], build: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What `build` gives: built once for all that is in `deciding`, by whichever process is first, then read.

    folder: shared by all runs of a study; created where it is missing. name: of the evidence, for the file.
    A file is written under another name and renamed, so that no half-written one is ever read; one that can't be
    read is built anew.
    """
    key = hashlib.sha256("\0".join([*deciding, *map(version, DECIDE_NUMBERS)]).encode()).hexdigest()
    file = folder / f"{name}-{key}.parquet"
    if (found := _read(file)) is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    # One process computes; the others wait for it and then read.
    with FileLock(f"{file}.lock"):
        if (found := _read(file)) is not None:
            return found
        written = file.with_suffix(f".{os.getpid()}.tmp")
        build().to_parquet(written)
        written.replace(file)
        return pd.read_parquet(file)  # not `built`: the types are the same every time


def content_of(frame: pd.DataFrame) -> str:
    """A digest of a table's values, columns and index, in whatever order the rows stand."""
    digest = hashlib.sha256(repr([*map(str, frame.columns)]).encode())
    for row in frame.sort_index().itertuples(name=None):
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _read(file: Path) -> pd.DataFrame | None:
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError):  # not there, or no parquet
        return None
