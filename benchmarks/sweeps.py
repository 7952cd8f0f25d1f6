"""What a sweep costs around its jobs: over bare MLflow and Hydra, from the first job to the last, and to look at.

    python benchmarks/sweeps.py [--jobs 1000] [--ray]

A sweep of so many jobs runs in this process, on a new SQLite store. Each job is whole but for its work: in place of
labelling, tuning and measuring it has 25 metrics and a file at once, so that its run has all parameters of a
configuration, 25 metrics and three artifacts (`config.yaml`, `overrides.yaml` and that file). Beside it, in the same
process, the bare MLflow client logs as many parameters, metrics and artifacts to a new store,
and an empty Hydra application is run as a sweep; a job of both together is what an empty job costs at least.

- `overhead_ratio`: CPU seconds of a job over those of a bare job and an empty Hydra job, medians;
- `drift_ratio`: CPU seconds of the last tenth of the jobs over those of the first (two warming up apart), medians;
- `search_s`: wall seconds of the search that MLflow's page of runs sends to its server, median of nine;
- with `--ray`, `ray_speedup`: wall seconds from the first job's start to the last one's end on a Ray cluster of one CPU
  over those on two, of jobs that compute for a second.

Wall seconds depend on what else the machine does, CPU seconds hardly. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

N_METRICS = 25
SEARCHES = 9
RAY_JOBS = 12
STUDY = ["dataset.path=tables.jsonl", "labeler=expert", "filter=none", "model=tfidf_logreg", "evaluation.folds=2",
         "tracking.save_models=false", "task=soe"]  # fmt: skip


def write_items(folder: Path, n_items: int = 40) -> None:
    """Made-up items of ten groups with gold."""
    import random

    rng = random.Random(0)
    rows = []
    for number in range(n_items):
        soe = number % 2
        words = ["visit", "week", "day"] if soe else ["dose", "mg", "arm"]
        cells = [rng.choices(words, k=4) for _ in range(4)]
        rows.append({"id": f"t{number}", "nct": f"g{number % 10}", "rows": cells, "page_text": "", "label": soe,
                     "title_or_context": " ".join(rng.choices(words, k=3)), "text_below": None})  # fmt: skip
    (folder / "tables.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def empty_jobs(starts: list[tuple[float, float]]) -> Iterator[None]:
    """Jobs that do no work, and tell at their start the wall and CPU seconds of this process."""
    from silvertune import runner
    from silvertune.study import comparing, job
    from silvertune.tracking import runs, unlogged

    metrics = {f"test/metric_{number}": number / N_METRICS for number in range(N_METRICS)}

    def keep(result: Any, data: Any, tracking: Any, run_id: str, *, identity: str, **_: Any) -> Path:
        def write(folder: Path) -> unlogged.Summary:
            (folder / "predictions.csv").write_text("item_id,probability\n" * 40)
            return unlogged.Summary({}, metrics)

        return unlogged.keep(tracking, identity, run_id, write)

    whole = job.run

    def timed(*arguments: Any, **named: Any) -> str:
        starts.append((time.perf_counter(), time.process_time()))
        return whole(*arguments, **named)

    replaced = [(runner, "run", lambda *_: None), (runs, "keep_result", keep), (job, "run", timed),
                (comparing, "compare", lambda *_: None)]  # fmt: skip
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    try:
        for module, name, value in replaced:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def ours(folder: Path, n_jobs: int) -> tuple[list[float], str, int]:
    """CPU seconds from each job's start to the next one's; the experiment's id; how many parameters a run has."""
    from mlflow import MlflowClient

    import silvertune

    write_items(folder)
    os.chdir(folder)
    starts: list[tuple[float, float]] = []
    with empty_jobs(starts):
        result = silvertune.run([*STUDY, f"seed=range({n_jobs})"])
    client = MlflowClient(result.tracking_uri)
    run = client.get_run(next(iter(result.run_ids.values())))
    assert len(result.run_ids) == n_jobs
    assert len(run.data.metrics) == N_METRICS
    n_params, n_artifacts = len(run.data.params), len(client.list_artifacts(run.info.run_id))
    print(f"a job's run has {n_params} parameters, {len(run.data.metrics)} metrics, {n_artifacts} artifacts")
    assert n_artifacts == 3
    cpu = [later[1] - earlier[1] for earlier, later in pairwise(starts)]
    return cpu, run.info.experiment_id, n_params


