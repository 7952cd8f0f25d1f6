"""Jobs of a sweep as tasks of Ray's: each is started once, and what is killed with one is that one alone.

Ray's own defaults would start a killed task three times more, and `ray.get` in order would lose the results behind it.
"""

import importlib.metadata
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from silvertune.errors import UserError, check_number

LOOK_S = 10.0
"""Seconds between two looks at the cluster while no job ends."""
PATIENCE_S = 60.0
"""Jobs that no machine of the cluster can take any more are given up after so many seconds."""
OBJECT_STORE_BYTES = 78_643_200
"""The least that Ray takes; jobs hand on a few kilobytes."""


class Launched(NamedTuple):
    """What all jobs of a launch have in common."""

    context: HydraContext
    task_function: TaskFunction
    config: DictConfig


@dataclass(frozen=True)
class Settings:
    """`hydra.launcher`, as `conf/hydra/launcher/silvertune_ray.yaml` describes it."""

    address: str | None
    cpus: float
    gpus: float
    memory_gb: float | None
    resources: Mapping[str, float]
    runtime_env: Mapping[str, Any]
    local_cpus: int | None
    local_gpus: int | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Check what Hydra hands to the launcher.

        Args:
            values: The keys of `hydra.launcher`.

        Raises:
            UserError: A number is none, or the address is one of Ray Client's.
        """
        plain: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(dict(values)))  # type: ignore[assignment]
        settings = cls(**plain)
        numbers = {"cpus": settings.cpus, "gpus": settings.gpus, "memory_gb": settings.memory_gb,
                   "local_cpus": settings.local_cpus, "local_gpus": settings.local_gpus}  # fmt: skip
        numbers |= {f"resources.{name}": number for name, number in settings.resources.items()}
        for name, number in numbers.items():
            if number is not None:
                check_number(f"hydra.launcher.{name}", number, 0)
        if settings.address is not None and "://" in settings.address:
            raise UserError(
                f"hydra.launcher.address={settings.address}: want host:port or auto; from outside a cluster, start the "
                "sweep in it: ray job submit --working-dir . -- silvertune ..."
            )
        return settings

    @property
    def needs(self) -> dict[str, float]:
        """Ray's name of a resource -> how much of it a job needs."""
        memory = {} if self.memory_gb is None else {"memory": self.memory_gb * 2**30}
        needs = {"CPU": self.cpus, "GPU": self.gpus, **memory, **self.resources}
        return {name: float(number) for name, number in needs.items() if number}


