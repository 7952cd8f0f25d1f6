"""Vertex AI's JobService on this machine: gRPC with Google's own messages on both ends; containers are processes.

A job's container runs what the job's spec says: its `python` is this interpreter, its `pip` only writes down what it
was asked to install. What is tuned is the same as on the machine of a provider.
"""

import dataclasses
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.aiplatform_v1 import types as v1
from google.protobuf import empty_pb2
from tests import fake_storage, forked, stores

from silvertune.backends import wheel

STATE: Any = v1.JobState
GOING_ON = (STATE.JOB_STATE_PENDING, STATE.JOB_STATE_RUNNING)
IMAGE = f"python@sha256:{'3' * 64}"
PIP = """import os, sys
with open(os.environ["PIP_LOG"], "a") as log:
    log.write(sys.argv[-1] + "\\n")
assert os.path.getsize(sys.argv[-1]) > 0
if "fails" in os.environ.get("PIP_RESULT", ""):
    sys.exit("ERROR: No matching distribution found for nothing==1")
"""
ROOT = Path(__file__).parents[1]


class Jobs:
    """The service.

    Attributes:
        calls: Each call's name, in their order.
        jobs: By name.
        fault: What goes wrong in the next calls: `lost after`, `unavailable before`, `permission` (create);
            `unavailable` (get, once); `no filter` (list).
        quota: How many jobs may run at a time.
        container: How it runs: `forked` (quick), `process` (a new interpreter), `never` (the image does not start),
            `taken away` (killed at its first start, as soon as it works) or `endless` (until it is cancelled).
        environment: Of the containers.
    """

    def __init__(self, folder: Path, container: str = "forked") -> None:
        self.folder, self.container, self.fault, self.quota = folder, container, "", 1000
        self.calls: list[str] = []
        self.jobs: dict[str, Any] = {}
        self.starts: Counter[str] = Counter()
        self.environment: dict[str, str] = {}
        self.lock = threading.Lock()
        self.threads: list[threading.Thread] = []
        stores.made()  # once, before two containers want it at the same moment
        (folder / "pip").mkdir(parents=True)
        (folder / "pip" / "__init__.py").write_text("")
        (folder / "pip" / "__main__.py").write_text(PIP)

    # ------------------------------------------------------------------------------------------------------- the calls

    def create(self, request: Any, context: Any) -> Any:
        self.calls.append("create")
        fault = self.fault if self.fault in ("lost after", "unavailable before", "permission") else ""
        self.fault = "" if fault else self.fault
        if fault == "unavailable before":
            context.abort(grpc.StatusCode.UNAVAILABLE, "try again")
        if sum(job.state in GOING_ON for job in self.jobs.values()) >= self.quota:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quotas exceeded: custom_model_training_nvidia_l4_gpus")
        if fault == "permission":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Permission 'aiplatform.customJobs.create' denied")
        if wrong := list(mistakes(request.custom_job)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong[0])
        with self.lock:
            job = request.custom_job
            job.name, job.state = f"{request.parent}/customJobs/{len(self.jobs) + 1}", STATE.JOB_STATE_PENDING
            self.jobs[job.name] = job
        thread = threading.Thread(target=self._run, args=(job,))
        self.threads.append(thread)
        thread.start()
        if fault == "lost after":
            context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        return job

    def get(self, request: Any, context: Any) -> Any:
        self.calls.append("get")
        if self.fault == "unavailable":
            self.fault = ""
            context.abort(grpc.StatusCode.UNAVAILABLE, "try again")
        if request.name not in self.jobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{request.name} is not found")
        return self.jobs[request.name]

    def list(self, request: Any, context: Any) -> Any:
        self.calls.append("list")
        match = re.fullmatch(r'labels\.([\w-]+)="([\w-]+)"', request.filter)
        assert match is not None
        every = list(self.jobs.values())
        some = [job for job in every if self.fault == "no filter" or job.labels.get(match[1]) == match[2]]
        return v1.ListCustomJobsResponse(custom_jobs=some)

    def cancel(self, request: Any, context: Any) -> Any:
        self.calls.append("cancel")
        self._end(self.jobs[request.name], STATE.JOB_STATE_CANCELLED)
        return empty_pb2.Empty()

    # -------------------------------------------------------------------------------------------------- the containers

    def labels(self) -> Counter[str]:
        """How many jobs each label has."""
        return Counter(job.labels["silvertune-key"] for job in self.jobs.values())

    def _run(self, job: Any) -> None:
        try:
            self._play(job)
        except BaseException as error:  # a job must not run for ever because its double is wrong
            self._end(job, STATE.JOB_STATE_FAILED, f"the double of the service failed: {error!r}")
            raise

    def _play(self, job: Any) -> None:
        if self.container == "never":
            self._end(job, STATE.JOB_STATE_FAILED, f"Failed to pull image {IMAGE}")
            return
        job.state, job.start_time = STATE.JOB_STATE_RUNNING, _now()
        while self.container == "endless" and job.state == STATE.JOB_STATE_RUNNING:
            time.sleep(0.02)
        while job.state == STATE.JOB_STATE_RUNNING:
            self.starts[job.name] += 1
            code = self._contained(job, is_taken_away=self.container == "taken away" and self.starts[job.name] == 1)
            if code >= 0 or job.job_spec.scheduling.disable_retries:
                break
        else:
            return
        words = f"The replica workerpool0-0 exited with a non-zero status of {code}." if code else ""
        self._end(job, STATE.JOB_STATE_FAILED if code else STATE.JOB_STATE_SUCCEEDED, words)

    def _end(self, job: Any, state: Any, words: str = "") -> None:
        with self.lock:
            if job.state not in GOING_ON:
                return
            job.end_time = max(_now(), (job.start_time or _now()) + datetime.timedelta(seconds=1))
            if words:
                job.error = {"code": 9, "message": words}
            job.state = state

    def _contained(self, job: Any, *, is_taken_away: bool) -> int:
        """Run a job's container; its exit status, negative where a signal ended it."""
        container = job.job_spec.worker_pool_specs[0].container_spec
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            "STORAGE_EMULATOR_HOST": fake_storage.address(), "PIP_LOG": str(self.folder / "installed"),
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT / "src")]), **self.environment,
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            if self.container == "process":
                assert container.command[0] == "python"
                command = [sys.executable, *container.command[1:], *container.args]
                with (self.folder / "container.log").open("a") as log:
                    return subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log).returncode
            starts = f"{job.job_spec.base_output_directory.output_uri_prefix}/starts/"
            works = (lambda: bool(fake_storage.names(starts))) if is_taken_away else None
            module, arguments = "silvertune.study.job_container", tuple(container.args)
            return forked.run(module, Path(folder), arguments, environment, killed_when=works).returncode


