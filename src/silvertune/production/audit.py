"""The command line: `silvertune-audit`. How good a model is on files without gold, from some answers by people.

Nothing is imported before the arguments are read, so that `--help` answers at once.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silvertune.errors import WAITS_FOR_PEOPLE, UserError
from silvertune.production import command_line

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from silvertune.labelers.answer_sheet import AnswerSheet
    from silvertune.labelers.label_studio import LabelStudio
    from silvertune.labelers.people import Answer
    from silvertune.production.model import LoadedModel
    from silvertune.schema import Task
    from silvertune.stats.audits import Audit

FURTHER = 50
"""For so many further answers it is told where they would tell most."""
OTHER = {
    "model": "another model",
    "items": "other items, or this model's decisions on them were others",
    "seed": "another seed",
}
"""What is different -> how it is said."""
PAYS = 1.05
"""A measure for which plain sampling needs less than so many times the answers is said to gain nothing."""
DESCRIPTION = (
    "Estimate accuracy, precision, recall and class shares of a tuned model on files, with intervals, from the answers "
    "of people to some of the items."
)
EPILOG = f"""examples:
  silvertune-audit models:/complaints@champion messages.csv --labels 200 --sheet audit.csv
  ... people fill in the column label of audit.csv: a class, or ? for "do not know" ...
  silvertune-audit models:/complaints@champion messages.csv --labels 200 --sheet audit.csv
  silvertune-audit models:/complaints@champion messages.csv --labels 250 --sheet audit.csv    50 further answers
  silvertune-audit models:/complaints@champion messages.csv --ask labeler=label_studio labeler.path=audit

The first command draws the items and writes the sheet, and SHEET.plan.json, which says how they were drawn. The same
command again reads the answers and writes SHEET.estimates.csv and SHEET.strata.csv. Larger --labels adds items where
they tell most. With --ask SHEET is the labeler's path.

exit status: 0 estimates are written; {WAITS_FOR_PEOPLE} people have to answer first; 1 one line says what is wrong; 2
an option is wrong; 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `EPILOG` has its exit statuses.

    Args:
        arguments: The command line's arguments; None: those of the process.
    """
    command_line.run("silvertune-audit", _audit, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("silvertune-audit", DESCRIPTION, EPILOG)
    parser.add_argument("--labels", type=int, default=200, metavar="N", help="how many items (default: 200)")
    people = parser.add_mutually_exclusive_group()
    people.add_argument("--sheet", default="audit.csv", help="the answer sheet (default: audit.csv)")
    people.add_argument(
        "--ask",
        nargs="+",
        metavar="OVERRIDE",
        help="ask people elsewhere: labeler=label_studio, labeler.path=audit and more of silvertune's overrides",
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    command_line.add_columns(parser)
    return parser


def _audit(options: argparse.Namespace) -> int:
    from silvertune.errors import check_whole_number

    check_whole_number("--labels", options.labels, 2)
    check_whole_number("--seed", options.seed, 0)
    command_line.share("--confidence", options.confidence)
    if options.ask is None and Path(options.sheet).suffix != ".csv":
        raise UserError(f"--sheet={options.sheet}: want a .csv file")
    for override in options.ask or ():
        if override.lstrip("+~").partition("=")[0].partition(".")[0] != "labeler":
            raise UserError(f"--ask={override}: want overrides of the labeler alone, such as labeler=label_studio")
    with command_line.model_of(options) as (model, _):
        return _audited(options, model, *_people(options, model.task))


def _people(options: argparse.Namespace, task: "Task") -> "tuple[AnswerSheet | LabelStudio, Path]":
    """Who answers, and the file or folder of their answers. UserError where nothing can be written beside that."""
    from silvertune.labelers.answer_sheet import AnswerSheet
    from silvertune.labelers.label_studio import LabelStudio

    labeler: Any
    if options.ask is None:
        sheet, option = Path(options.sheet), "--sheet"
        labeler = AnswerSheet(task, path=options.sheet, annotator="people", cost_usd=0.0, views=None)
    else:
        from silvertune.study import command

        labeler = command.label_source_of(options.ask, task)[0].labeler
        if not isinstance(labeler, AnswerSheet | LabelStudio):
            raise UserError(f"--ask={' '.join(options.ask)}: want labeler=label_studio or labeler=answer_sheet")
        sheet, option = labeler.folder if isinstance(labeler, LabelStudio) else labeler.path, "--ask labeler.path"
    if not sheet.absolute().parent.is_dir():
        raise UserError(f"{option}={sheet}: want a path in a folder that is there")
    return labeler, sheet


def _audited(
    options: argparse.Namespace, model: "LoadedModel", labeler: "AnswerSheet | LabelStudio", sheet: Path
) -> int:
    import numpy as np

    from silvertune.production import populations
    from silvertune.stats import audits
    from silvertune.votes import prob_columns

    inputs, mapping = command_line.inputs_of(options, read_twice=True), command_line.mapping_of(options, model)
    population = populations.predict(model, mapping, inputs)
    everything = population.table
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
    labeler.item_ids = items.index
    if new:
        if sheet.is_file() or (sheet.is_dir() and any(sheet.iterdir())):
            raise UserError(f"{sheet}: is there already, and no plan of an audit beside it; name another one")
        _keep(sheet, plan, first, rounds)
        print(f"{len(items)} items are drawn from {len(table):,}")
    _refuse_what_was_not_asked(labeler, items.index)
    answered = labeler.label(items)
    given = answered.set_index("item_id")["label"].reindex(table.index[drawn])
    names_a_class = given.notna().to_numpy()
    if names_a_class.sum() < audits.FEWEST:
        raise UserError(
            f"{sheet}: {int(names_a_class.sum())} of {len(given)} answer(s) name a class, the others say ?; want "
            f"{audits.FEWEST} at least"
        )
    codes = np.array([classes.index(label) for label in given[names_a_class]])
    result = audits.estimate(
        strata, predicted, probs, drawn[names_a_class], codes, classes, level=options.confidence, further=FURTHER
    )
    if options.labels > planned:
        sizes, variances = np.bincount(strata), result.variances
        more = audits.next_answers(sizes, np.asarray(total), variances, options.labels - planned)
        added = audits.draw(strata, more, options.seed, np.asarray(total))
        if len(added):  # none where all are drawn
            _keep(sheet, plan, first, [*rounds, more])
            print(f"{len(added)} further items are drawn where they tell most")
            further = populations.texts(mapping, inputs, table.index[[*drawn, *added]])
            labeler.item_ids = further.index
            labeler.label(further)
    _write(result, sheet)
    left_out = [f"{len(everything) - len(table)} rows without text"] * (len(everything) > len(table))
    left_out += [population.unread] * bool(population.unread)
    _tell(result, options.confidence, " and ".join(left_out), int((~names_a_class).sum()), sheet)
    return 0


def _digest(table: "pd.DataFrame") -> str:
    """SHA-256 of the items' ids and the model's decisions, hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    for name, label in table["label"].items():
        digest.update(f"{name}\0{label}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _plan(sheet: Path, made_of: dict[str, Any]) -> dict[str, Any]:
    """The plan beside the answers; one without rounds where there is none. UserError where it is of something else."""
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
            f"{sheet}: was drawn with {OTHER[different[0]]}; name another one, or give the same model, files and seed"
        )
    return plan


