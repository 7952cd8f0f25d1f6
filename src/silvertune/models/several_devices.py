"""Tunes a network in several processes, each on a device of its own; accelerate adds their gradients up.

Every process runs the same fit. Of each batch it reads its share, and all take the same step, so the network learns
what it would learn on one device, but for rounding.
"""

import contextlib
import dataclasses
import io
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from silvertune.errors import UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: the first one validates alone, and computes the frozen layers' states."""
WORK, TUNED, REFUSED, FAILED = "work.pickle", "tuned.pt", "refused.txt", "failed.txt"
"""Files: what the processes do; what they leave: the first one's result, a UserError, another error's traceback."""
PROGRAM = """
import sys
from pathlib import Path
from silvertune.models import several_devices
several_devices.fit_share(int(sys.argv[1]), Path(sys.argv[2]))
"""


class Student(Protocol):
    """A dataclass with these settings."""

    @property
    def device(self) -> str | None:
        """Of torch; None is a GPU if there is one."""
        ...

    @property
    def devices(self) -> int:
        """How many processes."""
        ...

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Any:
        """Tune; what is returned has a `network` and a `history`."""
        ...


@dataclass(frozen=True)
class Work:
    """What each process does: a fit, with so many threads."""

    student: Student
    train: pd.DataFrame
    validation: pd.DataFrame
    seed: int
    threads: int


@dataclass(frozen=True)
class Group:
    """The processes that tune a network together.

    Attributes:
        rank: This process's number, from 0.
        count: How many there are, from 1.
    """

    rank: int = 0
    count: int = 1

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's share of a batch, perhaps empty; the shares of all processes are the batch."""
        return rows[self.rank :: self.count]

    def of_first(self, make: Callable[[], T]) -> T:
        """What the first process makes; the others receive it."""
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        results = [make() if self.rank == 0 else None]
        broadcast_object_list(results, from_process=0)
        return results[0]  # type: ignore[return-value]

    def add_up(self, weights: "Sequence[torch.Tensor]", loss: float, share: float) -> float:
        """Make the gradients of shares those of the batch.

        Args:
            weights: Their gradients are those of this process's share; None where it is empty.
            loss: Of the share.
            share: How much of the batch it is, 0 to 1.

        Returns:
            The loss of the batch.
        """
        if self.count == 1:
            return loss
        import torch
        from accelerate.utils import reduce

        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        losses = torch.tensor([loss], device=weights[0].device)
        flat = torch.cat([part.flatten().float() for part in [*gradients, losses]]) * share
        summed = reduce(flat, "sum").split([part.numel() for part in [*gradients, losses]])
        for weight, gradient in zip(weights, summed, strict=False):
            weight.grad = gradient.view_as(weight).to(weight)
        return float(summed[-1])


_GROUP = Group()


def group() -> Group:
    """The group that this process is in, by itself where it was not started by `tune`."""
    return _GROUP


def check(devices: int, device: Any, setting: str | None) -> None:
    """Check that there are so many devices.

    Args:
        devices: `model.devices`.
        device: A torch device, the first of them.
        setting: `model.device`.

    Raises:
        UserError: There are fewer GPUs, `model.device` names one of them, or is of another kind.
    """
    import torch

    if devices == 1 or device.type == "cpu":
        return
    if device.type != "cuda":
        raise UserError(f"model.devices={devices}: {device.type} can't be shared; want 1")
    if device.index is not None:
        raise UserError(f"model.device={setting}: is one GPU, and model.devices={devices}; want model.device=cuda")
    if devices > torch.cuda.device_count():
        raise UserError(
            f"model.devices={devices}: this machine has {torch.cuda.device_count()} GPUs; want as many or 1"
        )


