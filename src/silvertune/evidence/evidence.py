"""The evidence about one training pool, and the decision of a chain of filters on it.

A filter is a function. Its parameter names say what evidence it needs (`silvertune.part_inputs` lists the names).
Evidence that takes computation is computed when a filter first asks for it, and kept on disk
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
    """A filter with the settings of its yaml.

    Attributes:
        key: Its name in the configuration.
        function: The filter, which takes only its evidence.
        needs: The names of that evidence.
    """

    key: str
    function: Filter
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """The evidence about one training pool. The other names of `silvertune.part_inputs` are properties.

    Attributes:
        items: The training pool, indexed by item_id.
        votes: The votes on it.
        labels: The aggregated labels, indexed by item_id.
        task: The task.
        annotations: The votes that came with the data.
        item_ids: The ids of all items of the dataset.
        training: The items of groups that no fold tests.
        gold: The gold class of the items of the pool that have one, by item_id.
        seed: The seed of the run.
        bind: Makes filters from their configs, for `kept_by`.
        resources: What the other evidence is computed with.
    """

    items: pd.DataFrame
    votes: pd.DataFrame
    labels: pd.DataFrame
    task: Task
    annotations: pd.DataFrame
    item_ids: pd.Index
    training: pd.DataFrame
    gold: pd.Series
    seed: int
    bind: Callable[[Mapping[str, Any]], list[BoundFilter]]
    resources: computed.Resources

    @cached_property
    def embeddings(self) -> pd.DataFrame:
        return computed.embeddings(self.resources, self.items)

    @cached_property
    def out_of_fold(self) -> computed.OutOfFold:
        return computed.OutOfFold(self.resources, self.items, self.task.classes)

    @cached_property
    def out_of_fold_probs(self) -> pd.DataFrame:
        return self.out_of_fold.mean_over_views(self.labels["label"])

    @cached_property
    def training_dynamics(self) -> pd.DataFrame:
        return computed.training_dynamics(self.resources, self.items, self.labels["label"], self.task.classes)

    @cached_property
    def calibration(self) -> pd.Series:
        """Gold labels of `resources.calibration` items, drawn by the seed. Raises UserError where there are none."""
        number, gold = self.resources.calibration, self.gold.sort_index()
        if number < 1:
            raise UserError(
                f"evidence.calibration={number}: a filter asks for gold labels of some items of the training pool; "
                "grant it some with evidence.calibration=100 (they count as expert labels)"
            )
        if self.items.empty:
            return gold
        if number > len(gold):
            raise UserError(f"evidence.calibration={number}: only {len(gold)} item(s) of the training pool have gold")
        positions = np.random.default_rng([self.seed, 1]).choice(len(gold), number, replace=False)
        return gold.iloc[np.sort(positions)]

    @property
    def bought(self) -> pd.Index:
        """The items whose gold label a filter got as calibration; empty if no filter asked for it."""
        calibration: pd.Series = vars(self).get("calibration", self.gold.iloc[:0])
        return calibration.index

    @property
    def cache(self) -> Path:
        """The folder for what is expensive to compute."""
        return self.resources.cache

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def kept_by(self, filters: Mapping[str, Any]) -> pd.Series:
        """Run other filters on the same evidence.

        Args:
            filters: Filter configs, by name: one chain.

        Returns:
            True for the items that the chain keeps, indexed by item_id.
        """
        return decide(self.bind(filters), self)["keep"]


def decide(filters: list[BoundFilter], evidence: Evidence) -> pd.DataFrame:
    """Run a chain of filters: it keeps the items that every filter keeps, each judging the same evidence.

    Args:
        filters: The chain.
        evidence: The evidence.

    Returns:
        Indexed like `evidence.labels`: `keep` (bool; False without a label), `weight` (product over the chain, 1 where
        a filter gives none), `reason` (the first filter that rejects the item, or the reason that this filter gives)
        and `score:<filter>` where a filter gives one.

    Raises:
        UserError: If the answer of a filter has the wrong form, or is not about the items of the pool.
    """
    index = evidence.labels.index
    has_label = evidence.labels["label"].notna()
    decision = pd.DataFrame({"keep": has_label, "weight": 1.0, "reason": ""}, index=index)
    decision.loc[~has_label, "reason"] = "no label"
    for bound in filters:
        # Copies, so that no filter can change the evidence of another; pandas copies only what is written to.
        arguments = {name: _copied(getattr(evidence, name)) for name in bound.needs}
        answer = _checked(bound, bound.function(**arguments), index)
        rejected = decision["keep"] & ~answer["keep"]
        decision.loc[rejected, "reason"] = answer["reason"][rejected] if "reason" in answer else bound.key
        decision["keep"] &= answer["keep"]
        if "weight" in answer:
            decision["weight"] *= answer["weight"]
        if "score" in answer:
            decision[f"score:{bound.key}"] = answer["score"]
    return decision


def _copied(value: Any) -> Any:
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
            "want keep, score, weight and reason only"
        )
    if not answer.index.is_unique or set(answer.index) != set(index):
        raise UserError(
            f"{where} returned {len(answer)} row(s) for {answer.index.nunique()} item(s), and its labels have "
            f"{len(index)} item(s): want one row for each of these, indexed by item_id"
        )
    if not answer["keep"].map(lambda value: isinstance(value, bool | np.bool_)).all():
        raise UserError(
            f"{where}: keep is {answer['keep'].dtype} with {int(answer['keep'].isna().sum())} null(s), not bool"
        )
    if "weight" in answer and not (np.isfinite(answer["weight"]) & (answer["weight"] >= 0)).all():
        raise UserError(f"{where}: weight has a value that is no number from 0")
    return answer.reindex(index).astype({"keep": bool})
