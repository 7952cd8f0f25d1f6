"""A command line in a process of its own, forked from one that has imported the libraries already.

A new interpreter takes 3 CPU seconds to import torch, MLflow and scikit-learn, and MLflow takes as long to make its
database. What the command reads and writes, its exit status and its memory are its own all the same. Tests of imports,
of the interpreter's options and of the first start begin a new one instead.
"""

import atexit
import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import mlflow.store.db.utils
from tests import blank_figures, stores

from silvertune.tracking import database

LIBRARIES = [
    "hydra.main",
    "hydra._internal.config_loader_impl",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "peft",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "torch",
    "transformers",
    "google.cloud.storage",
    "silvertune.__main__",
    "silvertune.study.compare",
    "silvertune.study.job_container",
    "silvertune.study.sweep",
    "silvertune.tracking.serving",
    "silvertune.models",
    "silvertune.labelers",
    "silvertune.backends",
]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*LIBRARIES, "tests.forked", "tests.warmed_up"])


def run(
    module: str,
    folder: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    timeout: float = 300,
    killed_when: Callable[[], bool] | None = None,
    stdout: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """`python -m module arguments` until it ends.

    Args:
        module: Has a function `main`, which takes its arguments from `sys.argv`.
        folder: Its working directory.
        arguments: After the module's name.
        environment: All of its environment.
        timeout: In seconds; a process that takes longer is killed.
        killed_when: Asked again and again while it works: where it is true, the process is killed.
        stdout: Where it prints; None: into what is returned.

    Returns:
        Its exit status and what it printed.
    """
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        work = (module, folder, arguments, dict(environment), stdout or out, err, stores.made())
        process = CONTEXT.Process(target=_main, args=work)
        process.start()
        while killed_when and process.exitcode is None:
            if killed_when():
                process.kill()
            process.join(0.01)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([module, *arguments], timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(
            [module, *arguments], process.exitcode, "" if stdout else out.read_text("utf-8"), err.read_text("utf-8")
        )


def _main(
    module: str,
    folder: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    out: Path,
    err: Path,
    database_made: Path,
) -> None:
    gc.freeze()  # the libraries are no garbage
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1, errors="backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [module, *arguments]
    sys.path.insert(0, os.getcwd())
    blank_figures.draw(drawn=blank_figures.DRAWN in environment)
    database._open = partial(stores.copy_or_open, database_made=database_made)
    mlflow.store.db.utils._get_latest_schema_revision = stores.last_migration
    try:
        importlib.import_module(module).main()
    finally:
        # As an interpreter ends: multiprocessing runs no exit functions, and waits first for children that joblib ends
        # in one of them.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
