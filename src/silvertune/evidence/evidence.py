"""The evidence about one training pool, and what a chain of filters decides on it.

A filter is a function. Its parameter names say what evidence it needs (`silvertune.part_inputs` lists the names).
Evidence that has to be computed is computed when a filter first asks for it, and kept on disk
(`silvertune.evidence.computed`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.evidence import computed
from silvertune.schema import Task

Filter = Callable[..., pd.Series | pd.DataFrame]


@dataclass(frozen=True)
class BoundFilter:
    """A filter with its yaml's parameters: `function(**evidence)`, and the names of that evidence."""

    key: str
    function: Filter
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """The evidence about one training pool.

    means: with what evidence is computed that is not at hand.
    """

    items: pd.DataFrame
    votes: pd.DataFrame
    labels: pd.DataFrame
    task: Task
    annotations: pd.DataFrame
    training: pd.DataFrame
    gold: pd.Series
    seed: int
    bind: Callable[[Mapping[str, Any]], list[BoundFilter]]
    means: computed.Means

    @cached_property
    def embeddings(self) -> pd.DataFrame:
        return computed.embeddings(self.means, self.items)

    @cached_property
    def out_of_fold_probs(self) -> pd.DataFrame:
        return computed.out_of_fold_probs(self.means, self.items, self.labels["label"], self.task.classes)

    def out_of_fold(self, labels: pd.Series) -> pd.DataFrame:
        return computed.out_of_fold(self.means, self.items, labels, self.task.classes)

    @cached_property
    def training_dynamics(self) -> pd.DataFrame:
        return computed.training_dynamics(self.means, self.items, self.labels["label"], self.task.classes)

    @cached_property
    def calibration(self) -> pd.Series:
        """Gold labels of `means.calibration` items, drawn by the seed. Raises UserError where there are none."""
        wanted, there = self.means.calibration, self.gold.sort_index()
        if wanted < 1:
            raise UserError(
                f"evidence.calibration={wanted}: a filter asks for gold labels of some items of the training pool; "
                "grant it some with evidence.calibration=100 (they count as expert labels)"
            )
        if self.items.empty:
            return there
        if wanted > len(there):
            raise UserError(f"evidence.calibration={wanted}: only {len(there)} item(s) of the training pool have gold")
        drawn = np.random.default_rng([self.seed, 1]).choice(len(there), wanted, replace=False)
        return there.iloc[np.sort(drawn)]

    @property
    def bought(self) -> pd.Index:
        """The items whose gold label was asked for as calibration; none if no filter did."""
        calibration: pd.Series = vars(self).get("calibration", self.gold.iloc[:0])
        return calibration.index

    @property
    def cache(self) -> Path:
        """Folder of what is expensive to compute."""
        return self.means.cache

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def kept_by(self, filters: Mapping[str, Any]) -> pd.Series:
        """True for the items that the chain `filters` (key -> filter config) keeps of the same evidence."""
        return decide(self.bind(filters), self)["keep"]


def decide(filters: list[BoundFilter], evidence: Evidence) -> pd.DataFrame:
    """What a chain keeps: the items that every filter keeps, each judging the same evidence.

    Returns a DataFrame indexed like `evidence.labels`: `keep` (bool), `weight` (product over the chain, 1
    where a filter gives none), `reason` (the first filter that rejected the item, or what that filter says)
    and `score:<filter>` where one is given. Items without a label are never kept.
    Raises UserError where a filter's answer is not about the items that it was asked about.
    """
    index = evidence.labels.index
    has_label = evidence.labels["label"].notna()
    verdict = pd.DataFrame({"keep": has_label, "weight": 1.0, "reason": ""}, index=index)
    verdict.loc[~has_label, "reason"] = "no label"
    for bound in filters:
        # Copies (cheap ones: pandas copies what is written to), so that no filter can change what others see.
        given = {name: _shielded(getattr(evidence, name)) for name in bound.needs}
        answer = _checked(bound, bound.function(**given), index)
        fell = verdict["keep"] & ~answer["keep"]
        verdict.loc[fell, "reason"] = answer["reason"][fell] if "reason" in answer else bound.key
        verdict["keep"] &= answer["keep"]
        if "weight" in answer:
            verdict["weight"] *= answer["weight"]
        if "score" in answer:
            verdict[f"score:{bound.key}"] = answer["score"]
    return verdict


def _shielded(value: Any) -> Any:
    return value.copy(deep=False) if isinstance(value, pd.DataFrame | pd.Series) else value


def _checked(bound: BoundFilter, answer: object, index: pd.Index) -> pd.DataFrame:
    where = f"filter.{bound.key}"
    if isinstance(answer, pd.Series):
        answer = answer.to_frame("keep")
    if not isinstance(answer, pd.DataFrame) or "keep" not in answer:
        raise UserError(
            f"{where} returned {type(answer).__name__}: a filter returns a boolean Series, or a DataFrame with "
            "`keep` and any of score, weight, reason"
        )
    if unknown := set(answer.columns) - {"keep", "score", "weight", "reason"}:
        raise UserError(
            f"{where} returned the columns {', '.join(sorted(map(str, unknown)))}: "
            "only keep, score, weight, reason are known"
        )
    if not answer.index.is_unique or set(answer.index) != set(index):
        raise UserError(
            f"{where} answered about {len(answer)} item(s) ({answer.index.nunique()} different), and was asked "
            f"about {len(index)}: its answer is indexed by item_id, each once"
        )
    if not answer["keep"].map(lambda value: isinstance(value, bool | np.bool_)).all():
        raise UserError(
            f"{where}: keep is {answer['keep'].dtype} with {int(answer['keep'].isna().sum())} null(s), not bool"
        )
    if "weight" in answer and not (np.isfinite(answer["weight"]) & (answer["weight"] >= 0)).all():
        raise UserError(f"{where}: weight has values that are no numbers from 0 on")
    return answer.reindex(index).astype({"keep": bool})
