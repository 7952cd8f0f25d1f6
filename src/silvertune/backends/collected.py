"""Predictors that were tuned on another machine, with what was measured and printed there."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune import import_path
from silvertune.backends import job_files
from silvertune.backends.cloud_storage import CloudFolder, digest_of
from silvertune.errors import UserError, in_one_line
from silvertune.interfaces import Predictor

TEXT_FILES = (".json", ".md")
"""Files of a model that may name the place of its base."""
FORMAT = 1
"""Of `result.json` and of what it names: the version that collects a job may be another than the one that sent it."""


@dataclass(frozen=True)
class Collected:
    """A predictor from a job's folder. Its attributes besides `predictor` and `folder` are `PredictorTraits`.

    Attributes:
        predictor: What was loaded.
        folder: Where it was loaded from; `save` copies it.
    """

    predictor: Predictor
    folder: Path
    history: Sequence[Mapping[str, float]]
    ran_on: Mapping[str, str]
    packages: Sequence[str]
    alarms: Sequence[str]
    figures: Mapping[str, float]
    base_model: str
    log: str

    @property
    def classes(self) -> Sequence[str]:
        """The classes that it was tuned on."""
        return self.predictor.classes

    @property
    def views(self) -> Sequence[str]:
        """The views that it reads."""
        return self.predictor.views

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Class probabilities, indexed by (item_id, view), one column a class."""
        return self.predictor.predict_proba(items)

    def save(self, path: Path) -> None:
        """Copy what the job saved to the new folder `path`; nothing is left if that fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            shutil.copytree(self.folder, folder, dirs_exist_ok=True)
            folder.chmod(0o755)
            os.replace(folder, path)
        except (OSError, shutil.Error) as error:
            raise UserError(f"the tuned model can't be saved to {path}: {in_one_line(error)[:200]}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def collect(output: CloudFolder, paths: Sequence[Path], cache: Path, job: str) -> Collected:
    """Load the predictor that a job has left in its folder.

    Args:
        output: The job's folder.
        paths: The paths of the model's configuration on this machine, by number (`job_files.ModelFiles`).
        cache: Folder where downloaded models are kept.
        job: The job's name, for messages.

    Raises:
        UserError: The job has left no result, another version of silvertune has written it, or a file of it is not what
            was stored.
    """
    content = output.read("result.json")
    if content is None:
        raise UserError(
            f"tuning job {job} succeeded, and there is no {output.url}/result.json: did somebody delete it? "
            "silvertune-jobs forget has it tuned, and paid for, anew"
        )
    result = json.loads(content)
    if result.get("format") != FORMAT:
        raise UserError(
            f"{output.url}/result.json: this version of silvertune can't read it, and "
            f"{result.get('version', 'an older')} can: collect it with that, or silvertune-jobs forget has it tuned, "
            "and paid for, anew"
        )
    folder = cache / "vertex_job" / hashlib.sha256(content + repr(paths).encode()).hexdigest()
    if not folder.is_dir():
        _download(output, result, paths, folder)
    log = output.read(result["log"].removeprefix(f"{output.url}/"))
    if log is None:
        log = f"{result['log']} is gone\n".encode()
    traits: dict[str, Any] = {name: result[name] for name in ("history", "ran_on", "packages", "alarms", "figures")}
    traits["base_model"] = _with_paths_here(result["base_model"], result, paths)
    loader = json.loads((folder / "silvertune.json").read_text(encoding="utf-8"))["loader"]
    return Collected(import_path.imported(loader)(folder), folder, **traits, log=log.decode("utf-8"))


def _download(output: CloudFolder, result: Mapping[str, Any], paths: Sequence[Path], folder: Path) -> None:
    """Download a model's files into a new folder, which is there whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".downloading-", dir=folder.parent))
    try:
        for name, url in result["model"].items():
            file, path = temporary / name, url.removeprefix(f"{output.url}/")
            output.download(path, file)
            if digest_of(file) != path.partition("/")[0]:
                raise UserError(f"{url}: is not what the job stored; run the same command again")
            if file.suffix in TEXT_FILES:
                text = file.read_text(encoding="utf-8")
                file.write_text(_with_paths_here(text, result, paths), encoding="utf-8")
        temporary.chmod(0o755)
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.is_dir():  # else another process has it
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _with_paths_here(text: str, result: Mapping[str, Any], paths: Sequence[Path]) -> str:
    """A text, or JSON, with the paths of the model's files on this machine in place of those on the other one."""
    for number in reversed(range(len(paths))):
        there, here = str(job_files.place(Path(result["made_in"]), number)), str(paths[number])
        text = text.replace(json.dumps(there)[1:-1], json.dumps(here)[1:-1])
    return text
