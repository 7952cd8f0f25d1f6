"""Which process owns a row, and whether it is still there.

A process is judged by what the operating system says of it, where this process can see it: same host, same boot,
same PID namespace. Its start is told in ticks since the boot, which no step of the clock changes.
"""

import hashlib
import os
import socket
import sys
import uuid
from pathlib import Path


def new_owner() -> str:
    """A name for an object of this process that no other object ever has; at most 200 characters."""
    pid = os.getpid()
    return f"{socket.gethostname()[:100]}/{_digest(place())}/{pid}/{start_time(pid)}/{uuid.uuid4().hex[:8]}"


def is_gone(owner: str) -> bool:
    """Whether the owner's process could be seen from here and is there no longer.

    Args:
        owner: A name that `new_owner` made, in this process or in another.

    Returns:
        False of processes that cannot be seen from here: those of other machines and containers.
    """
    try:
        _, digest, pid, started, _ = owner.rsplit("/", 4)
    except ValueError:
        return False
    return digest == _digest(place()) and not is_running(int(pid), started)


def in_words(owner: str) -> str:
    """An owner's process, for messages."""
    host, _, pid, *_ = [*owner.rsplit("/", 4), "?", "?"]
    return f"process {pid} on {host}"


def is_running(pid: int, started: str) -> bool:
    """Whether a process of this place runs, and is no later process with the same number.

    Args:
        pid: Its number.
        started: What `start_time` said of it.
    """
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and start_time(pid) == started
    except (psutil.NoSuchProcess, OSError):
        return False


def place() -> dict[str, str]:
    """Where this process can be seen from: `host`, `boot` and `pid_namespace`, empty where the system has none."""
    return {"host": socket.gethostname(), "boot": _boot(), "pid_namespace": _pid_namespace()}


def start_time(pid: int) -> str:
    """When a process began: in clock ticks since the boot, or in seconds since 1970 where there is no `/proc`.

    Raises:
        OSError: There is no such process (where there is no `/proc`: `psutil.NoSuchProcess`).
    """
    if sys.platform == "linux":
        # The name of the program stands in parentheses and may hold blanks; the 20th field after it is the start.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    import psutil

    return str(psutil.Process(pid).create_time())


def _digest(names: dict[str, str]) -> str:
    return hashlib.sha256(repr(sorted(names.items())).encode()).hexdigest()[:16]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
