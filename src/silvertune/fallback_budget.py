"""Which items a fallback is asked about when people's time is limited, and what their answers say of the labels.

Of a budget of n items of one training pool, a random slice (the *audit*) is drawn among all items that have a label,
kept or rejected; the rest are the rejected items that are most uncertain. Only the audit estimates noise: the
uncertain ones were picked for being doubtful. Every answer is trained on, instead of the label that it was asked
about. People see neither that label nor why they are asked.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.schema import Task
from silvertune.votes import class_scores


@dataclass(frozen=True)
class Budget:
    """items: how many are asked about, of each training pool. audit: the share (0-1) of them that is random, the
    number rounded up."""

    items: int
    audit: float

    def __post_init__(self) -> None:
        if isinstance(self.items, bool) or not isinstance(self.items, int) or self.items < 1:
            raise UserError(f"fallback.budget.items={self.items}: want a whole number from 1")
        if isinstance(self.audit, bool) or not isinstance(self.audit, int | float) or not 0 <= self.audit <= 1:
            raise UserError(f"fallback.budget.audit={self.audit}: want a number from 0 to 1")


def asked(decision: pd.DataFrame, votes: pd.DataFrame, task: Task, budget: Budget | None, seed: int) -> pd.Series:
    """Why each item of a training pool goes to the fallback: `rejected`, `audit`, `uncertain`, or `` if it does not.

    decision: indexed by item_id, with `label` and `keep`. Without a budget, all rejected items go, as `rejected`.
    Uncertain are first those without any vote, then those whose two likeliest classes
    (`silvertune.votes.class_scores`) are closest; ties go to the lower item_id.
    """
    why = pd.Series("", index=decision.index, dtype=object)
    if budget is None:
        return why.mask(~decision["keep"], "rejected")
    labelled = decision.index[decision["label"].notna()].sort_values()
    number = min(math.ceil(budget.audit * budget.items - 1e-9), len(labelled))
    drawn = np.random.default_rng([seed, 2]).choice(len(labelled), number, replace=False)
    why[labelled[drawn]] = "audit"
    rejected = decision.index[~decision["keep"] & (why == "")].sort_values()
    ordered = np.sort(class_scores(votes, task.classes).reindex(rejected).to_numpy(), axis=1)
    gap = pd.Series(ordered[:, -1] - ordered[:, -2], index=rejected).round(12)
    why[gap.sort_values(kind="stable", na_position="first").index[: budget.items - number]] = "uncertain"
    return why


def audit(decisions: list[pd.DataFrame], answers: pd.Series) -> dict[str, float]:
    """Noise of the labels by the audit slices: `labels/audit_noise`, `..._kept`, `..._rejected`, each with `..._se`.

    decisions: one a training pool, with `label`, `keep` and `asked`. answers: people's class, by item_id.
    The share of audited labels that differ from the answer, and its standard error, sqrt(p (1 - p) / (n - 1)) with the
    correction for having drawn from a finite pool; means over the pools that have them. Unbiased if those who did
    not answer are like those who did. Where all n agreed the standard error is 0; 3 / n then bounds the noise (95%).
    NaN where no pool has an answer (and the error where none has two).
    """
    found: dict[str, list[float]] = {}
    for decision in decisions:
        labelled = decision["label"].notna()
        audited = labelled & (decision["asked"] == "audit") & decision.index.isin(answers.index)
        parts = {"": labelled, "_kept": labelled & decision["keep"], "_rejected": labelled & ~decision["keep"]}
        for name, part in parts.items():
            own = decision.index[audited & part]
            wrong = (decision.loc[own, "label"] != answers.reindex(own)).to_numpy()
            n, p = len(wrong), float(wrong.mean()) if len(wrong) else np.nan
            rest = 1 - n / max(int(part.sum()), 1)
            error = float(np.sqrt(p * (1 - p) / (n - 1) * rest)) if n > 1 else np.nan
            found.setdefault(f"labels/audit_noise{name}", []).append(p)
            found.setdefault(f"labels/audit_noise{name}_se", []).append(error)
    # pandas' mean leaves out NaN: a pool of which none was drawn.
    return {name: float(pd.Series(values).mean()) for name, values in found.items()}
