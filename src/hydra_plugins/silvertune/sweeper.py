"""Hydra's side of a sweep; the work is in `silvertune.study.sweep`, imported when there is a sweep to do."""

from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


@dataclass
class SilvertuneSweeperConf:
    """`params` as in Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.silvertune.sweeper.SilvertuneSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="silvertune", node=SilvertuneSweeperConf, provider="silvertune"
)


class SilvertuneSweeper(BasicSweeper):
    """Expands a study or an ad hoc sweep, checks every job, and finalises whatever happens.

    A callback could not: with one failed job Hydra re-raises before `on_multirun_end`.
    """

    def sweep(self, arguments: list[str]) -> Any:
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
