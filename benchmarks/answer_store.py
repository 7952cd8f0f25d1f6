"""How long stored answers take to read, beside a bare `sqlite3` read of the same rows, in a small and a large store.

    python benchmarks/answer_store.py [--rows 100000] [--store-rows 10000000] [--folder DIR]

`--rows` answers stand alone in the small store and among `--store-rows` others in the large one (about 300 bytes each,
in DIR). Three contenders take turns, and the median of the rounds counts, in CPU seconds: `scan`, all rows of the small
store by `sqlite3` into tuples; `by_key`, the same rows by their keys, which is what can be had in a store that holds
others too; `read`, `AnswerStore.read`; `label`, the whole of `LLMLabeler.label`: prompts, keys of the texts, reading,
the table of votes. The last line is one JSON object with the ratios, the sizes, and the machine.
"""

import argparse
import gc
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from labeling import items, labeler

from silvertune.labelers.llm import LLMLabeler
from silvertune.llms.answer_store import Outcome

ROUNDS = 5
NAMES = "status, word, probs, confidence, raw, signs, model, tokens_in, tokens_out, cost_usd"
ALL = f"SELECT key, {NAMES} FROM answers"
BY_KEY = f"{ALL} WHERE key IN (SELECT value FROM json_each(?))"
KEYS_AT_A_TIME = 10_000


def outcomes(keys: list[str]) -> dict[str, Outcome]:
    rng = random.Random(0)
    told = {}
    for key in keys:
        share = round(rng.uniform(0.5, 1.0), 6)
        probs = {"YES": share, "NO": round(1 - share, 6)}
        told[key] = Outcome("ok", "YES", probs, None, '{"label": "YES"}', None, "m", 400, 5, 0.0004)
    return told


def fill(file: Path, rows: int) -> None:
    """Add `rows` answers with keys of their own, half of them before those that are there and half after."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TEMP TABLE mine AS SELECT * FROM answers")
        connection.execute("DELETE FROM answers")
        other = "SELECT lower(hex(randomblob(32))), " + NAMES
        numbers = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < ?)"
        for part in (rows // 2, rows - rows // 2):
            connection.execute(
                f"INSERT INTO answers {numbers} {other} FROM n, (SELECT * FROM mine LIMIT 1)" if part else "SELECT ?",
                (part,),
            )
            connection.execute("INSERT INTO answers SELECT * FROM mine WHERE true ON CONFLICT DO NOTHING")
        connection.execute("PRAGMA journal_mode = WAL")


def rows_by_key(file: Path, keys: list[str]) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        in_order, rows = sorted(keys), []
        for start in range(0, len(keys), KEYS_AT_A_TIME):
            some = json.dumps(in_order[start : start + KEYS_AT_A_TIME])
            rows += connection.execute(BY_KEY, (some,)).fetchall()
    return rows


def all_rows(file: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(ALL).fetchall()


def read(made: LLMLabeler, keys: list[str]) -> Any:
    with closing(made._open()) as store:
        return store.read(keys)


def cpu_seconds(contender: Callable[[], Any], rows: int) -> float:
    gc.collect()
    started = time.process_time()
    result = contender()
    seconds = time.process_time() - started
    assert len(result) == rows
    return seconds


def measure(rows: int, store_rows: int, folder: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """The result: see above."""
    asked, file = items(rows), "labels.sqlite"
    stores = {size: labeler("http://127.0.0.1:9/v1", 64, folder / size) for size in ("small", "large")}
    keys = [str(key) for round_ in stores["small"]._rounds(asked) for key in round_.keys]
    with closing(stores["small"]._open()) as store:
        store.save(outcomes(keys))
    (folder / "large").mkdir()
    shutil.copy(folder / "small" / file, folder / "large" / file)
    started = time.perf_counter()
    fill(folder / "large" / file, store_rows - rows)
    size_gb = (folder / "large" / file).stat().st_size / 1e9
    print(f"a store of {store_rows} answers, {size_gb:.2f} GB, made in {time.perf_counter() - started:.0f} s")
    contenders: dict[str, Callable[[], Any]] = {"scan_small": lambda: all_rows(folder / "small" / file)}
    for size, made in stores.items():
        contenders |= {
            f"by_key_{size}": lambda size=size: rows_by_key(folder / size / file, keys),
            f"read_{size}": lambda made=made: read(made, keys),
            f"label_{size}": lambda made=made: made.label(asked),
        }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(cpu_seconds(contender, rows))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name:14s} {median[name]:7.3f} CPU s   rounds: {', '.join(f'{value:.3f}' for value in values)}")
    return {
        "read_of_scan": round(median["read_small"] / median["scan_small"], 2),
        "read_of_by_key": round(median["read_small"] / median["by_key_small"], 2),
        "label_of_by_key": round(median["label_small"] / median["by_key_small"], 2),
        "label_of_scan": round(median["label_small"] / median["scan_small"], 2),
        "read_large_of_small": round(median["read_large"] / median["read_small"], 2),
        "label_large_of_small": round(median["label_large"] / median["label_small"], 2),
        "read_large_of_by_key": round(median["read_large"] / median["by_key_large"], 2),
        "rows": rows,
        "store_rows": store_rows,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--store-rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(json.dumps(measure(arguments.rows, arguments.store_rows, Path(folder))))


if __name__ == "__main__":
    main()
