"""Labels that were made elsewhere: by people, by a rule, by a run of an LLM."""

import fnmatch
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from silvertune import votes
from silvertune.errors import UserError
from silvertune.schema import Task


class Recorded:
    """Hands on recorded votes: the dataset's annotations, or those of a votes file.

    annotations: the votes that came with the data.
    annotators: names, or patterns such as `non_expert/*`; votes come in the order of this list.
    path: a votes file (`.parquet`, `.csv` or `.jsonl` with the columns of `silvertune.votes`) instead of
        the dataset's annotations, or null.
    defer_to: annotator who answers where one of `annotators` abstained (the paper's panel: who does not
        know asks an expert), or null.
    first_only: only the first vote with a label that an item has counts (the paper's panel).

    Raises UserError if a name matches no annotator.
    """

    def __init__(
        self,
        task: Task,
        annotations: pd.DataFrame,
        *,
        annotators: Sequence[str] | str,
        path: str | None,
        defer_to: str | None,
        first_only: bool,
    ) -> None:
        self.first_only = first_only
        self.votes = annotations if path is None else _read(Path(path), task)
        present = list(dict.fromkeys(self.votes["annotator"]))
        annotators = [annotators] if isinstance(annotators, str) else annotators
        self.annotators: list[str] = []
        for pattern in annotators:
            matched = [pattern] if pattern in present else fnmatch.filter(present, pattern)
            if not matched:
                raise UserError(
                    f"labeler.annotators={pattern}: no votes of such an annotator in "
                    f"{path or 'dataset.annotations'}; there is {', '.join(present) or 'none at all'}"
                )
            self.annotators += [name for name in matched if name not in self.annotators]
        if defer_to is not None and defer_to not in present:
            abstained = self.votes["annotator"].isin(self.annotators) & (self.votes["status"] == "abstained")
            if abstained.any():
                raise UserError(
                    f"labeler.defer_to={defer_to}: {int(abstained.sum())} abstention(s) go to an annotator that has no "
                    f"votes; there is {', '.join(present)}"
                )
        self.defer_to = defer_to

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """The recorded votes on `items`, in the items' order; items that nobody voted on have none."""
        own = self.votes[self.votes["item_id"].isin(items.index)]
        order = {name: rank for rank, name in enumerate(self.annotators)}
        chosen = own[own["annotator"].isin(order)]
        if self.defer_to is not None:
            unsure = chosen.loc[chosen["status"] == "abstained", "item_id"]
            asked = own[(own["annotator"] == self.defer_to) & own["item_id"].isin(unsure)]
            chosen = pd.concat([chosen, asked]).drop_duplicates(["item_id", "annotator", "view", "repeat"])
            order.setdefault(self.defer_to, len(order))
        rank = chosen["item_id"].map({item: i for i, item in enumerate(items.index)}) * len(order)
        rank += chosen["annotator"].map(order)
        return chosen.iloc[rank.argsort(kind="stable")].reset_index(drop=True)

    def estimate(self, items: pd.DataFrame) -> dict[str, dict[str, float]]:
        """Nobody is asked: nothing is spent."""
        return {}


def _read(path: Path, task: Task) -> pd.DataFrame:
    readers = {
        ".parquet": lambda content: pd.read_parquet(io.BytesIO(content)),
        # Only nothing at all is null: a class may well be called None or NA.
        ".csv": lambda content: pd.read_csv(
            io.BytesIO(content), dtype={"item_id": str, "label": str}, keep_default_na=False, na_values=[""]
        ),
        ".jsonl": lambda content: pd.DataFrame([json.loads(line) for line in content.decode().split("\n") if line]),
    }
    if path.suffix not in readers:
        raise UserError(f"labeler.path={path}: want a .parquet, .csv or .jsonl file of votes, by its ending")
    try:
        frame = readers[path.suffix](path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"labeler.path={path}: can't be read as votes ({str(error).splitlines()[0]})") from None
    if missing := {"item_id", "annotator"} - set(frame.columns):
        raise UserError(f"labeler.path={path}: votes need the column {sorted(missing)[0]!r}")
    names = {name: frame[name].astype(str) for name in ("item_id", "annotator", "view") if name in frame}
    frame = frame.assign(**names).assign(
        **{name: default for name, default in (("view", votes.WHOLE_ITEM),) if name not in frame}
    )
    has_probs = set(votes.prob_columns(task.classes)) <= set(frame.columns)
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    table = votes.table(rows, task.classes, probs=has_probs)
    return votes.check(table, task.classes, pd.Index(table["item_id"].unique()), f"labeler.path={path}")
