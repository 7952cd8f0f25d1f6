"""The command line: `silvertune-predict`. Applies a tuned model to files of any size, and goes on where it was stopped.

Nothing is imported before the arguments are read, so that `--help` answers at once.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from silvertune.errors import UserError
from silvertune.production import command_line

if TYPE_CHECKING:
    from silvertune.production.deferring import Cascade
    from silvertune.production.model import LoadedModel
    from silvertune.production.parts import Counts
    from silvertune.production.predicting import Abstain, Work

BAD_ROWS = 3
"""The exit status where all is written and some rows could not be read, or got no answer of the labeler."""
DESCRIPTION = (
    "Predict the rows of files with a tuned model: a row of the output for each row of the input, in its order."
)
EPILOG = f"""examples:
  silvertune-predict models:/complaints@champion messages.csv --out predictions.csv
  silvertune-predict models:/complaints/3 2026-*.jsonl.gz --out predictions.parquet --processes 8
  silvertune-predict runs:/RUN_ID messages.csv --out predictions.csv --abstain 0.2 0.8
  silvertune-predict runs:/RUN_ID messages.csv --out predictions.csv --abstain 0.6    of more than two classes
  zcat old.jsonl.gz | silvertune-predict downloaded/model - --out predictions.jsonl
  silvertune-predict models:/complaints/3 messages.csv --out predictions.csv --cascade cascade.json \\
    --defer-to labeler=gemini labeler.budget_usd=5

The output has id, status (ok, abstained, no_text, bad_row, deferred, no_answer), label, answered_by (model, labeler,
nobody) with --cascade, prob:<class>, prob:<view>:<class> where there are several views, and reason. A command that was
stopped, by kill -9 too, goes on when it is given again: what it has predicted is in OUT.parts until OUT is whole, and
what a labeler has answered in its answer store.

exit status: 0 all is written; {BAD_ROWS} all is written, and some rows can't be read (status bad_row) or got no answer
of the labeler (no_answer); 1 nothing is written, and one line says why; 2 an option is wrong; 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `EPILOG` has its exit statuses.

    Args:
        arguments: The command line's arguments; None: those of the process.
    """
    command_line.run(
        "silvertune-predict",
        _predict,
        _parser().parse_args(arguments),
        "interrupted; the same command goes on from there",
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("silvertune-predict", DESCRIPTION, EPILOG)
    parser.add_argument("--out", required=True, help="the new file: .csv, .jsonl (or compressed) or .parquet")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many predict (default: 1)")
    parser.add_argument(
        "--abstain",
        nargs="+",
        type=float,
        metavar="P",
        help="LOW HIGH, of two classes: give no label where the positive class's probability is above LOW and below "
        "HIGH; LEAST, of more: where no class has a probability of LEAST",
    )
    parser.add_argument(
        "--cascade",
        metavar="FILE",
        help="give no label where the confidence is below the threshold in this file, which silvertune-cascade wrote",
    )
    parser.add_argument(
        "--defer-to",
        nargs="+",
        metavar="OVERRIDE",
        help="ask a labeler about those rows: labeler=gemini, labeler.budget_usd=5 and more of silvertune's overrides",
    )
    parser.add_argument("--task", help="refuse a model of another task than this")
    command_line.add_columns(parser)
    return parser


def _predict(options: argparse.Namespace) -> int:
    from silvertune.errors import check_whole_number
    from silvertune.production import output

    check_whole_number("--processes", options.processes, 1)
    _check_cascade(options)
    out = Path(options.out)
    output.form_of(out)
    _check_place(out)
    inputs = command_line.inputs_of(options)
    for file, _ in inputs:
        if file != "-" and out.exists() and Path(file).samefile(out):
            raise UserError(f"--out={out}: is an input as well")
    with command_line.model_of(options) as (model, _):
        if options.task is not None and options.task != model.task.name:
            raise UserError(
                f"--task={options.task}: {model.name} is a model of task {model.task.name!r}, which tells "
                f"{', '.join(model.task.classes)} apart"
            )
        counts = _run(model, _work(options, model, out), inputs, options)
    return BAD_ROWS if counts.statuses.get("bad_row") or counts.statuses.get("no_answer") else 0


def _check_place(out: Path) -> None:
    """Refuse an output that is there or can't be written, before anything is predicted."""
    from silvertune.production.parts import FINISHED, IS_THERE

    folder = out.absolute().parent
    if out.exists() and not (out.with_name(f"{out.name}.parts") / FINISHED).is_file():
        raise UserError(f"--out={out}: {IS_THERE}")
    if not folder.is_dir():
        raise UserError(f"--out={out}: {folder} is no folder")
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out={out}: {folder} can't be written to")


def _work(options: argparse.Namespace, model: "LoadedModel", out: Path) -> "Work":
    from silvertune.production.predicting import Work

    mapping = command_line.mapping_of(options, model)
    abstain = None if options.abstain is None else _abstain(options.abstain, model)
    return Work(model.folder, model.name, model.digest, mapping, abstain, out, _cascade(options, model))