def mistakes(job: Any) -> Iterator[str]:
    """What the service refuses."""
    spec = job.job_spec
    (pool,) = spec.worker_pool_specs
    for name, value in job.labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            yield f"label {name}={value}"
    if not pool.machine_spec.machine_type or pool.replica_count != 1 or not pool.container_spec.image_uri:
        yield "worker_pool_specs"
    if bool(pool.machine_spec.accelerator_type) != bool(pool.machine_spec.accelerator_count):
        yield "accelerator"
    for name in ("timeout", "max_wait_duration"):
        if not getattr(spec.scheduling, name):
            yield f"scheduling.{name} is left to the service: days"
    if not spec.scheduling.strategy:
        yield "scheduling.strategy"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


BUILT, REQUIRED = cache(wheel.build), cache(wheel.requirements)
"""The code that every job is sent, packed once a process: no test changes it."""


@contextmanager
def _packed_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wheel, "build", lambda modules: BUILT(tuple(modules)))
        patched.setattr(wheel, "requirements", lambda others: REQUIRED(tuple(others)))
        yield


@contextmanager
def serving(jobs: Jobs) -> Iterator[str]:
    """Serve the jobs; yields the address for `backend.service.base_url`."""

    def unary(call: Any, request: Any, serialize: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(call, request.deserialize, serialize)

    handlers = {
        "CreateCustomJob": unary(jobs.create, v1.CreateCustomJobRequest, v1.CustomJob.serialize),
        "GetCustomJob": unary(jobs.get, v1.GetCustomJobRequest, v1.CustomJob.serialize),
        "ListCustomJobs": unary(jobs.list, v1.ListCustomJobsRequest, v1.ListCustomJobsResponse.serialize),
        "CancelCustomJob": unary(jobs.cancel, v1.CancelCustomJobRequest, empty_pb2.Empty.SerializeToString),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service = grpc.method_handlers_generic_handler("google.cloud.aiplatform.v1.JobService", handlers)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with _packed_once():
            yield f"http://127.0.0.1:{port}"
    finally:
        for thread in jobs.threads:
            thread.join(120)
        server.stop(0).wait()


def job_file(jobs: Jobs, number: int = 1) -> dict[str, Any]:
    """What a job was sent."""
    job = list(jobs.jobs.values())[number - 1]
    url = job.job_spec.worker_pool_specs[0].container_spec.args[0]
    content: dict[str, Any] = json.loads(fake_storage.read(url))
    return content


def settings(bucket: str, address: str | None, **changed: Any) -> dict[str, Any]:
    """Settings of a `silvertune.backends.VertexJob` at this service."""
    usual: dict[str, Any] = {
        "project": "my-project", "location": fake_storage.REGION, "storage": f"{bucket}/runs", "image": IMAGE,
        "machine_type": "g2-standard-8", "accelerator_type": "NVIDIA_L4", "accelerator_count": 1, "disk_gb": 100,
        "spot": True, "restarts": 1, "timeout_s": 3600, "max_wait_s": 600, "usd_per_hour": 2.0,
        "price_as_of": "2026-11-29", "service_account": None, "base_url": address,
        "quota_base_url": "http://127.0.0.1:1",
    }  # fmt: skip
    return usual | changed


def model_config(model: Any) -> dict[str, Any]:
    """The configuration of a model that is a dataclass of plain settings."""
    return {"_target_": f"silvertune.models.{type(model).__name__}", **dataclasses.asdict(model)}
