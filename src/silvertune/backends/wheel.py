"""silvertune as it is installed here, for another machine: a wheel of its files, and pins of the packages it needs."""

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from silvertune.errors import UserError
from silvertune.schema import SHIPPED

DATE = (2020, 1, 1, 0, 0, 0)
"""Of every file in the wheel, so that the same files make the same wheel."""
LEFT_OUT = {"__pycache__", "_shipped"}
LARGEST_MODULE = 200_000_000
"""Bytes of a user's module with all that stands in its folder; more is no code."""
LINUX = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
"""Where the packages are installed, whatever this machine is."""


def name() -> str:
    """The wheel's file name."""
    return f"silvertune-{_version()}-py3-none-any.whl"


def build(modules: Iterable[str] = ()) -> bytes:
    """Make a wheel of silvertune's files, wherever they are installed, with its configurations.

    Args:
        modules: Top-level modules or packages of the user's that go with it.

    Returns:
        The wheel's bytes; the same for the same files. It names no requirements: see `requirements`.

    Raises:
        UserError: A module has no source file, or is too large.
    """
    content, version = dict(_files("silvertune")), _version()
    for group in ("conf", "experiments"):
        for file in sorted((SHIPPED / group).rglob("*.yaml")):
            content[f"silvertune/_shipped/{file.relative_to(SHIPPED)}"] = file.read_bytes()
    for module in modules:
        content |= _files(module)
    info = f"silvertune-{version}.dist-info"
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: silvertune\nVersion: {version}\n".encode()
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: silvertune\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = io.StringIO()
    rows = [(path, f"sha256={_record_digest(data)}", len(data)) for path, data in content.items()]
    csv.writer(record, lineterminator="\n").writerows([*rows, (f"{info}/RECORD", "", "")])
    content[f"{info}/RECORD"] = record.getvalue().encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(zipfile.ZipInfo(path, DATE), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _version() -> str:
    return importlib.metadata.version("silvertune")


def _files(module: str) -> Iterator[tuple[str, bytes]]:
    """(path in the wheel, content) of a top-level module's files."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UserError(f"module {module}: has no source file to be sent or saved")
    origin = Path(spec.origin)
    if origin.name != "__init__.py":
        yield origin.name, origin.read_bytes()
        return
    files: dict[str, Path] = {}
    for file in sorted(origin.parent.rglob("*")):
        path = file.relative_to(origin.parent)
        if file.is_file() and not any(part in LEFT_OUT or part.startswith(".") for part in path.parts):
            files[f"{module}/{path.as_posix()}"] = file
    if (size := sum(file.stat().st_size for file in files.values())) > LARGEST_MODULE:
        raise UserError(
            f"module {module}: its folder {origin.parent} has {size / 1e6:.0f} MB; want "
            f"{LARGEST_MODULE / 1e6:.0f} MB at most: keep data elsewhere"
        )
    for name_in_wheel, file in files.items():
        yield name_in_wheel, file.read_bytes()


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def requirements(others: Iterable[str] = ()) -> str:
    """Pins of all distributions that silvertune needs on Linux, with what those need in turn.

    Versions are those that are installed here; what is not installed here, as only Linux needs it, has no pin. A
    build's local label, such as `+cpu`, is left out: registries have no such builds.

    Args:
        others: Further distributions.

    Returns:
        A requirements file, in the order of the names.

    Raises:
        UserError: silvertune, or one of the others, is not installed as a package.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting = [(canonicalize_name(name), "") for name in ("silvertune", *others)]
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        distribution, extra = waiting.pop()
        if (distribution, extra) in seen:
            continue
        seen.add((distribution, extra))
        try:
            metadata = importlib.metadata.distribution(distribution)
        except importlib.metadata.PackageNotFoundError:
            if distribution in map(canonicalize_name, ("silvertune", *others)):
                raise UserError(f"{distribution}: is not installed as a package here: pip install it") from None
            continue  # what needs it pulls it in on the other machine
        versions[distribution] = metadata.version.partition("+")[0]
        for line in metadata.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({**LINUX, "extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, ""), *((needed, name) for name in requirement.extras)]
    versions.pop("silvertune")
    return "".join(f"{distribution}=={version}\n" for distribution, version in sorted(versions.items()))
