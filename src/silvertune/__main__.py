"""The command line: `silvertune` (or `python -m silvertune`).

Nothing heavy is imported before a job starts, so that `--help` and `--cfg job` answer at once.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from silvertune.errors import UserError, in_one_line

HERE = Path(__file__).resolve().parent
SHIPPED = HERE / "_shipped" if (HERE / "_shipped").is_dir() else HERE.parents[1]
"""The folder with `conf/` and `experiments/`: inside an installed package, or the top of a checkout."""


@hydra.main(version_base="1.3", config_path=str(SHIPPED / "conf"), config_name="config")
def job(cfg: DictConfig) -> None:
    """One job of a sweep: compose, run, log."""
    from hydra.core.hydra_config import HydraConfig

    from silvertune.study import job

    hydra_cfg = HydraConfig.get()
    job.run(cfg, choices=hydra_cfg.runtime.choices, sources=hydra_cfg.runtime.config_sources,
             overrides=list(hydra_cfg.overrides.task))  # fmt: skip


def main() -> None:
    """Run the command line; exits 0, 1 (a failure, told in one line), or 130 (interrupted)."""
    # The user's own functions stand in the working directory.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    signal.signal(signal.SIGTERM, _interrupt)
    # Hydra prints a traceback for what is not its own; with this it hands every exception on to us.
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        job()
    except (UserError, HydraException, OmegaConfBaseException, YAMLError) as error:
        if wants_traceback:
            raise
        sys.exit(f"silvertune: {in_one_line(error)}")
    except KeyboardInterrupt:
        print(
            "silvertune: interrupted; what is finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(130)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
