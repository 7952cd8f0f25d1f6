"""A sweep from its overrides: for the command line through Hydra's application, and for Python as a function."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from silvertune import import_path
from silvertune.errors import UserError, in_one_line, working_directory
from silvertune.schema import SHIPPED
from silvertune.study import overrides as command_line_overrides
from silvertune.study.result import SweepResult

if TYPE_CHECKING:
    from silvertune.interfaces import Backend, Labeler
    from silvertune.labelers.source import LabelSource
    from silvertune.schema import Task

VERSION_BASE = "1.3"
CONFIG_FOLDER = str(SHIPPED / "conf")
CONFIG_NAME = "config"

# Hydra copies its sources, and with them all configs of this store, whenever it lists a group or composes: 120 times
# for `--help`. There is one store a process, and it hands out copies, so a copy of the store itself is of no use.
setattr(ConfigStore, "__deepcopy__", lambda store, memo: store)  # noqa: B010  (mypy knows no such attribute)


def _map_where_it_is_read(overrides: Any, defaults: Sequence[Any], self_added: bool) -> DictConfig | None:
    """In place of Hydra's function, which makes for each file a map that only interpolated defaults need."""
    is_read = any(default.is_interpolation() for default in defaults)
    return _interpolation_map(overrides, defaults, self_added) if is_read else None


_interpolation_map: Any = defaults_list._create_interpolation_map
setattr(defaults_list, "_create_interpolation_map", _map_where_it_is_read)  # noqa: B010  (a sixth of a composition)

_one_at_a_time = threading.RLock()
"""Hydra keeps the configuration of the current job in a singleton of the process."""


def run(overrides: Sequence[str]) -> SweepResult:
    """Do a sweep, as `silvertune OVERRIDES...` does on the command line: same checks, same store, same output.

    It works in a thread, several times in one process, and inside another Hydra application; sweeps of one process
    are done one after another. It handles no signals: KeyboardInterrupt is passed on when the sweep's runs have their
    final state.

    Args:
        overrides: What would stand on the command line, without the shell's quotes: `["experiments=soe_table3",
            "dataset.path=tables.jsonl"]`.

    Returns:
        Where the sweep is logged, and its finished runs.

    Raises:
        UserError: The configuration or the data are wrong, or the store can't be used.
        SweepError: A run failed (a UserError with the result of the others).
        SweepWaitsError: No run failed, and some wait for people (a UserError with the result as well).
    """
    if isinstance(overrides, str):
        raise UserError(f"overrides={overrides!r}: want a list of them: [{overrides!r}]")
    import_path.look_in(working_directory())
    with _one_at_a_time, _hydra_restored(), mistakes_in_one_line():
        setbase(VERSION_BASE)
        loader = ConfigLoaderImpl(config_search_path=create_config_search_path(CONFIG_FOLDER))
        application = Hydra(task_name="silvertune", config_loader=loader)
        result = application.multirun(CONFIG_NAME, job, overrides=list(overrides), with_log_configuration=False)
    if not isinstance(result, SweepResult):
        raise UserError("hydra/sweeper: want silvertune")
    return result


def backend_of(overrides: Sequence[str]) -> "Backend":
    """Make the backend that a command line names, and nothing else of its run.

    Args:
        overrides: What would stand on the command line; what is not about the backend may be left out.

    Returns:
        The backend.

    Raises:
        UserError: The configuration is wrong.
    """
    from silvertune import composition

    return composition.backend_of(_config_of(overrides, ("task", "tracking", "backend")))


def labeler_of(overrides: Sequence[str]) -> "Labeler":
    """Make the labeler that a command line names, without data: it can label nothing that needs examples of them.

    Args:
        overrides: What would stand on the command line; what is not about the labeler may be left out.

    Returns:
        The labeler.

    Raises:
        UserError: The configuration is wrong.
    """
    from silvertune import composition

    return composition.labeler_without_data(_config_of(overrides, ("task", "tracking", "labeler")))


