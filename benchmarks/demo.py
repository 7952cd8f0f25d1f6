"""What `make demo` costs, and on what machine: seconds, CPU seconds, GFLOP/s of float32 matrices, bfloat16 units.

    python benchmarks/demo.py

Runs `silvertune experiments=demo` in a process and a store of its own, then multiplies float32 matrices with one
thread and with all of them. The last line is one JSON object.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

SIZE = 2048
"""Rows and columns of the matrices."""


def gflops(threads: int) -> float:
    """Float32 operations a second of a matrix product, in billions; the best of five."""
    import torch

    torch.set_num_threads(threads)
    left, right = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    left @ right
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds) / 1e9


def has_bfloat16_units() -> bool:
    """As the students' `precision: auto` sees it."""
    import torch

    from silvertune.models.hardware import has_bfloat16

    return has_bfloat16(torch.device("cpu"))


def main() -> None:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "silvertune", "experiments=demo", f"tracking.dir={folder}"]
        subprocess.run(command, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    result = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "float32_gflops_1_thread": round(gflops(1)),
        "float32_gflops_all_threads": round(gflops(cores)),
        "bfloat16_units": has_bfloat16_units(),
        "cores": cores,
        "load": [round(value, 1) for value in os.getloadavg()],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