def _abstain(numbers: Sequence[float], model: "LoadedModel") -> "Abstain":
    said = f"--abstain={' '.join(f'{number:g}' for number in numbers)}"
    n_classes = len(model.task.classes)
    if model.task.positive is not None and n_classes == 2:
        if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] <= 1:
            raise UserError(
                f"{said}: want LOW and HIGH from 0 to 1, LOW first; task {model.task.name!r} has two classes"
            )
        return numbers[0], numbers[1]
    if len(numbers) != 1 or not 0 <= numbers[0] <= 1:
        raise UserError(
            f"{said}: want one number from 0 to 1, the least probability of a label; task {model.task.name!r} has "
            + (f"{n_classes} classes" if n_classes != 2 else "no positive class")
        )
    return numbers[0]


def _cascade(options: argparse.Namespace, model: "LoadedModel") -> "Cascade | None":
    from silvertune.production import deferring

    if options.cascade is None:
        return None
    threshold = deferring.threshold_of(options.cascade, model)
    if options.defer_to is None:
        return deferring.Cascade(threshold)
    return deferring.Cascade(threshold, *deferring.labeler_of(options.defer_to, model))


def _check_cascade(options: argparse.Namespace) -> None:
    """Refuse options that do not go together, before a model is loaded."""
    if options.cascade is None and options.defer_to is not None:
        raise UserError(f"--defer-to={' '.join(options.defer_to)}: needs --cascade, which says what the model answers")
    if options.cascade is not None and options.abstain is not None:
        raise UserError(f"--abstain: does not go with --cascade={options.cascade}, which says what gets no label")
    if options.defer_to is not None and options.processes != 1:
        raise UserError(f"--processes={options.processes}: with --defer-to one process asks the labeler; want 1")


def _run(
    model: "LoadedModel", work: "Work", inputs: Sequence[tuple[str, str]], options: argparse.Namespace
) -> "Counts":
    from silvertune.production import parts, predicting

    started = time.perf_counter()
    predicted = 0
    cascade = work.cascade
    spent = 0.0 if cascade is None else cascade.spent_usd()
    with _progress(is_alone=options.defer_to is None) as show:

        def on_batch(counts: "Counts", new: int, consumed: float) -> None:
            nonlocal predicted
            predicted += new
            show(counts.rows, new, consumed)

        predicting.look_at_new_objects_alone()
        try:
            counts = predicting.run(model, work, inputs, processes=options.processes, on_batch=on_batch)
        except OSError as error:
            what = "the disk is full" if parts.is_full(error) else "can't be written"
            kept = work.out.with_name(f"{work.out.name}.parts")
            raise UserError(
                f"--out={work.out}: {what} ({error.strerror or error}); what is predicted is kept in {kept}, and the "
                "same command goes on"
            ) from None
    print(_summary(model, work.out, counts, predicted, time.perf_counter() - started))
    if cascade is not None and cascade.labeler is not None:
        spent_now = cascade.spent_usd()
        print(f"the labeler's answer store: ${spent_now - spent:.4f} paid by this command, ${spent_now:.4f} ever")
    return counts


def _summary(model: "LoadedModel", out: Path, counts: "Counts", predicted: int, seconds: float) -> str:
    statuses = ", ".join(f"{number:,} {status}" for status, number in counts.statuses.items()) or "none"
    answered = max(sum(counts.labels.values()), 1)
    shares = ", ".join(f"{name} {number / answered:.1%}" for name, number in counts.labels.items())
    lines = [f"{out}: {counts.rows:,} rows by {model.name}: {statuses}", f"labels: {shares or 'none'}"]
    if counts.answered_by:
        order = [name for name in ("model", "labeler", "nobody") if name in counts.answered_by]
        of_whom = ", ".join(
            f"{name} {counts.answered_by[name]:,} ({counts.answered_by[name] / counts.rows:.1%})" for name in order
        )
        lines.append(f"answered by: {of_whom}")
    if counts.first_bad:
        lines.append(f"the first row that can't be read: {counts.first_bad}")
    earlier = f", {counts.rows - predicted:,} rows earlier" if counts.rows > predicted else ""
    lines.append(f"{predicted:,} rows in {seconds:.1f} s, {predicted / max(seconds, 1e-9):,.0f} rows/s{earlier}")
    return "\n".join(lines)


EVERY = 30.0
"""Seconds between two lines of progress, where there is no terminal to show a bar on."""


@contextmanager
def _progress(is_alone: bool) -> "Iterator[Callable[[int, int, float], None]]":
    """Show rows, rate and time left: a bar on a terminal if no labeler shows one, else a line every now and then."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from silvertune.progress_bar import on_stderr

    console = on_stderr()
    has_bar = console.is_terminal and is_alone
    started = said = time.perf_counter()
    rows, new, begun = 0, 0, 0.0
    columns = (TextColumn("  predicting"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not has_bar) as progress:
        task = progress.add_task("predicting", total=1.0, words="")

        def show(of_batch: int, of_them_new: int, consumed: float) -> None:
            nonlocal rows, new, begun, said
            rows, new = rows + of_batch, new + of_them_new
            if not of_them_new:  # what an earlier command has predicted takes no time
                begun = consumed
            now = time.perf_counter()
            share = (consumed - begun) / max(1 - begun, 1e-9)
            left = f", {(now - started) * (1 - share) / share:,.0f} s left" if share > 0 else ""
            words = f"{rows:,} rows, {new / (now - started):,.0f} rows/s{left}"
            progress.update(task, completed=consumed if consumed == consumed else None, words=words)
            if not has_bar and now - said >= EVERY:
                said = now
                print(f"silvertune-predict: {words}", file=sys.stderr, flush=True)

        yield show


if __name__ == "__main__":
    main()
