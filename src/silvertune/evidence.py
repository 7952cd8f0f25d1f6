"""What a filter may ask for, computed when it is first asked for.

A filter is a function whose parameter names say what evidence it needs. `Evidence` looks those names up:

| name | what |
| --- | --- |
| items | the training pool, indexed by item_id (see `silvertune.items`) |
| votes | the labeler's votes on it |
| labels | the aggregated labels, indexed by item_id |
| out_of_fold | a function: given labels of some items, what students tuned on those of other groups say of all |
| task | the task: classes, positive, descriptions |
| kept_by | a function: given another filter's config, what that filter keeps (for controls of its size) |
| rng | a `numpy.random.Generator` seeded by the run's seed, fresh for each filter |
| gold | trusted labels of the pool; only where the yaml says `_gold_: true`, and the run is tagged |

Test items are never among them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.items import views_of
from silvertune.schema import Task

NAMES = ("items", "votes", "labels", "out_of_fold", "task", "kept_by", "rng", "gold")

FOLDS = 5
"""Of `Evidence.out_of_fold`."""

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

    student: what `out_of_fold` tunes, with `fit(train, validation, seed)`.
    """

    items: pd.DataFrame
    votes: pd.DataFrame
    labels: pd.DataFrame
    task: Task
    gold: pd.Series
    seed: int
    bind: Callable[[Mapping[str, Any]], list[BoundFilter]]
    student: Any = None

    def out_of_fold(self, labels: pd.Series) -> pd.DataFrame:
        """What students say of every item whose group they were not tuned on.

        labels: a class for each of some items (item_id), those to tune on. The groups are dealt to `FOLDS` folds, or
        as many as there are groups.
        Returns class probabilities indexed by (item_id, view), a column a class of the task; a class that a student
        never saw has 0, and where it had one class only to learn, all are equally likely.
        Raises UserError if all items are of one group.
        """
        from sklearn.model_selection import GroupKFold

        items, names = self.items.sort_index(), list(self.task.classes)
        groups = items["group_id"].astype(str)
        if groups.nunique() < 2:
            raise UserError(f"filter: out-of-fold probabilities need two groups, and there is {groups.nunique()}")
        train = items.assign(label=labels.reindex(items.index), weight=1.0)
        found = []
        folds = GroupKFold(min(FOLDS, groups.nunique()), shuffle=True, random_state=0)
        for seen, held_out in folds.split(groups, groups=groups):
            own = train.iloc[seen].dropna(subset="label")
            if own["label"].nunique() > 1:
                found.append(self.student.fit(own, own.iloc[:0], 0).predict_proba(items.iloc[held_out]))
            else:
                views = [view for view in views_of(items) if items[view].notna().any()]
                index = pd.MultiIndex.from_product([items.index[held_out], views], names=["item_id", "view"])
                found.append(pd.DataFrame(1 / len(names), index=index, columns=names))
        probs: pd.DataFrame = pd.concat(found).reindex(columns=names).fillna(0.0)
        return probs

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
