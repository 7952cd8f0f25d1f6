"""Folders that hold a tuned predictor: written whole or not at all, and loaded by what they say of themselves."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from silvertune import import_path
from silvertune.errors import UserError
from silvertune.interfaces import Predictor

ABOUT = "silvertune.json"


@contextmanager
def new_folder(path: Path, loader: str, about: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write a predictor to, which becomes `path` when all went well and is gone if not.

    loader: import path of the function that loads it: `loader(folder) -> Predictor`. about: JSON, for `read`.
    Raises UserError if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        (made / ABOUT).write_text(json.dumps({"loader": loader, **about}, indent=1), encoding="utf-8")
        yield made
        made.chmod(0o755)
        os.replace(made, path)
    except OSError as error:
        raise UserError(f"the tuned model can't be saved to {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def read(folder: Path) -> dict[str, Any]:
    """What the predictor in `folder` says of itself. Raises UserError if there is none."""
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder}: holds no tuned model of silvertune (no readable {ABOUT} in it)") from None
    return about


def load(folder: Path) -> Predictor:
    """The predictor saved in `folder`. Raises UserError if there is none, or what it needs is not here."""
    loader: str = read(folder)["loader"]
    predictor: Predictor = import_path.imported(loader)(folder)
    return predictor
