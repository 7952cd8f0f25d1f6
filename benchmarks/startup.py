"""How long `silvertune --help` and `--cfg job` take over an empty Hydra app, measured in one run.

    python benchmarks/startup.py

Alternates the four commands, takes the median of each. Wall seconds depend on what else the machine does, CPU
seconds hardly. The last line is one JSON object.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EMPTY = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def app(cfg): pass
app()
"""
ROUNDS = 9


def seconds(*command: str, cwd: str) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=cwd, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
    result = {
        "help_over_empty": round(wall["help"] / wall["empty_help"], 2),
        "cfg_over_empty": round(wall["cfg"] / wall["empty_cfg"], 2),
        "help_over_empty_cpu": round(cpu["help"] / cpu["empty_help"], 2),
        "cfg_over_empty_cpu": round(cpu["cfg"] / cpu["empty_cfg"], 2),
        "cpu_s": {name: round(value, 3) for name, value in cpu.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
