"""What is predicted so far, beside the output: a part for each batch, so that a command that was killed goes on."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from silvertune.errors import UserError
from silvertune.production import output

FINISHED = "finished.json"
LOCK = "lock"
IS_THERE = "is there already; name another file, or remove it"


@dataclass
class Counts:
    """What some predicted rows are.

    Attributes:
        rows: How many.
        statuses: Status -> rows.
        labels: Class -> rows that are predicted as it.
        first_bad: What is wrong with the first row that can't be read; "" where every row can.
        answered_by: `model`, `labeler` or `nobody` -> rows; empty without a cascade.
    """

    rows: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    first_bad: str = ""
    answered_by: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        """Count the rows of `other` as well; they stand behind these."""
        self.rows += other.rows
        pairs = ((self.statuses, other.statuses), (self.labels, other.labels), (self.answered_by, other.answered_by))
        for mine, more in pairs:
            for name, count in more.items():
                mine[name] = mine.get(name, 0) + count
        self.first_bad = self.first_bad or other.first_bad


@dataclass(frozen=True)
class Parts:
    """The folder `OUT.parts` beside an output file.

    Attributes:
        out: The output file.
        folder: The folder.
    """

    out: Path
    folder: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from this output while the block runs.

        Raises:
            UserError: Another command is writing it, the folder is not of such a command, or nothing can be written
                there.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            names = {entry.name for entry in self.folder.iterdir()}
            if names and not names & {LOCK, FINISHED}:  # it is removed in the end
                raise UserError(
                    f"--out={self.out}: {self.folder}, where parts are kept, holds files of another kind; name another "
                    "file, or move them"
                )
            lock = FileLock(self.folder / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise UserError(f"--out={self.out}: another silvertune-predict is writing it") from None
        except OSError as error:
            raise UserError(f"--out={self.out}: can't be written ({error.strerror})") from None
        try:
            yield
        finally:
            lock.release()
            if not any(entry.name != LOCK for entry in self.folder.glob("*")):
                shutil.rmtree(self.folder, ignore_errors=True)

    def counts(self, name: str) -> Counts | None:
        """What the part of this name holds; None where it is not whole."""
        try:
            counts = Counts(**json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return counts if self._file(name).is_file() else None

    def write(self, name: str, content: bytes, counts: Counts) -> None:
        """Keep a part, whole or not at all: the part first, and then what it holds."""
        replace(self._file(name), content)
        replace(self.folder / f"{name}.json", json.dumps(asdict(counts)).encode())

    def join(self, names: Sequence[str], columns: output.Columns, counts: Counts) -> None:
        """Make the output of the parts, whole or not at all, and remove them.

        Args:
            names: The parts, in their order.
            columns: The columns of the output.
            counts: What all of them hold.
        """
        joined = self.folder / "joined"
        with open(joined, "wb") as file:
            output.join(file, [self._file(name) for name in names], output.form_of(self.out), columns)
            file.flush()
            os.fsync(file.fileno())
        finished = {"parts": list(names), "counts": asdict(counts)}
        replace(self.folder / FINISHED, json.dumps(finished).encode())
        os.replace(joined, self.out)
        self.remove()

    def finished(self) -> tuple[list[str], Counts] | None:
        """The names of the parts of the output and what they hold, where a command wrote it and was then stopped.

        None where no command was stopped between writing the output and removing the parts.
        """
        try:
            content = json.loads((self.folder / FINISHED).read_text(encoding="utf-8"))
            return list(content["parts"]), Counts(**content["counts"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def remove(self) -> None:
        """Remove the parts; what says that the output is written, and that the folder is ours, goes last."""
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in (LOCK, FINISHED):
                path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.part"


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk."""
    number, new = tempfile.mkstemp(prefix=f"{path.name}-", suffix=".new", dir=path.parent)
    try:
        with open(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(new, 0o644)  # mkstemp's own is for its maker alone
        os.replace(new, path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk is full, or a file as large as it may be."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
