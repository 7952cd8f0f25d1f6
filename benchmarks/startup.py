"""How long `silvertune --help` and `--cfg job` take over an empty Hydra app, measured in one run.

    python benchmarks/startup.py

Alternates the three commands, takes the median of each. The last line is one JSON object, in seconds.
"""

import json
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


def seconds(*command: str, cwd: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - started


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
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                taken[name].append(seconds(*command, cwd=folder))
    median = {name: statistics.median(values) for name, values in taken.items()}
    for name, value in median.items():
        print(f"{name:12s} {value:.3f} s")
    result = {
        "help_over_empty_s": round(median["help"] - median["empty_help"], 3),
        "cfg_over_empty_s": round(median["cfg"] - median["empty_cfg"], 3),
        "help_s": round(median["help"], 3),
        "cfg_s": round(median["cfg"], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
