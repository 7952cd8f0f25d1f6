"""The command line: `silvertune` (or `python -m silvertune`).

Nothing is imported before the command line is looked at, and nothing heavy before a job starts, so that `--version`,
`--help` and `--cfg job` answer at once.
"""

import os
import sys
from types import FrameType


def main() -> None:
    """Run the command line; exits 0, 1 (a failure, told in one line), 75 (waits for people) or 130 (interrupted)."""
    if sys.argv[1:] == ["--version"]:
        from silvertune import __version__

        print(__version__)
        return
    libraries_first()
    import signal
    import threading

    from silvertune.errors import WAITS_FOR_PEOPLE, UserError, in_one_line
    from silvertune.study import command, console
    from silvertune.study.result import SweepError, SweepWaitsError

    console.make_printable()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
    try:
        with console.lasting():
            command.from_command_line()
    except SweepError:  # it has listed what failed
        sys.exit(1)
    except SweepWaitsError:  # it has listed what waits for what
        sys.exit(WAITS_FOR_PEOPLE)
    except UserError as error:
        if wants_traceback:
            raise
        sys.exit(f"silvertune: {in_one_line(error)}")
    except KeyboardInterrupt:
        print(
            "silvertune: interrupted; what is finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(130)


def libraries_first() -> None:
    """Put the working directory, where the user's own functions stand, behind the libraries on `sys.path`.

    Otherwise a script of the user's called `statistics.py` or `mlflow.py` would be imported in a library's place, here
    and in the processes that are started from here.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return  # it is gone: nothing can be imported from it, and the command says so
    sys.path[:] = [place for place in sys.path if place not in ("", ".", here)] + [here]
    os.environ["PYTHONSAFEPATH"] = "1"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
