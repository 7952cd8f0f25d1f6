"""Which process owns a row, and whether it is still there."""

import os
import socket
import uuid


def new_owner() -> str:
    """A name for an object of this process that no other object ever has."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}:{uuid.uuid4().hex[:8]}"


def is_gone(owner: str) -> bool:
    """Whether the owner's process was on this machine and is there no longer; False of other machines."""
    host, pid, started, _ = owner.split(":")
    return host == socket.gethostname() and _started(int(pid)) != int(started)


def _started(pid: int) -> int:
    """When a process was started (epoch seconds): a number may come back, both do not. 0: no such process."""
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0
