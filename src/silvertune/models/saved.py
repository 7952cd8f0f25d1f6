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
IN_MLFLOW_MODEL = Path("data") / "silvertune" / "predictor"
"""Where the predictor is in an MLflow model: MLflow copies our folder, with its name, into its own `data`."""
SETTINGS = IN_MLFLOW_MODEL.with_name("decision.json")
"""Where an MLflow model has its task, its decision and threshold, and how views are made of a file's columns."""


@contextmanager
def new_folder(path: Path, loader: str, about: Mapping[str, Any]) -> Iterator[Path]:
    """Make a folder to write a predictor to, which becomes `path` when all went well and is gone if not.

    Args:
        path: The new folder.
        loader: Import path of the function that loads the predictor: `loader(folder)`, or `loader(folder, base)` where
            the predictor needs a base.
        about: JSON, for `read`.

    Raises:
        UserError: `path` can't be written, such as where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        _write(folder, {"loader": loader, **about})
        yield folder
        files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".md"]
        _write(folder, {"loader": loader, **about, "files": [str(file.relative_to(folder)) for file in files]})
        folder.chmod(0o755)
        os.replace(folder, path)
    except OSError as error:
        raise UserError(f"the tuned model can't be saved to {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, about: Mapping[str, Any]) -> None:
    (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """What the predictor in `folder` says of itself. Raises UserError if there is none."""
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder}: holds no tuned model of silvertune (no readable {ABOUT} in it)") from None
    return about


def files(folder: Path) -> list[Path]:
    """The files in `folder` that decide what its predictor predicts; notes that were added later do not."""
    try:
        return [folder / name for name in read(folder)["files"]]
    except (UserError, LookupError):  # no predictor, which loading tells; or one of 0.1
        return list(folder.rglob("*"))


def load(folder: Path, base: Path | None = None) -> Predictor:
    """Load the predictor saved in `folder`.

    Args:
        folder: Written by a predictor's `save`.
        base: Where the folder of the model that an adapter was tuned on is now; None is where it was.

    Raises:
        UserError: There is no predictor, it can't be loaded here, or it needs no base.
    """
    about = read(folder)
    if base is not None and not about.get("adapter"):
        raise UserError(f"labeler.base={base}: the model in {folder} was saved whole and needs no base; want null")
    try:
        loader = import_path.imported(about["loader"])
        predictor: Predictor = loader(folder) if base is None else loader(folder, base)
    except UserError:
        raise
    except Exception as error:  # whatever is wrong in its files, or the module of a user that loads it
        raise UserError(
            f"{folder}: the model in it can't be loaded here ({type(error).__name__}: {error}); want all of its files, "
            "the modules of its own classes on the path, and the packages that requirements.txt of the model names"
        ) from error
    return predictor