def bare(folder: Path, n_jobs: int, n_params: int) -> list[float]:
    """CPU seconds of each job that does nothing but log, with MLflow's client, to a store of the same kind."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    from silvertune.tracking import store

    client, experiment = store.prepare({"uri": None, "dir": str(folder / "bare")}, "bare")
    assert isinstance(client, MlflowClient)
    file = folder / "predictions.csv"
    file.write_text("item_id,probability\n" * 40)
    cpu = []
    for number in range(n_jobs):
        before = time.process_time()
        run = client.create_run(experiment, run_name=f"job {number}")
        client.log_batch(run.info.run_id, params=[Param(f"group.key_{k}", str(k)) for k in range(n_params)])
        client.log_batch(run.info.run_id, metrics=[Metric(f"m{k}", k / 25, 0, 0) for k in range(N_METRICS)])
        client.log_text(run.info.run_id, "key: value\n" * n_params, "config.yaml")
        client.log_text(run.info.run_id, "- key=value\n", "overrides.yaml")
        client.log_artifact(run.info.run_id, str(file))
        client.set_terminated(run.info.run_id)
        cpu.append(time.process_time() - before)
    return cpu


def empty_hydra(folder: Path, n_jobs: int) -> list[float]:
    """CPU seconds of each job of an empty Hydra application's sweep."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path

    (folder / "empty").mkdir()
    (folder / "empty" / "config.yaml").write_text("n: 0\n")
    starts: list[float] = []

    def job(config: Any) -> None:
        starts.append(time.process_time())

    loader = ConfigLoaderImpl(create_config_search_path(str(folder / "empty")))
    application = Hydra(task_name="empty", config_loader=loader)
    fixed = ["hydra.job.chdir=false", f"hydra.sweep.dir={folder / 'empty' / 'out'}", "hydra/job_logging=none",
             "hydra/hydra_logging=none"]  # fmt: skip
    numbers = ",".join(map(str, range(n_jobs)))
    application.multirun("config", job, overrides=[*fixed, f"n={numbers}"], with_log_configuration=False)
    return [later - earlier for earlier, later in pairwise(starts)]


def search_seconds(folder: Path, experiment: str) -> float:
    """Wall seconds of the search that MLflow's page of an experiment's runs sends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", address, "--host", "127.0.0.1",
               "--port", str(port), "--workers", "1"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    body = json.dumps({"experiment_ids": [experiment], "filter": "", "run_view_type": "ACTIVE_ONLY",
                       "max_results": 100, "order_by": ["attributes.start_time DESC"]})  # fmt: skip

    def search() -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/runs/search",
            body.encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return len(json.load(answer)["runs"])

    try:
        for _ in range(600):
            try:
                search()
                break
            except OSError:
                time.sleep(0.2)
        return statistics.median(seconds(search) for _ in range(SEARCHES))
    finally:
        server.terminate()
        server.wait()


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ray_seconds(folder: Path, n_cpus: int) -> float:
    """Wall seconds from the first job's start to the last one's end, on a Ray cluster of so many CPUs."""
    from mlflow import MlflowClient

    import silvertune

    folder.mkdir()
    write_items(folder)
    (folder / "computing.py").write_text(
        "import time\n"
        "from silvertune.labelers import Recorded\n"
        "class Computing(Recorded):\n"
        "    def label(self, items):\n"
        "        until = time.thread_time() + 1\n"
        "        while time.thread_time() < until:\n"
        "            sum(range(1000))\n"
        "        return super().label(items)\n"
    )
    os.chdir(folder)
    ray = ["hydra/launcher=silvertune_ray", f"hydra.launcher.local_cpus={n_cpus}",
           "labeler._target_=computing.Computing"]  # fmt: skip
    result = silvertune.run([*STUDY, *ray, "evaluation.replicates=50", f"seed=range({RAY_JOBS})"])
    client = MlflowClient(result.tracking_uri)
    runs = [client.get_run(run_id).info for run_id in result.run_ids.values()]
    return (max(run.end_time for run in runs) - min(run.start_time for run in runs)) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cpu, experiment, n_params = ours(folder, arguments.jobs)
        n_some = min(arguments.jobs, 100)
        bare_cpu = bare(folder, n_some, n_params)
        hydra_cpu = empty_hydra(folder, n_some)
        cpu = cpu[2:]
        tenth = max(len(cpu) // 10, 5)
        job, least = statistics.median(cpu), (statistics.median(bare_cpu[2:]), statistics.median(hydra_cpu[2:]))
        print(f"CPU seconds of a job: {job:.4f}; bare MLflow {least[0]:.4f}, empty Hydra {least[1]:.4f}")
        result: dict[str, Any] = {
            "overhead_ratio": round(job / sum(least), 2),
            "drift_ratio": round(statistics.median(cpu[-tenth:]) / statistics.median(cpu[:tenth]), 2),
            "search_s": round(search_seconds(folder, experiment), 3),
            "jobs": arguments.jobs,
            "cpu_s": {"job": round(job, 4), "bare_mlflow": round(least[0], 4), "empty_hydra": round(least[1], 4)},
        }
        if arguments.ray:
            one, two = (ray_seconds(folder / f"ray{n}", n) for n in (1, 2))
            result |= {"ray_speedup": round(one / two, 2), "ray_s": [round(one, 1), round(two, 1)]}
        os.chdir("/")
    result["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(load_before, 1),
        "python": platform.python_version(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
