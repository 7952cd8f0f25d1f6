"""The command line: `silvertune-audit`. How good a model is on files without gold, from some answers by people.

Nothing is imported before the arguments are read, so that `--help` answers at once.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silvertune.errors import UserError, WaitingForAnswersError
from silvertune.production import command_line

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from silvertune.production.model import LoadedModel
    from silvertune.stats.audits import Audit

WAITING = 3
"""The exit status where people have to answer first."""
FURTHER = 50
"""For so many further answers it is told where they would tell most."""
DESCRIPTION = (
    "Estimate accuracy, precision, recall and class shares of a tuned model on files, with intervals, from the answers "
    "of people to some of the items."
)
EPILOG = f"""examples:
  silvertune-audit models:/complaints@champion messages.csv --labels 200 --sheet audit.csv
  ... people fill in the column label of audit.csv: a class, or ? for "do not know" ...
  silvertune-audit models:/complaints@champion messages.csv --labels 200 --sheet audit.csv
  silvertune-audit models:/complaints@champion messages.csv --labels 250 --sheet audit.csv    50 further answers

The first command draws the items and writes the sheet, and SHEET.plan.json, which says how they were drawn. The same
command again reads the answers and writes SHEET.estimates.csv and SHEET.strata.csv. Larger --labels adds items where
they tell most.