def tune(
    student: Student, train: pd.DataFrame, validation: pd.DataFrame, seed: int
) -> "tuple[list[torch.Tensor], list[dict[str, float]]]":
    """Fit a student in `student.devices` processes.

    Args:
        student: Its module can be imported, and it can be pickled.
        train: As `fit` takes it, and so are the others.
        validation: The same.
        seed: The same.

    Returns:
        The tuned weights of the network in the order of its parameters, on the CPU, and the history.

    Raises:
        UserError: `fit` raises one, or a process is killed.
        RuntimeError: `fit` raises another error.
    """
    import torch

    threads = max(torch.get_num_threads() // student.devices, 1)
    with TemporaryDirectory(prefix="silvertune-") as folder:
        with open(Path(folder) / WORK, "wb") as file:
            pickle.dump(Work(student, train, validation, seed, threads), file)
        # No multiprocessing: it would run a user's script again, and a worker of joblib can't start it.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(student.devices):
                command = [sys.executable, "-P", "-c", PROGRAM, str(rank), folder]
                # In a session of its own, so that Ctrl-C reaches this process alone, which ends the others.
                processes.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
                )
            _wait(processes, Path(folder))
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        weights, history = torch.load(Path(folder) / TUNED, weights_only=True)
    return weights, history


def _wait(processes: "Sequence[subprocess.Popen[bytes]]", folder: Path) -> None:
    """Wait for all, and for none where one fails: the others would wait for it."""
    key = f"model.devices={len(processes)}"
    while any(process.poll() is None for process in processes):
        if any(process.returncode for process in processes):
            break
        time.sleep(0.05)
    codes = [process.poll() for process in processes]
    if not any(codes):
        return
    # Those that waited for a killed one fail too.
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            raise UserError(
                f"{key}: process {rank} of tuning was killed by signal {-code}; if memory ran out, want a smaller "
                "model.batch_size, or fewer devices"
            )
    if (refusal := folder / REFUSED).exists():
        raise UserError(refusal.read_text(encoding="utf-8"))
    failure = folder / FAILED
    reason = failure.read_text(encoding="utf-8") if failure.exists() else f"exit code {next(filter(None, codes))}"
    raise RuntimeError(f"{key}: a process of tuning failed:\n{reason}")


def fit_share(rank: int, folder: Path) -> None:
    """Fit in one of the processes, which `tune` starts.

    Args:
        rank: The process's number, from 0.
        folder: Has the work, and gets the result of the first process.

    Raises:
        SystemExit: It failed; a file in the folder says why.
    """
    import torch

    with open(folder / WORK, "rb") as file:
        work: Work = pickle.load(file)
    torch.set_num_threads(work.threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet = contextlib.redirect_stderr(io.StringIO()) if rank else contextlib.nullcontext()  # each message once
    # It is told before the group is left, since the others fail then.
    with quiet, _told(folder), _joined(rank, work.student, folder), _told(folder):
        student = dataclasses.replace(work.student, devices=1)  # type: ignore[type-var]
        predictor = student.fit(work.train, work.validation, work.seed)
        if rank == 0:
            weights = [weight.detach().cpu() for weight in predictor.network.parameters() if weight.requires_grad]
            torch.save((weights, list(predictor.history)), folder / TUNED)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """The first failure inside is written down, and the process ends."""
    try:
        yield
    except UserError as error:
        (folder / REFUSED).write_text(str(error), encoding="utf-8")
        sys.exit(1)
    except Exception:
        if not any((folder / name).exists() for name in (REFUSED, FAILED)):
            (folder / FAILED).write_text(traceback.format_exc(), encoding="utf-8")
        sys.exit(1)


@contextlib.contextmanager
def _joined(rank: int, student: Student, folder: Path) -> Iterator[None]:
    """Inside, this process is one of those that tune together."""
    global _GROUP
    import torch
    from accelerate import PartialState
    from accelerate.utils import check_cuda_p2p_ib_support

    count = student.devices
    # No GPU is asked for memory before this process has chosen its own.
    has_gpu = torch.cuda.is_available() and student.device != "cpu"
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # else accelerate chooses, and warns
    if has_gpu and not check_cuda_p2p_ib_support():  # as `accelerate launch` does for cards that can't
        os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    meeting = f"file://{(folder / 'meeting').absolute()}"
    state = PartialState(cpu=not has_gpu, init_method=meeting, rank=rank, world_size=count, timeout=PATIENCE)
    _GROUP = Group(state.process_index, state.num_processes)
    try:
        yield
    finally:
        state.destroy_process_group()


def _end_with_parent() -> None:
    """A killed run leaves no process behind: the pipe that it holds is closed."""
    os.read(0, 1)  # not sys.stdin: Python could not end while a thread reads it
    os._exit(1)
