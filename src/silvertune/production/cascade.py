"""The command line: `silvertune-cascade`. From which confidence on a student may answer in a labeler's place.

Nothing is imported before the arguments are read, so that `--help` answers at once.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silvertune.errors import UserError
from silvertune.production import command_line

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from silvertune.datasets.mapping import ColumnMapping
    from silvertune.production.model import LoadedModel
    from silvertune.stats.agreement_bounds import Choice

NO_THRESHOLD = 3
"""The exit status where no threshold keeps the bound."""
DESCRIPTION = (
    "Choose the confidence from which a tuned model may answer in place of a labeler (or of people), so that their "
    "agreement is bounded from below, on labelled items that the model was not tuned on."
)
EPILOG = f"""examples:
  silvertune-cascade models:/complaints@champion labelled.csv --labels-in llm --target 0.95
  silvertune-cascade runs:/RUN_ID held_out.jsonl --votes votes.parquet --annotator gemini --out cascade.json
  silvertune-cascade runs:/RUN_ID held_out.jsonl --votes runs:/OTHER_RUN --labeler-seconds 420

OUT.json has the threshold; OUT.csv and OUT.png have the share that the model answers and its agreement for every
threshold, OUT.csv the dollars as well. The bound holds for new items like those given.

exit status: 0 a threshold is chosen; {NO_THRESHOLD} none keeps the bound, and the curve alone is written; 1 one line
says what is wrong."""


@dataclass(frozen=True)
class Groups:
    """The groups of the items of some files.

    Attributes:
        column: The column that names them.
        names: Item -> its group, "" where it names none.
        places: Item -> its file and row.
    """

    column: str
    names: Mapping[str, str]
    places: Mapping[str, str]

    def of(self, item_ids: "pd.Index") -> "np.ndarray":
        """The group of each item. UserError where one has none."""
        import numpy as np

        groups = [self.names[name] for name in item_ids]
        if "" in groups:
            place = self.places[item_ids[groups.index("")]]
            raise UserError(
                f"{place}: --group={self.column}: the item has a label and no group; want one, or no --group"
            )
        return np.array(groups, dtype=object)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `EPILOG` has its exit statuses.

    Args:
        arguments: The command line's arguments; None: those of the process.
    """
    command_line.run("silvertune-cascade", _cascade, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("silvertune-cascade", DESCRIPTION, EPILOG)
    labels = parser.add_argument_group("the labels to agree with")
    where = labels.add_mutually_exclusive_group(required=True)
    where.add_argument("--labels-in", metavar="COLUMN", help="a column of INPUT")
    where.add_argument("--votes", metavar="FILE", help="a votes file, or runs:/RUN_ID: the votes of that run")
    labels.add_argument("--annotator", default="*", help="whose votes, or a pattern (default: all)")
    labels.add_argument("--aggregation", default="majority", help="of several votes on an item (default: majority)")
    labels.add_argument("--value", action="append", default=[], metavar="VALUE=CLASS", help="what a value means")
    labels.add_argument("--ignore", action="append", default=[], metavar="VALUE", help="a value that is no label")
    parser.add_argument("--target", type=float, default=0.95, help="agreement to keep (default: 0.95)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the bound (default: 0.95)")
    parser.add_argument("--group", metavar="COLUMN", help="the column of groups whose items may err together")
    parser.add_argument("--labeler-dollars", type=float, metavar="D", help="of 1,000 items (default: from --votes)")
    parser.add_argument("--labeler-seconds", type=float, metavar="S", help="of 1,000 items")
    parser.add_argument("--out", default="cascade.json", help="default: cascade.json")
    command_line.add_columns(parser)
    return parser


def _cascade(options: argparse.Namespace) -> int:
    from silvertune.errors import check_number

    for key in ("target", "confidence"):
        command_line.share(f"--{key}", getattr(options, key))
    for key in ("labeler_dollars", "labeler_seconds"):
        if getattr(options, key) is not None:
            check_number(f"--{key.replace('_', '-')}", getattr(options, key))
    out = Path(options.out)
    if out.suffix != ".json" or not out.absolute().parent.is_dir():
        raise UserError(f"--out={out}: want a .json file in a folder that is there")
    for written in (out, out.with_suffix(".csv"), out.with_suffix(".png")):
        for file in map(Path, (*options.inputs, options.votes or "")):
            if written.exists() and file.exists() and written.samefile(file):
                raise UserError(f"--out={out}: {written} would be written over, and it is read here; name another one")
    with command_line.model_of(options) as (model, folder):
        return _chosen(options, model, out, folder)


def _chosen(options: argparse.Namespace, model: "LoadedModel", out: Path, folder: Path) -> int:
    from silvertune.datasets.item_ids import matched
    from silvertune.production import populations
    from silvertune.stats import agreement_bounds

    inputs, mapping = command_line.inputs_of(options, read_twice=True), command_line.mapping_of(options, model)
    population = populations.predict(model, mapping, inputs)
    table = population.table
    given, groups = _of_columns(options, model, mapping, inputs)
    dollars = options.labeler_dollars
    if options.votes:
        given, of_votes = _of_votes(options, model, table.index, folder)
        dollars = of_votes if dollars is None else dollars
    labels = given.reindex(table.index)
    has_label = labels.notna()
    training = _tuned_on(options, folder)
    tuned_on = table.index.isin(list(matched(training or (), table.index).values()))
    used = (has_label & ~tuned_on).to_numpy()
    if not used.any():
        raise UserError(
            f"{options.inputs[0]}: none of {len(table):,} items has a label to compare with"
            + _why_not_others(int(tuned_on.sum()), mapping.id)
        )
    table, labels = table[used], labels[used]
    choice = agreement_bounds.choose(
        table["confidence"].to_numpy(dtype=float),
        (table["label"] == labels).to_numpy(),
        target=options.target,
        level=options.confidence,
        group=None if groups is None else groups.of(table.index),
    )
    curve = choice.curve
    seconds = 1000 * population.seconds / max(len(population.table), 1)
    curve["dollars_per_1000"] = float("nan") if dollars is None else dollars * (1 - curve["share"])
    labeler_seconds = options.labeler_seconds
    curve["seconds_per_1000"] = (
        float("nan") if labeler_seconds is None else seconds + labeler_seconds * (1 - curve["share"])
    )
    _write_curve(curve, choice, options, out)
    left = [f"{int((~has_label).sum()):,} items without a label"] * bool((~has_label).sum())
    left += [f"{int((tuned_on & has_label).sum()):,} that the model was tuned on"] * bool((tuned_on & has_label).sum())
    left += [population.unread] * bool(population.unread)
    print(f"{len(table):,} items" + (f" (left out: {', '.join(left)})" if left else ""))
    if training is None:
        print(
            f"which items {model.name} was tuned on is not known here, so none is left out: the bound holds only if it "
            "was tuned on none of these"
        )
    if groups is None:
        _tell_of_copies(populations.texts(mapping, inputs, table.index))
    if choice.chosen is None or choice.threshold is None:
        print(_why_none(choice, options))
        print(f"the curve: {out.with_suffix('.csv')}, {out.with_suffix('.png')}")
        return NO_THRESHOLD
    row = choice.chosen
    _write_choice(options, model, out, choice, len(table), dollars)
    print(_line(row, choice, options, dollars, seconds, table, labels))
    print(f"{out}, {out.with_suffix('.csv')}, {out.with_suffix('.png')}")
    return 0


def _tell_of_copies(texts: "pd.DataFrame") -> None:
    """Say how many items repeat the text of another. It matters only where copies came together."""
    counts = texts.groupby([name for name in texts.columns if name != "group_id"], dropna=False).size()
    if copies := len(texts) - len(counts):
        print(
            f"{copies:,} items repeat the text of another (one text is there {int(counts.max()):,} times); the bound "
            "holds if each was drawn for itself; if copies came together, --group with the text's column allows for it"
        )


def _why_none(choice: "Choice", options: argparse.Namespace) -> str:
    """What these items could have shown, what they show, and how many others would be needed."""
    from silvertune.stats import agreement_bounds

    promise = {"target": options.target, "level": options.confidence}
    curve = choice.curve
    lines = [
        f"no threshold keeps an agreement of {options.target:g} at {options.confidence:.0%}: the highest bound is "
        f"{float(curve['bound'].max()):.3f}"
    ]
    quarter = curve[curve["answered"] >= curve["answered"].max() / 4].iloc[0]
    for name, row in (("all answers together", curve.iloc[-1]), ("the surest quarter", quarter)):
        count = f"{row['answered']:.0f} items" + f" that count as {row['effective']:.0f}" * bool(choice.within_groups)
        least = agreement_bounds.least_agreement(float(row["effective"]), **promise)
        could = f"show it from an agreement of {least:.3f} on" if least <= 1 else "can't show it"
        lines.append(f"{name}, {count}, {could} and agree in {row['agreement']:.3f}")
    more = agreement_bounds.items_needed(choice, **promise)
    if float(curve["effective"].max()) < choice.needed:
        lines.append(f"at least {choice.needed} items that count each for itself are needed, all in agreement")
    if more is None:
        lines.append("no threshold agrees above the target: more labels alone would hardly help")
    else:
        like = " in groups like these" if choice.within_groups else ""
        lines.append(
            f"if the curve stays as it is, some {more[0]:,} labelled items{like} would show it, from {more[1]:g} on"
        )
    return "\n".join(lines)


def _of_columns(
    options: argparse.Namespace, model: "LoadedModel", mapping: "ColumnMapping", inputs: Sequence[tuple[str, str]]
) -> "tuple[pd.Series, Groups | None]":
    """The label of each item that has one in a column of the files, and the groups; None without groups."""
    import pandas as pd

    from silvertune.datasets.label_values import LabelValues
    from silvertune.datasets.values import shared_names_of
    from silvertune.production import populations

    meant = {name: name for name in model.task.classes}
    for text in options.value:
        value, is_said, name = text.rpartition("=")
        if not is_said or name not in meant:
            raise UserError(f"--value={text}: want VALUE=CLASS, of {', '.join(model.task.classes)}")
        meant[value] = name
    wanted = {"--labels-in": options.labels_in, "--group": options.group}
    columns = {option: column for option, column in wanted.items() if column}
    of_items = populations.values(mapping, inputs, columns) if columns else {}
    ids, places = list(of_items), [place for _, place in of_items.values()]

    def column(option: str) -> list[Any]:
        return [of_item[option] for of_item, _ in of_items.values()]

    labels: dict[str, str] = {}
    if options.labels_in:
        reader = LabelValues(meant, f"--labels-in={options.labels_in}", ignore=options.ignore)
        meanings = reader.read(column("--labels-in"), places)
        labels = {name: meaning for name, meaning in zip(ids, meanings, strict=True) if isinstance(meaning, str)}
    label_by_item = pd.Series(labels, dtype=object)
    if not options.group:
        return label_by_item, None
    groups = shared_names_of(column("--group"), places, f"--group={options.group}")
    return label_by_item, Groups(
        options.group, dict(zip(ids, groups, strict=True)), dict(zip(ids, places, strict=True))
    )


def _of_votes(
    options: argparse.Namespace, model: "LoadedModel", item_ids: "pd.Index", folder: Path
) -> "tuple[pd.Series, float]":
    """The labeler's label of each item that has one, and what 1,000 items cost it, dollars."""
    from silvertune import aggregations, votes
    from silvertune.labelers.recorded import Recorded
    from silvertune.tracking import models

    path = options.votes
    if path.startswith("runs:/"):
        file = models.file_of_run(path, command_line.tracking(options), "votes.parquet", folder)
        if file is None:
            raise UserError(f"--votes={path}: the run has no votes.parquet")
        path = str(file)
    nothing = votes.table([], model.task.classes)
    try:
        recorded = Recorded(
            model.task, nothing, item_ids, annotators=options.annotator, path=path, defer_to=None, first_only=False
        )
    except UserError as error:
        words = str(error).replace("labeler.path", "--votes").replace("labeler.annotators", "--annotator")
        raise UserError(words) from None
    cast = recorded.votes[recorded.votes["annotator"].isin(recorded.annotators)]
    if options.aggregation not in ("majority", "any_view"):
        raise UserError(f"--aggregation={options.aggregation}: want majority or any_view")
    labels = getattr(aggregations, options.aggregation)(cast, model.task)["label"]
    return labels[labels.notna()], 1000 * float(cast["cost_usd"].sum()) / max(cast["item_id"].nunique(), 1)


def _why_not_others(n_tuned_on: int, id_column: str | None) -> str:
    """What to do where the model was tuned on all items that have a label; "" where it was tuned on none."""
    if not n_tuned_on:
        return ""
    advice = f"; the model was tuned on {n_tuned_on:,} of them, and agreement on those says nothing of new ones"
    if id_column is None:
        advice += " (rows are numbered; if they are other rows under the same numbers, name a column of ids with --id)"
    return f"{advice}; want labelled items that it was not tuned on"


def _tuned_on(options: argparse.Namespace, folder: Path) -> frozenset[str] | None:
    """The items that the model was tuned on; None where they are not known."""
    if ":/" not in options.model:
        return None
    from silvertune.tracking import models

    return models.tuned_on(options.model, command_line.tracking(options), folder)


def _write_curve(curve: "pd.DataFrame", choice: "Choice", options: argparse.Namespace, out: Path) -> None:
    from silvertune.production import parts
    from silvertune.reports import drawing

    parts.replace(out.with_suffix(".csv"), curve.to_csv(index=False).encode())
    shown = curve[curve["answered"] > 0]
    figure = drawing.canvas(6.0, 4.0)
    ax = figure.subplots()
    ax.fill_between(
        shown["share"], shown["agreement_low"], shown["agreement_high"], step=None, color=drawing.PALETTE[3], alpha=0.3,
        linewidth=0, label=f"{options.confidence:.0%} interval of each",
    )  # fmt: skip
    ax.plot(shown["share"], shown["agreement"], color=drawing.PALETTE[2], label="agreement")
    ax.axhline(options.target, color=drawing.PALETTE[5], linestyle="--", label=f"target {options.target:g}")
    if choice.chosen is not None:
        row = choice.chosen
        ax.plot(
            [row["share"]], [row["agreement"]], "o", color=drawing.PALETTE[0],
            label=f"chosen: confidence from {row['threshold']:g}",
        )  # fmt: skip
    ax.set_xlabel("share of items that the student answers")
    ax.set_ylabel("agreement on them")
    ax.set_xlim(0, 1)
    drawing.tidy(ax, "both")
    ax.legend(fontsize=9, frameon=False, loc="lower left")
    parts.replace(out.with_suffix(".png"), drawing.png(figure))


def _write_choice(
    options: argparse.Namespace, model: "LoadedModel", out: Path, choice: "Choice", n: int, dollars: float | None
) -> None:
    from silvertune.production import parts

    assert choice.chosen is not None
    content: dict[str, Any] = {
        "threshold": choice.threshold,
        "target": options.target,
        "confidence": options.confidence,
        "model": model.name,
        "model_digest": model.digest,
        "task": model.task.name,
        "classes": list(model.task.classes),
        "items": n,
        "within_groups": choice.within_groups,
        "labeler_dollars_per_1000": dollars,
        **{name: float(choice.chosen[name]) for name in ("answered", "share", "agreement", "bound")},
    }
    parts.replace(out, (json.dumps(content, indent=1) + "\n").encode())


def _line(
    row: "pd.Series[float]",
    choice: "Choice",
    options: argparse.Namespace,
    dollars: float | None,
    seconds: float,
    table: "pd.DataFrame",
    labels: "pd.Series",
) -> str:
    lines = [
        f"from confidence {row['threshold']:g} on the student answers {row['share']:.1%} ({row['share_low']:.1%} to "
        f"{row['share_high']:.1%}); agreement {row['agreement']:.3f} ({row['agreement_low']:.3f} to "
        f"{row['agreement_high']:.3f}), at least {options.target:g} at {options.confidence:.0%}"
    ]
    if dollars is not None:
        lines.append(f"dollars for 1,000 items: {dollars * (1 - row['share']):.3f}, the labeler alone {dollars:.3f}")
    timed = f"seconds for 1,000 items: the student {seconds:.2f}"
    if options.labeler_seconds is not None:
        both = seconds + options.labeler_seconds * (1 - row["share"])
        timed += f", the cascade {both:.1f}, the labeler alone {options.labeler_seconds:.1f}"
    lines.append(timed)
    answered = table["confidence"] >= row["threshold"]
    of_class = [
        f"{name} {float((labels[called] == name).mean()):.3f} of {int(called.sum()):,}"
        for name in dict.fromkeys(table["label"][answered])
        if (called := answered & (table["label"] == name)).any()
    ]
    lines.append(f"agreement by what the student says, each without a bound: {', '.join(of_class)}")
    if choice.within_groups:
        lines.append(f"groups: {row['answered']:.0f} answered items count as {row['effective']:.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
