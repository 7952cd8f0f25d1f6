"""Who answers a row: the model where it is sure enough, else a labeler, or nobody."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.errors import UserError, either
from silvertune.labelers.llm import LLMLabeler
from silvertune.labelers.source import LabelSource
from silvertune.production.model import LoadedModel, confidence

ANSWERED_BY = ("model", "labeler", "nobody")
MEMBERS = ("labeler", "aggregation", "tracking")
"""What of the configuration a labeler that answers in the model's place is made of."""


@dataclass(frozen=True)
class Cascade:
    """From which confidence on the model answers, and who answers the rest.

    Attributes:
        threshold: The least confidence (0-1) with which the model answers.
        labeler: Who answers the other rows; None: they stay without a label.
        labeler_digest: Of what decides the labeler's labels; hexadecimal, "" without a labeler.
    """

    threshold: float
    labeler: LabelSource | None = field(default=None, compare=False)
    labeler_digest: str = ""

    def spent_usd(self) -> float:
        """What was ever paid into the labeler's answer store, dollars; 0 without a labeler."""
        if self.labeler is None or not isinstance(labeler := self.labeler.labeler, LLMLabeler):
            return 0.0
        store = labeler.store.open(labeler.cache, labeler.budget_usd)
        try:
            return store.spent_usd()
        finally:
            store.close()


def threshold_of(file: str, model: LoadedModel) -> float:
    """The threshold that `silvertune-cascade` has chosen for a model.

    Args:
        file: What it has written.
        model: The model.

    Returns:
        The least confidence with which the model answers, 0-1.

    Raises:
        UserError: The file can't be read, or belongs to another model.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        threshold, digest = content["threshold"], content["model_digest"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"--cascade={file}: can't be read ({type(error).__name__}: {error}); want the .json file that "
            "silvertune-cascade writes"
        ) from None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise UserError(f"--cascade={file}: threshold={threshold!r}; want a number from 0 to 1")
    if digest != model.digest:
        raise UserError(
            f"--cascade={file}: was chosen for {content.get('model', 'another model')} with digest {str(digest)[:12]}, "
            f"and {model.name} has {model.digest[:12]}; run silvertune-cascade with this model"
        )
    return float(threshold)


def labeler_of(overrides: Sequence[str], model: LoadedModel) -> tuple[LabelSource, str]:
    """Make the labeler that answers in the model's place.

    Args:
        overrides: As on the command line of `silvertune`: `labeler=gemini`, `labeler.budget_usd=5`.
        model: The model; the labeler is asked what its task asks.

    Returns:
        The labeler, and a digest of what decides its labels.

    Raises:
        UserError: An override is wrong or about something else, or the labeler is no LLM.
    """
    from silvertune.study import command

    said = " ".join(overrides)
    if not any(override.startswith("labeler=") for override in overrides):
        raise UserError(f"--defer-to={said}: names no labeler; want labeler=gemini or another")
    for override in overrides:
        member = re.split("[=./@]", override.lstrip("+~"), maxsplit=1)[0]
        if member == "task":
            raise UserError(f"--defer-to={override}: the task is that of {model.name}; leave it out")
        if member not in MEMBERS:  # mode=plan, say: it would be left out in silence, and the labeler be paid
            raise UserError(f"--defer-to={override}: decides nothing here; want overrides of {either(MEMBERS)} alone")
    source, digest = command.label_source_of(overrides, model.task)
    if not isinstance(source.labeler, LLMLabeler):
        raise UserError(f"--defer-to={said}: is no LLM with an answer store; want labeler=gemini or another")
    return source, digest


def settled(
    table: pd.DataFrame, views: Mapping[str, Sequence[str | None]], model: LoadedModel, cascade: Cascade
) -> pd.DataFrame:
    """Have the labeler answer the rows of which the model is not sure enough.

    Args:
        table: Rows as `silvertune.production.predicting.predicted` gives them, with a plain index.
        views: The text of each row, by view.
        model: The model.
        cascade: From which confidence on it answers, and who answers else.

    Returns:
        The rows with `answered_by` (of `ANSWERED_BY`). A row below the threshold has the labeler's label; where it gave
        none the status is `no_answer`, with the `reason`, and without a labeler it is `deferred`.

    Raises:
        UserError: The labeler can't go on, its budget is used up for example. What it has answered is in its store.
    """
    is_ok = (table["status"] == "ok").to_numpy()
    surety = confidence(table, model.task, float(model.how.threshold)).to_numpy(dtype=float)
    is_sure = is_ok & (surety >= cascade.threshold)
    table = table.assign(answered_by=np.where(is_sure, "model", "nobody"))
    deferred = table.index[is_ok & ~is_sure]
    table.loc[deferred, "label"] = ""
    table.loc[deferred, "status"] = "deferred"
    if cascade.labeler is None or deferred.empty:
        return table
    # Numbers are the ids here: those of the file may be there twice, and an LLM is asked by texts alone.
    names = [str(number) for number in deferred]
    columns: dict[str, Any] = {view: [texts[number] for number in deferred] for view, texts in views.items()}
    items = pd.DataFrame(columns, index=pd.Index(names, name="item_id"), dtype=object)
    items.insert(0, "group_id", names)
    votes, labels = cascade.labeler.annotate(items)
    label = labels["label"].reindex(items.index)
    has_label = label.notna().to_numpy()
    table.loc[deferred, "label"] = label.where(has_label, "").to_numpy()
    table.loc[deferred, "status"] = np.where(has_label, "ok", "no_answer")
    table.loc[deferred, "answered_by"] = np.where(has_label, "labeler", "nobody")
    table.loc[deferred, "reason"] = np.where(has_label, "", _why_not(votes).reindex(items.index, fill_value=NO_LABEL))
    return table


NO_LABEL = "the labeler's votes give no label"


def _why_not(votes: pd.DataFrame) -> pd.Series:
    """What became of the votes without a label on each item that has some: `gemini: refused`."""
    without = votes[votes["label"].isna()]
    words = without["annotator"].astype(str) + ": " + without["status"].astype(str)
    return words.groupby(without["item_id"]).agg(lambda said: ", ".join(sorted(set(said)))).astype(object)