def _keep(sheet: Path, plan: dict[str, Any], first: int, rounds: "Sequence[np.ndarray]") -> None:
    from silvertune.production import parts

    content = {**plan, "first": first, "rounds": [one.tolist() for one in rounds]}
    parts.replace(sheet.with_name(f"{sheet.name}.plan.json"), json.dumps(content).encode())


def _refuse_what_was_not_asked(labeler: "AnswerSheet | LabelStudio", item_ids: "pd.Index") -> None:
    """Raise UserError for an answer about an item that was not drawn, and for answers of several people about one."""
    from silvertune.datasets.item_ids import matched
    from silvertune.datasets.label_values import NoLabel

    answers = labeler.answers()
    items = matched([answer.item for answer in answers], item_ids)
    first: dict[str, Answer] = {}
    for answer in answers:
        if answer.item not in items:
            raise UserError(
                f"{answer.place}: item_id {answer.item!r} was not drawn for this audit; want answers about the items "
                "that it has asked about"
            )
        if answer.label is not NoLabel.NOTHING:
            other = first.setdefault(items[answer.item], answer)
            if other.annotator != answer.annotator:
                raise UserError(
                    f"{answer.place}: item_id {answer.item!r} has an answer by {answer.annotator}, and one by "
                    f"{other.annotator} ({other.place}); want one answer an item"
                )


def _write(result: "Audit", sheet: Path) -> None:
    result.table.to_csv(sheet.with_name(f"{sheet.name}.estimates.csv"), index=False)
    result.strata.to_csv(sheet.with_name(f"{sheet.name}.strata.csv"), index=False)


def _tell(result: "Audit", level: float, left_out: str, unknown: int, sheet: Path) -> None:
    for _, row in result.table.iterrows():
        name = f"{row['measure']} {row['class']}".strip()
        if row.isna().any():
            print(f"{name}: no answer tells it")
            continue
        print(
            f"{name}: {row['estimate']:.3f} ({level:.0%}: {row['low']:.3f} to {row['high']:.3f}); plain sampling would "
            f"need {row['plain_answers']:,.0f} answers"
        )
    estimated = result.table.dropna()
    little = estimated[estimated["plain_answers"] < PAYS * result.answers]
    if len(little):
        names = (f"{row['measure']} {row['class']}".strip() for _, row in little.iterrows())
        print(
            f"the model's predictions hardly help, or do not, with {', '.join(names)}: {result.answers} plain answers "
            "tell about as much"
        )
    notes = [f"{result.answers} answers"]
    notes += [f"{unknown} answered ? and left out, as if they were like the others of their stratum"] * bool(unknown)
    notes += [f"{result.merged} strata without an answer are taken to be like their neighbours"] * bool(result.merged)
    notes += [f"{left_out} are not in the estimates"] * bool(left_out)
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
