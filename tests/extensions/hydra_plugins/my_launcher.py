from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class FreshProcessLauncher(Launcher):
    """Runs each job in a process of its own, which gives its memory back when it ends."""

    stays_on_this_machine = True

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra hands to every launcher."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs one after the other."""
        setup_globals()
        returns = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
            work = cloudpickle.dumps((Singleton.get_state(), self.context, config, self.task))
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                returns.append(pool.submit(_run, work).result())
        return returns


def _run(work: bytes) -> Any:
    state, context, config, task = cloudpickle.loads(work)
    setup_globals()
    Singleton.set_state(state)
    return run_job(
        hydra_context=context, task_function=task, config=config, job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )  # fmt: skip
