"""How long `silvertune --help` and `--cfg job` take over an empty Hydra app, and how long a sweep takes to begin.

    python benchmarks/startup.py

Alternates the four commands, takes the median of each. Then a sweep of 200 points is begun on a new store three times:
`first_job_s` is the median time from the command to its first job's run. Wall seconds depend on what else the machine
does, CPU seconds hardly. The last line is one JSON object.
"""

import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from sweeps import STUDY, write_items

EMPTY = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def app(cfg): pass
app()
"""
ROUNDS = 9
SWEEPS = 3
POINTS = [
    "filter=confidence",
    "filter.confidence.top=" + ",".join(str(step / 20) for step in range(1, 21)),
    "model.C=" + ",".join(str(step / 5) for step in range(1, 11)),
]
FIRST_JOB = "select min(start_time) from runs natural join tags where key = 'mlflow.parentRunId'"


def seconds(*command: str, cwd: str) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=cwd, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds_to_first_job() -> float:
    """Wall seconds from the command of a sweep of 200 points to the start of its first job's run."""
    without_filter = [text for text in STUDY if text != "filter=none"]
    with tempfile.TemporaryDirectory() as folder:
        write_items(Path(folder))
        database = Path(folder) / "mlruns" / "mlflow.db"
        started = time.time()
        command = [sys.executable, "-m", "silvertune", "-m", *without_filter, *POINTS]
        sweep = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while sweep.poll() is None:
                time.sleep(0.1)
                if started_ms := _first_start(database):
                    return started_ms / 1000 - started
        finally:
            sweep.kill()
            sweep.wait()
    raise RuntimeError(f"no job was begun: {' '.join(command)}")


def _first_start(database: Path) -> int | None:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
            return store.execute(FIRST_JOB).fetchone()[0]
    except sqlite3.OperationalError:  # not there yet, or without its tables
        return None


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "empty.py"
        app.write_text(EMPTY)
        commands = {
            "empty_help": (str(app), "--help"),
            "empty_cfg": (str(app), "--cfg", "job"),
            "help": ("-m", "silvertune", "--help"),
            "cfg": ("-m", "silvertune", "--cfg", "job"),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                taken[name].append(seconds(*command, cwd=folder))
    wall, cpu = ({name: statistics.median(pair[k] for pair in pairs) for name, pairs in taken.items()} for k in (0, 1))
    for name in commands:
        print(f"{name:12s} {wall[name]:.3f} s  {cpu[name]:.3f} CPU s")
    first_job = statistics.median(seconds_to_first_job() for _ in range(SWEEPS))
    print(f"{'200 points':12s} {first_job:.3f} s to the first job")
    result = {
        "help_over_empty": round(wall["help"] / wall["empty_help"], 2),
        "cfg_over_empty": round(wall["cfg"] / wall["empty_cfg"], 2),
        "help_over_empty_cpu": round(cpu["help"] / cpu["empty_help"], 2),
        "cfg_over_empty_cpu": round(cpu["cfg"] / cpu["empty_cfg"], 2),
        "first_job_s": round(first_job, 2),
        "cpu_s": {name: round(value, 3) for name, value in cpu.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