def is_connected() -> bool:
    """Whether this process is connected to a Ray cluster already."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def run(
    settings: Settings, sweep: Launched, job_overrides: Sequence[Sequence[str]], first_number: int
) -> list[JobReturn]:
    """Do the jobs, each once.

    Args:
        settings: The launcher's settings.
        sweep: What all jobs have in common.
        job_overrides: The overrides of each job.
        first_number: The number of the first.

    Returns:
        What became of each job, in their order.

    Raises:
        UserError: Ray can't be reached, or no machine has what a job needs.
    """
    setup_globals()
    with _connected(settings) as ray:
        _check_that_a_machine_has(settings, ray)
        task = ray.remote(**_options(settings))(_job)
        common = ray.put((sweep, Singleton.get_state(), os.getcwd(), _version()))
        tasks = [task.remote(common, list(texts), first_number + n) for n, texts in enumerate(job_overrides)]
        try:
            answers = _answers(settings, ray, tasks)
        except BaseException:
            for one in tasks:
                ray.cancel(one, force=True)
            raise
    return [
        answer if isinstance(answer, JobReturn) else _failed(overrides, answer)
        for overrides, answer in zip(job_overrides, answers, strict=True)
    ]


def _answers(settings: Settings, ray: Any, tasks: Sequence[Any]) -> list[Any]:
    """What each task returned, or the exception that it ended with."""
    by_task: dict[Any, Any] = {}
    waiting, last_fit = list(tasks), time.monotonic()
    while waiting:
        ready, waiting = ray.wait(waiting, timeout=LOOK_S)
        for one in ready:
            try:
                by_task[one] = ray.get(one)
            except Exception as error:
                by_task[one] = error
        if ready or _fits(settings, _machines(ray)):
            last_fit = time.monotonic()
        elif time.monotonic() - last_fit > PATIENCE_S:
            needs = _in_words(settings.needs)
            lost = UserError(f"not started: the machines that have {needs} left the Ray cluster")
            by_task |= dict.fromkeys(waiting, lost)
            for one in waiting:
                ray.cancel(one, force=True)
            waiting = []
    return [by_task[one] for one in tasks]


def _job(
    common: tuple[Launched, Any, str, str], overrides: list[str], number: int
) -> JobReturn:  # in the worker, as Hydra's own launchers do it
    sweep, singletons, folder, version = common
    if version != _version():
        raise UserError(f"silvertune {_version()} is installed on {platform.node()}; want {version}, as the sweep has")
    try:
        os.chdir(folder)
    except OSError:
        raise UserError(
            f"{platform.node()} has no folder {folder}, which the sweep was started in; want one that all machines "
            "share, or ray job submit --working-dir . -- silvertune ..."
        ) from None
    if folder not in sys.path:
        sys.path.append(folder)
    setup_globals()
    Singleton.set_state(singletons)
    config = sweep.context.config_loader.load_sweep_config(sweep.config, overrides)
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=sweep.context,
        task_function=sweep.task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _version() -> str:
    return importlib.metadata.version("silvertune")


def _failed(overrides: Sequence[str], error: Exception) -> JobReturn:
    """A job that returned nothing, because its worker or its machine was lost or could not take it."""
    import ray

    reason = getattr(error, "cause", None) or error  # what the worker raised
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        reason = UserError("its machine ran out of memory; hydra.launcher.memory_gb lets fewer jobs run at once")
    elif isinstance(error, ray.exceptions.NodeDiedError):
        reason = UserError("its machine was lost; the same command does it again")
    elif isinstance(error, (ray.exceptions.WorkerCrashedError, ray.exceptions.LocalRayletDiedError)):
        reason = UserError("its process was killed; the same command does it again")
    return JobReturn(overrides=list(overrides), status=JobStatus.FAILED, _return_value=reason)


# ------------------------------------------------------------------------------------------------ the cluster


@contextmanager
def _connected(settings: Settings) -> Iterator[Any]:
    """Ray, connected; a connection that was there before stays as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # its default, which it warns of
    try:
        import ray
    except ImportError:
        raise UserError("hydra/launcher=silvertune_ray: Ray is not installed; pip install 'silvertune[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    ours = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**_connection(settings))
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, and those of its own
        words = _of_versions(error) or " ".join(str(error).split())[:300]
        raise UserError(f"hydra.launcher.address={settings.address or 'null'}: {words}") from None
    finally:
        if ours:  # Ray's would end the process without a word
            signal.signal(signal.SIGTERM, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connection(settings: Settings) -> dict[str, Any]:
    """The arguments of `ray.init`."""
    if settings.address is not None:
        return {"address": settings.address, "logging_level": "ERROR"}
    return {
        "address": "local",
        "num_cpus": settings.local_cpus,
        "num_gpus": settings.local_gpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "logging_level": "ERROR",
        "_node_ip_address": "127.0.0.1",
    }


def _of_versions(error: Exception) -> str:
    """What to say where the cluster has another Python or another Ray; empty where that is not what is wrong."""
    words = str(error).split()
    if "Version mismatch" not in str(error):
        return ""
    numbers = [words[place + 1] for place, word in enumerate(words[:-1]) if word in ("Ray:", "Python:")]
    ray, python, ray_here, python_here = [*numbers, "?", "?", "?", "?"][:4]
    here = f"this is Ray {ray_here} on Python {python_here}"
    return f"that cluster has Ray {ray} on Python {python}, and {here}; want the same"


def _options(settings: Settings) -> dict[str, Any]:
    """The arguments of `ray.remote`."""
    options: dict[str, Any] = {
        "num_cpus": settings.cpus,
        "num_gpus": settings.gpus,
        "resources": {name: number for name, number in settings.resources.items() if number},
        "max_retries": 0,
        "name": "silvertune",
    }
    if settings.memory_gb:
        options["memory"] = int(settings.memory_gb * 2**30)
    if settings.runtime_env:
        options["runtime_env"] = dict(settings.runtime_env)
    return options


def _machines(ray: Any) -> list[dict[str, float]]:
    """The resources of each machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fits(settings: Settings, machines: Sequence[Mapping[str, float]]) -> bool:
    """Whether a machine has all that a job needs. Ray would wait for one for ever."""
    return any(all(has.get(name, 0) >= need for name, need in settings.needs.items()) for has in machines)


def _check_that_a_machine_has(settings: Settings, ray: Any) -> None:
    machines = _machines(ray)
    if not _fits(settings, machines):
        wanted = [*settings.needs]
        machines_have = "; ".join(_in_words({name: has.get(name, 0.0) for name in wanted}) for has in machines)
        raise UserError(
            f"hydra/launcher=silvertune_ray: a job needs {_in_words(settings.needs)}, and no machine of the Ray "
            f"cluster has that (there are: {machines_have})"
        )


def _in_words(resources: Mapping[str, float]) -> str:
    return ", ".join(
        f"{number / 2**30:.3g} GB of memory" if name == "memory" else f"{number:g} {name}"
        for name, number in resources.items()
    )