exit status: 0 estimates are written; {WAITING} the sheet waits for answers; 1 one line says what is wrong."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `EPILOG` has its exit statuses.

    Args:
        arguments: The command line's arguments; None: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="silvertune-audit",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_inputs(parser)
    parser.add_argument("--labels", type=int, default=200, metavar="N", help="how many items (default: 200)")
    parser.add_argument("--sheet", default="audit.csv", help="the answer sheet (default: audit.csv)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    command_line.add_columns(parser)
    command_line.run("silvertune-audit", _audit, parser.parse_args(arguments))


def _audit(options: argparse.Namespace) -> int:
    import tempfile

    from silvertune.errors import check_whole_number
    from silvertune.production import model

    check_whole_number("--labels", options.labels, 2)
    check_whole_number("--seed", options.seed, 0)
    command_line.share("--confidence", options.confidence)
    sheet = Path(options.sheet)
    if sheet.suffix != ".csv" or not sheet.absolute().parent.is_dir():
        raise UserError(f"--sheet={sheet}: want a .csv file in a folder that is there")
    with tempfile.TemporaryDirectory(prefix="silvertune-model-") as download_to:
        return _audited(options, model.load(options.model, command_line.tracking(options), Path(download_to)), sheet)


def _audited(options: argparse.Namespace, model: "LoadedModel", sheet: Path) -> int:
    import numpy as np

    from silvertune.labelers.answer_sheet import AnswerSheet
    from silvertune.production import populations
    from silvertune.stats import audits
    from silvertune.votes import prob_columns

    inputs, mapping = command_line.inputs_of(options), command_line.mapping_of(options, model)
    if "-" in options.inputs:
        raise UserError("-: the files are read twice; name a file")
    everything = populations.predict(model, mapping, inputs).table
    table = everything[everything["label"].notna()]
    if table.empty:
        raise UserError(f"{options.inputs[0]}: no row has a text that the model reads")
    classes = list(model.task.classes)
    probs = table[prob_columns(classes)].to_numpy(dtype=float)
    predicted = np.array([classes.index(label) for label in table["label"]])
    plan = _plan(sheet, {"model": model.digest, "items": _digest(table), "seed": options.seed})
    first = int(plan.get("first", options.labels))
    # The strata are cut by the model's confidence in its decision; the estimates use its probabilities.
    surety = np.clip(table["confidence"].to_numpy(dtype=float), 0, 1)
    strata = audits.stratify(predicted, np.repeat(surety[:, None], len(classes), axis=1), first)
    new = "rounds" not in plan
    rounds = [audits.allocate(strata, surety, first)] if new else [np.array(one) for one in plan["rounds"]]
    total, planned = sum(rounds), int(sum(one.sum() for one in rounds))
    drawn = audits.draw(strata, np.asarray(total), options.seed)
    items = populations.texts(mapping, inputs, table.index[drawn])
    answers = AnswerSheet(model.task, items.index, path=str(sheet), annotator="people", cost_usd=0.0, views=None)
    if sheet.exists() and new:
        raise UserError(f"--sheet={sheet}: is there already, and no plan of an audit beside it; name another file")
    _refuse_unknown_ids(answers, items.index)
    if waiting := int(sum(estimate.calls for estimate in answers.estimate(items).values())):
        _keep(sheet, plan, first, rounds)
        _ask(answers, items)
        print(
            f"{sheet}: {waiting} of {len(items)} items, drawn from {len(table):,}, wait for an answer: fill in the "
            f"column label ({', '.join(classes)}, or ? for do not know) and run the same command again"
        )
        return WAITING
    answered = answers.label(items)
    if len(twice := answered["item_id"][answered["item_id"].duplicated()]):
        raise UserError(f"{sheet}: item_id {twice.iloc[0]!r} has answers by several people; want one answer an item")
    given = answered.set_index("item_id")["label"].reindex(table.index[drawn])
    names_a_class = given.notna().to_numpy()
    if names_a_class.sum() < audits.FEWEST:
        raise UserError(f"{sheet}: {int(names_a_class.sum())} answer(s) name a class; want some more")
    codes = np.array([classes.index(label) for label in given[names_a_class]])
    result = audits.estimate(
        strata, predicted, probs, drawn[names_a_class], codes, classes, level=options.confidence, further=FURTHER
    )
    if options.labels > planned:
        if result.merged:
            raise UserError(f"--labels={options.labels}: some strata have too few answers to say where others would "
                            f"tell most; want fewer ? in {sheet}")  # fmt: skip
        sizes, variances = np.bincount(strata), result.variances
        more = audits.next_answers(sizes, np.asarray(total), variances, options.labels - planned)
        added = audits.draw(strata, more, options.seed, np.asarray(total))
        _keep(sheet, plan, first, [*rounds, more])
        _ask(answers, populations.texts(mapping, inputs, table.index[[*drawn, *added]]))
        print(f"{sheet}: {len(added)} further items wait for an answer; fill in the column label and run the same "
              "command again")  # fmt: skip
        return WAITING
    _write(result, sheet)
    _tell(result, options.confidence, len(everything) - len(table), int((~names_a_class).sum()), sheet)
    return 0


def _digest(table: "pd.DataFrame") -> str:
    """SHA-256 of the items' ids and the model's decisions, hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    for name, label in table["label"].items():
        digest.update(f"{name}\0{label}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _plan(sheet: Path, made_of: dict[str, Any]) -> dict[str, Any]:
    """The plan beside a sheet; one without rounds where there is none. UserError where it is of something else."""
    file = sheet.with_name(f"{sheet.name}.plan.json")
    if not file.is_file():
        return made_of
    try:
        plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        different = [name for name, value in made_of.items() if plan[name] != value]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file}: is no plan of an audit ({type(error).__name__}: {error})") from None
    if different:
        raise UserError(
            f"--sheet={sheet}: was drawn with another {different[0]}; name another sheet, or give the same "
            "model, files and seed"
        )
    return plan


def _keep(sheet: Path, plan: dict[str, Any], first: int, rounds: "Sequence[np.ndarray]") -> None:
    from silvertune.production import parts

    content = {**plan, "first": first, "rounds": [one.tolist() for one in rounds]}
    parts.replace(sheet.with_name(f"{sheet.name}.plan.json"), json.dumps(content).encode())


def _ask(answers: Any, items: "pd.DataFrame") -> None:
    """Add the items to the sheet that it lacks."""
    answers.item_ids = items.index
    with suppress(WaitingForAnswersError):
        answers.label(items)


def _refuse_unknown_ids(answers: Any, item_ids: "pd.Index") -> None:
    from silvertune.datasets.item_ids import matched

    written = answers.written()
    drawn_ids = matched([name for name, _ in written], item_ids)
    for name, place in written:
        if name not in drawn_ids:
            raise UserError(f"{place}: item_id {name!r} was not drawn for this audit; want the rows of the sheet alone")


def _write(result: "Audit", sheet: Path) -> None:
    result.table.to_csv(sheet.with_name(f"{sheet.name}.estimates.csv"), index=False)
    result.strata.to_csv(sheet.with_name(f"{sheet.name}.strata.csv"), index=False)


def _tell(result: "Audit", level: float, without_text: int, unknown: int, sheet: Path) -> None:
    for _, row in result.table.iterrows():
        name = f"{row['measure']} {row['class']}".strip()
        if row.isna().any():
            print(f"{name}: no answer tells it")
            continue
        print(
            f"{name}: {row['estimate']:.3f} ({level:.0%}: {row['low']:.3f} to {row['high']:.3f}); plain sampling would "
            f"need {row['plain_answers']:,.0f} answers"
        )
    notes = [f"{result.answers} answers"]
    notes += [f"{unknown} answered ? and left out, as if they were like the others of their stratum"] * bool(unknown)
    notes += [f"{result.merged} strata with too few answers merged with others"] * bool(result.merged)
    notes += [f"{without_text} rows without text are not in the estimates"] * bool(without_text)
    print("; ".join(notes))
    places = [
        f"{row['next']} where it says {row['predicted']} with {row['confidence']:.2f}"
        for _, row in result.strata.sort_values("next", ascending=False).iterrows()
        if row["next"] > 0
    ]
    if places:
        print(f"the next {FURTHER} answers would tell most there: {'; '.join(places[:4])} (--labels adds them)")
    print(f"{sheet}.estimates.csv, {sheet}.strata.csv")


if __name__ == "__main__":
    main()
