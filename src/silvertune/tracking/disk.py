"""Full disks: a run that could not be logged is not started, and a message says which place is full."""

import errno
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from silvertune.errors import UserError

LEAST_FREE = 1 << 20
"""Bytes that must be free before a run starts."""


def check(tracking: Mapping[str, Any]) -> None:
    """Raise UserError if `tracking.dir` or the folder for temporary files is on a full disk.

    Args:
        tracking: The configuration's `tracking`.
    """
    for setting, folder in _places(tracking):
        if (free := shutil.disk_usage(folder).free) < LEAST_FREE:
            raise UserError(
                f"{setting}={folder}: the disk is full ({free:,} bytes are free, and a run needs {LEAST_FREE:,} to "
                "start); make room"
            )


def full_place(error: BaseException, tracking: Mapping[str, Any]) -> str | None:
    """What to tell the user if an error, or one that caused it, means that a disk is full; None if none does.

    Args:
        error: The error.
        tracking: The configuration's `tracking`.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return _message(cause.filename, tracking)
        if "disk is full" in str(cause) or "No space left on device" in str(cause):
            return _message(None, tracking)
        cause = cause.__cause__ or cause.__context__
    return None


def _message(file: Any, tracking: Mapping[str, Any]) -> str:
    places = dict(_places(tracking))
    if file is not None:
        setting = next((name for name, folder in places.items() if Path(file).is_relative_to(folder)), "file")
        return f"{setting}={places.get(setting, file)}: the disk is full (while {file} was written); make room"
    setting, folder = min(places.items(), key=lambda place: shutil.disk_usage(place[1]).free)
    free = shutil.disk_usage(folder).free
    return f"{setting}={folder}: the disk is full ({free} bytes are free); make room"


def _places(tracking: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    folder = Path(tracking["dir"]).absolute()
    yield "tracking.dir", next(place for place in (folder, *folder.parents) if place.exists())
    try:
        yield "TMPDIR", Path(tempfile.gettempdir())
    except FileNotFoundError:  # Python tries to write there first
        raise UserError("TMPDIR: no folder for temporary files can be written (is its disk full?)") from None
