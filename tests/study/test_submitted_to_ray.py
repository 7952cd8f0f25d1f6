"""`ray job submit` from outside a cluster, as docs/more-than-one-machine.md has it: the sweep stands in the cluster."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tests import cli

from silvertune.study import ray_jobs

SHARED = """import psutil
partitions = psutil.disk_partitions
psutil.disk_partitions = lambda all=False: [
    *partitions(all), type(partitions(all)[0])("nas:/shared", {folder!r}, "nfs4", "rw")
]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Processes for which the test's folder is on shared storage, with Ray's token."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SHARED.format(folder=str(tmp_path)))
    return {
        **os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path / "site"), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64,
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
    }  # fmt: skip


@pytest.fixture
def job_server(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of the job server of a cluster of one machine."""
    for package in ("ray", "aiohttp_cors"):
        pytest.importorskip(package, reason="ray[default] is not installed")
    port, folder = free_port(), Path("/tmp") / f"ray-{os.getpid()}"  # Ray's sockets need a short path
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1",
               "--disable-usage-stats", f"--port={free_port()}", f"--dashboard-port={port}", f"--temp-dir={folder}",
               f"--object-store-memory={ray_jobs.OBJECT_STORE_BYTES}"]  # fmt: skip
    with (tmp_path / "ray.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/api/version", environment["RAY_AUTH_TOKEN"], head)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_answer(address: str, token: str, head: "subprocess.Popen[bytes]") -> None:
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    until = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except OSError:
            assert head.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)


@pytest.mark.soak
@pytest.mark.postgres
def test_a_study_is_submitted_with_its_folder_and_prints_what_became_of_it(
    tmp_path: Path, environment: dict[str, str], job_server: str, postgres_url: str
) -> None:
    folder = tmp_path / "outside"
    folder.mkdir()
    cli.write_tables(folder, groups=4)
    study = [
        "silvertune", "dataset.path=tables.jsonl", "labeler=expert", "filter=none", "model=none", "seed=0,1",
        "evaluation.folds=2", "evaluation.replicates=20", f"tracking.uri={postgres_url}",
        f"tracking.dir={tmp_path / 'mlruns'}", "hydra/launcher=silvertune_ray", "hydra.launcher.address=auto",
    ]  # fmt: skip
    submit = ["ray", "job", "submit", "--address", job_server, "--working-dir", ".", "--", *study]
    done = subprocess.run(submit, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 run(s), 0 already finished, 2 to do" in done.stdout
    client = MlflowClient(postgres_url)
    experiment = client.get_experiment_by_name("silvertune")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
