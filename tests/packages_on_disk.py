"""Registry packages made on the spot: installed as pip leaves them, with code that must never be run."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, package: str, files: Mapping[str, bytes]) -> None:
    """Put a package with some files of data into the folder `site`, which a test puts on `sys.path`."""
    module = package.replace("-", "_")
    written = {f"{module}/__init__.py": b"raise RuntimeError('the code of a package was run')\n"}
    written |= {f"{module}/data/{name}": content for name, content in files.items()}
    info = f"{module}-1.0.dist-info"
    written[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode()
    written[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in written).encode()
    for name, content in written.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