def label_source_of(overrides: Sequence[str], task: "Task") -> "tuple[LabelSource, str]":
    """Make the labeler and the aggregation that a command line names, for items of a task that are in no dataset.

    Args:
        overrides: What would stand on the command line; what is about neither of them may be left out.
        task: The task, in place of that of the configuration.

    Returns:
        Both, and a digest of what decides the labels beside the task: SHA-256, hexadecimal.

    Raises:
        UserError: The configuration is wrong, or the labeler needs a dataset.
    """
    from dataclasses import asdict

    from silvertune import composition, identity

    config = {**_config_of(overrides, ("tracking", "labeler", "aggregation")), "task": asdict(task)}
    parts = {**config["labeler"], "aggregation": config["aggregation"]}
    return composition.source_without_data(config), identity.of_part(parts)


def _config_of(overrides: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Some members of the configuration that a command line composes."""
    import_path.look_in(working_directory())
    with _one_at_a_time, _hydra_restored(), mistakes_in_one_line():
        setbase(VERSION_BASE)
        loader = ConfigLoaderImpl(config_search_path=create_config_search_path(CONFIG_FOLDER))
        cfg = loader.load_configuration(CONFIG_NAME, list(overrides), run_mode=RunMode.RUN)
        return {name: OmegaConf.to_container(cfg[name], resolve=True, throw_on_missing=True) for name in names}


def from_command_line() -> None:
    """Do what `sys.argv` says.

    Raises:
        UserError: The command line, the configuration or the data are wrong, or the store can't be used.
        SweepError: A run failed.
        SweepWaitsError: No run failed, and some wait for people.
        SystemExit: Hydra was asked for help, or its own options are wrong.
    """
    working_directory()
    # Hydra prints a traceback for what is not its own; with this it hands every exception on to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # They change nothing, as every command is a sweep, and Hydra takes no override behind them if it has some before.
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in ("-m", "--multirun")]
    with mistakes_in_one_line(), _modes_not_asked():
        hydra.main(version_base=VERSION_BASE, config_path=CONFIG_FOLDER, config_name=CONFIG_NAME)(job)()


@contextmanager
def _modes_not_asked() -> Iterator[None]:
    """Hydra composes a whole configuration to learn its mode; here every command is a sweep, or is refused by it."""
    get_mode = Hydra.get_mode
    setattr(Hydra, "get_mode", lambda *asked, **named: RunMode.MULTIRUN)  # noqa: B010
    try:
        yield
    finally:
        setattr(Hydra, "get_mode", get_mode)  # noqa: B010


def job(cfg: DictConfig) -> str:
    """Do one job of a sweep: compose, run, log.

    Args:
        cfg: The job's configuration, as Hydra composed it.

    Returns:
        The id of its run in MLflow.
    """
    from silvertune.study import job

    settings = HydraConfig.get()
    if cfg.tracking.parent_run_id is None:
        sweeper = settings.runtime.choices.get("hydra/sweeper")
        # No Exception: Hydra would print a line of its own, and go on with the next job.
        raise _NoSweepError(
            f"hydra.mode={RunMode(settings.mode).name}, hydra/sweeper={sweeper}: every command is a sweep, of one run "
            "or many; leave hydra.mode=MULTIRUN and hydra/sweeper=silvertune as they are"
        )
    return job.run(
        cfg,
        choices=settings.runtime.choices,
        sources=settings.runtime.config_sources,
        overrides=list(settings.overrides.task),
    )


class _NoSweepError(BaseException):
    """A job was started by something else than a sweep of silvertune's."""


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Turn what Hydra, OmegaConf and YAML say of a user's mistake into a UserError of one line."""
    try:
        yield
    except _NoSweepError as error:
        raise UserError(str(error)) from None
    except OverrideParseException as error:
        raise command_line_overrides.unreadable(error) from None
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(in_one_line(error)) from None
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):
            raise
        raise UserError(f"a group's config is chosen by its name, as filter=agreement is: {error}") from None


@contextmanager
def _hydra_restored() -> Iterator[None]:
    """Leave Hydra's singletons as they are, for an application of Hydra's that this runs in."""
    config, base = HydraConfig.instance().cfg, VersionBase.instance().version_base
    name = JobRuntime.instance().conf.name
    try:
        yield
    finally:
        HydraConfig.instance().cfg = config
        VersionBase.instance().version_base = base
        JobRuntime.instance().set("name", name)
