"""The one rule for launchers that start jobs on other machines: whatever jobs share must be reachable from there."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from silvertune import import_path
from silvertune.errors import UserError
from silvertune.tracking import store

ON_THIS_MACHINE = ("basic_launcher.", "joblib_launcher.", "submitit_launcher.LocalLauncher")
"""Parts of the `_target_`s of launchers whose jobs run on this machine."""
NETWORK_FILE_SYSTEMS = (
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "orangefs", "smb3",
    "smbfs", "virtiofs", "wekafs",
)  # fmt: skip


def check(launcher: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a launcher whose jobs, on other machines, could not reach what they share.

    A launcher whose jobs run on this machine says so: its class has `stays_on_this_machine`, which is true, or a
    function of the settings that is true of them. Jobs of others need the tracking store, the answer store of each LLM
    labeler and the ledger of the backend by URL, and `tracking.dir`, with its caches, on storage that all machines
    share.

    Args:
        launcher: The launcher's settings, with its `_target_`.
        configs: The resolved configurations of the jobs.

    Raises:
        UserError: Something is missing; the message lists all of it.
    """
    target = str(launcher["_target_"])
    if any(name in target for name in ON_THIS_MACHINE) or _says_that_it_stays(target, launcher):
        return
    missing = list(dict.fromkeys(text for config in configs for text in _missing(config)))
    if missing:
        name = target.split(".")[-1]
        raise UserError(f"hydra/launcher={name} starts jobs on other machines, which can't reach: {'; '.join(missing)}")


def _says_that_it_stays(target: str, launcher: Mapping[str, Any]) -> bool:
    """Whether the launcher's class has `stays_on_this_machine`, and that is true of these settings."""
    try:
        stays = getattr(import_path.imported(target), "stays_on_this_machine", False)
    except Exception:  # Hydra says why it can't be imported
        return False
    return bool(stays(launcher) if callable(stays) else stays)


def _missing(config: Mapping[str, Any]) -> Iterator[str]:
    address = store.uri(config["tracking"])
    if address.startswith(("sqlite:", "file:")) or ("://" not in address and address not in store.NAMED_STORES):
        yield f"tracking.uri={store.printable(address)} (want http(s)://... or postgresql+pg8000://...)"
    for key, url in _answer_stores(config, ""):
        if _is_file(url):
            yield f"{key}={url or 'null'} (want postgresql+pg8000://user@host/database)"
    backend = config.get("backend") or {}
    if "ledger" in backend:
        ledger, key = backend["ledger"], "backend.ledger"
        if isinstance(ledger, Mapping):
            ledger, key = ledger.get("url"), "backend.ledger.url"
        if _is_file(ledger):
            yield f"{key}={ledger or 'null'} (want postgresql+pg8000://user@host/database)"
    folder = Path(config["tracking"]["dir"])
    if not folder.is_absolute() or not _is_shared(folder):
        yield f"tracking.dir={folder} (want an absolute folder on storage that all machines share, for the caches)"


def _answer_stores(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The configuration key and the URL of each answer store."""
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        if name == "store" and isinstance(value, Mapping) and "url" in value:
            yield f"{prefix}store.url", value["url"]
        else:
            yield from _answer_stores(value, f"{prefix}{name}.")


def _is_file(url: Any) -> bool:
    return not url or str(url).startswith("sqlite")


def _is_shared(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that is nearest, is on a network file system."""
    import psutil

    nearest = next(place for place in (folder, *folder.parents) if place.exists()).resolve()
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    mount = next((str(place) for place in (nearest, *nearest.parents) if str(place) in mounts), "")
    return mounts.get(mount, "").startswith(NETWORK_FILE_SYSTEMS)
