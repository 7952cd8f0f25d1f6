"""Hydra's side of a sweep; the work is in `silvertune.study.sweep`, imported when there is a sweep to do.

`conf/hydra/sweeper/silvertune.yaml` chooses it, so that other applications of Hydra's don't see it.
"""

from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SilvertuneSweeper(BasicSweeper):
    """Expands a study or an ad hoc sweep, checks every job, and finalises whatever happens.

    A callback could not: with one failed job Hydra re-raises before `on_multirun_end`.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to a sweeper.

        Raises:
            UserError: The application is not silvertune, or the launcher is none.
        """
        from silvertune.errors import UserError, in_one_line
        from silvertune.study import command
        from silvertune.study.composing import Composer

        if task_function is not command.job:
            raise UserError("hydra/sweeper=silvertune: is for silvertune alone; choose another for this application")
        # For the launcher as well: Hydra composes each job anew, which takes longer than all else around it.
        composer = cast(ConfigLoader, Composer(hydra_context.config_loader))
        context = HydraContext(config_loader=composer, callbacks=hydra_context.callbacks)
        try:
            super().setup(hydra_context=context, task_function=task_function, config=config)
        except (ImportError, RuntimeError) as error:
            choice = config.hydra.runtime.choices.get("hydra/launcher")
            raise UserError(
                f"hydra/launcher={choice}: no launcher that can be used here ({in_one_line(error)}); leave it out, or "
                "mend conf/hydra/launcher"
            ) from None

    def sweep(self, arguments: list[str]) -> Any:
        """Do the sweep.

        Args:
            arguments: The command line's overrides.

        Returns:
            A `silvertune.SweepResult`.

        Raises:
            UserError: The sweep can't be done.
            SweepError: A run failed.
        """
        from silvertune.study import sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        return sweep.run(
            [*self._parse_config(), *arguments],
            config=self.config,
            loader=self.hydra_context.config_loader,
            launch=self.launcher.launch,
        )
