"""The process in a tuning job's container: `python -m silvertune.study.job_container gs://bucket/.../job.json`.

It makes the model of the configuration that was sent, tunes it on the training set that was sent by the local backend,
and writes log, model and `result.json` to the job's folder. `result.json` comes last: where it is, all is there. A
container that is started again, because its machine was taken away, finds by it that there is nothing left to do.
"""

import importlib.metadata
import io
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from silvertune import composition
from silvertune.backends import collected, job_files
from silvertune.backends.cloud_storage import CloudFolder
from silvertune.backends.local import Local
from silvertune.errors import UserError, cause_and_place
from silvertune.interfaces import Predictor, PredictorTraits, TrainingSet

SETTING = "job"
LONGEST_LOG = 4_000_000
"""Characters of a log that are kept; of a longer one its beginning and its end."""


def main() -> None:
    """Do the job whose file the command line names. Exits 1 where it fails, with the reason in the job's folder."""
    job = json.loads(job_files.read_url(sys.argv[1], SETTING))
    output = CloudFolder(job["output"], SETTING)
    if output.read("result.json") is not None:
        print("silvertune: an earlier start of this job has done it", file=sys.stderr)
        return
    number = next(number for number in range(1000) if output.read(f"starts/{number}") is None)
    if number > job["restarts"]:
        sys.exit(f"silvertune: this job was started {number} times already; it is not tried again")
    output.create(b"", f"starts/{number}")
    with tempfile.TemporaryDirectory() as folder, _logging() as log:
        try:
            result = _tune(job, output, Path(folder))
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            message = {"message": cause_and_place(error), "log": output.store(log.encoded(), "log.txt")}
            output.create(_json(message), f"failed-{number}.json")
            sys.exit(f"silvertune: {message['message']}")
        result["log"] = output.store(log.encoded(), "log.txt")
    output.create(_json(result), "result.json")


def _tune(job: Mapping[str, Any], output: CloudFolder, folder: Path) -> dict[str, Any]:
    config = job_files.fetch(job["config"], job["model_files"], folder, SETTING)
    train, validation = (job_files.decoded(job_files.read_url(job[name], SETTING)) for name in ("train", "validation"))
    training_set = TrainingSet(train, validation, job["seed"], job["settings"])
    if training_set.key != job["key"]:
        raise UserError(f"the training set came as another one: key {training_set.key}, want {job['key']}")
    model = composition.model_of(config, folder / "cache")
    backend = Local()
    backend.check(model)
    (tuned,) = backend.tune(model, [training_set])
    return _stored(tuned.predictor, output, folder)


def _stored(predictor: Predictor, output: CloudFolder, folder: Path) -> dict[str, Any]:
    """Store a predictor's files; what `silvertune.backends.collected` needs to load it."""
    traits = PredictorTraits.of(predictor)
    predictor.save(folder / "model")
    files = sorted(file for file in (folder / "model").rglob("*") if file.is_file())
    return {
        "format": collected.FORMAT,
        "version": importlib.metadata.version("silvertune"),
        "model": {str(file.relative_to(folder / "model")): output.store(file, file.name) for file in files},
        "made_in": str(folder),
        "history": [dict(epoch) for epoch in traits.history],
        "ran_on": dict(traits.ran_on),
        "packages": list(traits.packages),
        "alarms": list(traits.alarms),
        "figures": dict(traits.figures),
        "base_model": traits.base_model,
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode("ascii")


class _Log:
    """What is printed, and no more of it than `LONGEST_LOG` and as much again."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.size = self.left_out = 0

    def add(self, text: str) -> None:
        self.texts.append(text)
        self.size += len(text)
        if self.size > 2 * LONGEST_LOG:
            self._shorten()

    def _shorten(self) -> None:
        text, half = "".join(self.texts), LONGEST_LOG // 2
        self.left_out += len(text) - 2 * half
        self.texts, self.size = [text[:half], text[-half:]], 2 * half

    def encoded(self) -> bytes:
        if self.size > LONGEST_LOG:
            self._shorten()
        start, *rest = self.texts or [""]
        gap = f"\n[{self.left_out} characters are left out here]\n" if self.left_out else ""
        return "".join([start, gap, *rest]).encode("utf-8", "backslashreplace")


class _Both(io.TextIOBase):
    """Writes to a stream, and keeps what it wrote."""

    def __init__(self, stream: TextIO, log: _Log) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        self.log.add(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


@contextmanager
def _logging() -> Iterator[_Log]:
    """Keep what is printed inside."""
    log = _Log()
    with redirect_stdout(_Both(sys.stdout, log)), redirect_stderr(_Both(sys.stderr, log)):
        yield log


if __name__ == "__main__":
    main()
