"""Hydra's side of jobs on Ray; the work is in `silvertune.study.ray_jobs`, imported when there are jobs to start.

`conf/hydra/launcher/silvertune_ray.yaml` has its settings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class RayLauncher(Launcher):
    """Starts each job of a sweep as one Ray task, once."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    @staticmethod
    def stays_on_this_machine(settings: Mapping[str, Any]) -> bool:
        """Whether jobs run here: on a cluster of the sweep's own, which nothing else can join."""
        from silvertune.study import ray_jobs

        return settings["address"] is None and not ray_jobs.is_connected()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Do the jobs.

        Args:
            job_overrides: The overrides of each job.
            initial_job_idx: The number of the first.

        Returns:
            What became of each job, in their order.

        Raises:
            UserError: Ray can't be reached, or no machine has what a job needs.
        """
        from silvertune.study import ray_jobs

        sweep = ray_jobs.Launched(self.hydra_context, self.task_function, self.config)
        return ray_jobs.run(ray_jobs.Settings.of(self.settings), sweep, job_overrides, initial_job_idx)
