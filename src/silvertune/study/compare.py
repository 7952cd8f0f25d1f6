"""The command line: `silvertune-compare`. Compares finished runs again, from what they logged.

Nothing is imported before the arguments are read, so that `--help` answers at once.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from silvertune.errors import UserError, check_whole_number, either, working_directory

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DESCRIPTION = """Compare finished runs of an experiment from their logged predictions: the table, the paired differences
to the references with their tests, the groups, the vote ensembles, the figures, and one HTML page. Runs that were
measured on other data, other test items, other folds or other classes are refused. Nothing is written to MLflow."""
EXAMPLES = """examples:
  silvertune-compare soe_table3
  silvertune-compare soe_table3 --arms all,filtered,expert --references expert --out filtered
  silvertune-compare soe_filters --runs "tags.model = 'tfidf_logreg'" --uri http://127.0.0.1:5000"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits 0, or 1 with one line that says what is wrong.

    Args:
        arguments: The command line's arguments; None: those of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        working_directory()
        _compare(options)
    except UserError as error:
        sys.exit(f"silvertune-compare: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="silvertune-compare",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", help="name of the MLflow experiment")
    parser.add_argument("--runs", metavar="QUERY", default="", help="an MLflow search that the runs must match")
    parser.add_argument("--arms", metavar="A,B", help="only these arms, in this order, and the references")
    parser.add_argument(
        "--references", metavar="A,B", help="the arms that all are compared with (default: the sweep's)"
    )
    parser.add_argument("--replicates", type=int, default=10_000, help="resamples of the groups (default: 10000)")
    parser.add_argument("--uri", help="MLflow tracking URI (default: MLFLOW_TRACKING_URI, else the store in --dir)")
    parser.add_argument("--dir", help="folder of the local store (default: mlruns)")
    parser.add_argument("--out", default="comparison", help="folder for CSV, PNG and HTML (default: comparison)")
    return parser


def _compare(options: argparse.Namespace) -> None:
    from silvertune.evaluation import comparison
    from silvertune.reports import figures, study_report
    from silvertune.study.console import open_console
    from silvertune.tracking import database, finished, store

    check_whole_number("--replicates", options.replicates, 2)
    client, experiment = store.existing(database.named(options.uri, options.dir), options.experiment)
    study = _study(client, experiment)
    matching = _matching(client, experiment, options.runs)
    newest = list({_key(run): run for run in matching}.values())
    arms = list(dict.fromkeys([*(study.get("arms") or {}), *(run.data.tags["arm"] for run in newest)]))
    if not newest:
        raise UserError(f"{options.experiment}: no finished run matches --runs={options.runs!r}")
    if options.references:
        references = _named("--references", options.references, newest)
    else:
        finished_arms = {run.data.tags["arm"] for run in newest}
        references = [name for name in study.get("references") or () if name in finished_arms]
    wanted = list(dict.fromkeys([*_named("--arms", options.arms, newest), *references])) if options.arms else arms
    chosen = sorted((run for run in newest if run.data.tags["arm"] in wanted), key=lambda run: _place(run, wanted))
    finished_runs = [finished.read(client, run) for run in chosen]
    result = comparison.compare(finished_runs, references, replicates=options.replicates)
    folder = Path(options.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={options.out}: can't be a folder ({error.strerror})") from None
    study_report.write(folder, result, references, options.experiment, figures.styles(arms))
    output = open_console()
    study_report.show(output, result, references, options.experiment)
    keys = {_key(run) for run in chosen}
    older = sum(_key(run) in keys for run in matching) - len(chosen)
    counts = f"{len(chosen)} runs" + f", {older} older ones of the same arms and seeds left out" * bool(older)
    output.print(f"{counts}; written to {folder}/comparison.html", soft_wrap=True, highlight=False, markup=False)


def _matching(client: "MlflowClient", experiment: str, query: str) -> "list[Run]":
    """The finished runs that match, oldest first."""
    from mlflow.exceptions import MlflowException

    from silvertune.tracking import store

    wanted = " and ".join(part for part in ("attributes.status = 'FINISHED'", "tags.identity != ''", query) if part)
    try:
        return store.runs(client, experiment, wanted)
    except MlflowException as error:
        raise UserError(f"--runs={query!r}: {str(error).splitlines()[0]}") from None


def _key(run: "Run") -> tuple[str, ...]:
    """Of the runs with the same key, the newest counts."""
    tags = run.data.tags
    return tags["arm"], tags["model"], tags.get("variant", ""), tags["seed"]


def _place(run: "Run", arms: list[str]) -> tuple[int, str, str, int]:
    arm, model, variant, seed = _key(run)
    return arms.index(arm), model, variant, int(seed)


def _named(option: str, text: str | None, runs: "list[Run]") -> list[str]:
    """The arms that an option names; UserError for one that no run has."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    arms = list(dict.fromkeys(run.data.tags["arm"] for run in runs))
    if unknown := [name for name in names if name not in arms]:
        raise UserError(f"{option}: no finished run of an arm {unknown[0]!r}; there are {either(arms)}")
    return names


def _study(client: "MlflowClient", experiment: str) -> dict[str, list[str]]:
    """`study` of the experiment's newest sweep: its arms in their order, the references that it compared with."""
    import yaml

    from silvertune.tracking import store

    parents = store.runs(client, experiment, "tags.sweep != ''")
    return (yaml.safe_load(store.text(client, parents[-1], "study.yaml")) or {}) if parents else {}


if __name__ == "__main__":
    main()
