"""The items that a fallback labels when people's time is limited, and the noise that their answers show.

Of a budget of n items of one training pool, a random part (the *audit*) is drawn among all items that have a label,
kept or rejected. The rest are the rejected items that are most uncertain. Only the audit estimates noise, because the
uncertain items were chosen for their doubtful labels. The student is trained on every answer instead of the label
that it replaces. People see neither that label nor the reason why they are asked.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.errors import check_number, check_whole_number
from silvertune.schema import Task
from silvertune.votes import class_scores


@dataclass(frozen=True)
class Budget:
    """How many items a fallback labels.

    Attributes:
        items: The number of items of each training pool, from 1.
        audit: The share (0-1) of them that is random; their number is rounded up.
    """

    items: int
    audit: float

    def __post_init__(self) -> None:
        check_whole_number("fallback.budget.items", self.items, 1)
        check_number("fallback.budget.audit", self.audit, most=1)


def reasons_to_ask(
    decision: pd.DataFrame, votes: pd.DataFrame, task: Task, budget: Budget | None, seed: int
) -> pd.Series:
    """Choose the items of a training pool that the fallback labels.

    The most uncertain items are those without a vote, then those whose two likeliest classes
    (`silvertune.votes.class_scores`) are closest; ties go to the lower item_id.

    Args:
        decision: `label` and `keep`, indexed by item_id.
        votes: The votes on the pool.
        task: The task, for its classes.
        budget: How many items to choose; None: all rejected items.
        seed: The seed of the run, for the audit.

    Returns:
        The reason for each item, indexed like `decision`: `rejected` (without a budget), `audit` or `uncertain` (with
        one); empty where the fallback does not label the item.
    """
    reasons = pd.Series("", index=decision.index, dtype=object)
    if budget is None:
        return reasons.mask(~decision["keep"], "rejected")
    labelled = decision.index[decision["label"].notna()].sort_values()
    n_audit = min(math.ceil(budget.audit * budget.items - 1e-9), len(labelled))
    positions = np.random.default_rng([seed, 2]).choice(len(labelled), n_audit, replace=False)
    reasons[labelled[positions]] = "audit"
    rejected = decision.index[~decision["keep"] & (reasons == "")].sort_values()
    ordered = np.sort(class_scores(votes, task.classes).reindex(rejected).to_numpy(), axis=1)
    gap = pd.Series(ordered[:, -1] - ordered[:, -2], index=rejected).round(12)
    reasons[gap.sort_values(kind="stable", na_position="first").index[: budget.items - n_audit]] = "uncertain"
    return reasons


def with_answers(decision: pd.DataFrame, answers: pd.Series) -> pd.DataFrame:
    """Train on the fallback's labels where it was asked and answered, with full weight.

    Args:
        decision: One training pool, indexed by item_id, with `asked`, `train_label`, `source` and `weight`.
        answers: The fallback's class, by item_id.

    Returns:
        The same table with other training labels.
    """
    trained = decision.copy()
    answered = decision.index[(decision["asked"] != "") & decision.index.isin(answers.index)]
    trained.loc[answered, "train_label"] = answers[answered]
    trained.loc[answered, "source"] = "fallback"
    trained.loc[answered, "weight"] = 1.0
    return trained


def audit(decisions: list[pd.DataFrame], answers: pd.Series) -> dict[str, float]:
    """Estimate the noise of the labels from the audits.

    The noise is the share of audited labels that differ from the answer. Its standard error is
    sqrt(p (1 - p) / (n - 1)), corrected for a finite pool. Both are means over the pools that have them. The estimate
    is unbiased if the items without an answer are like those with one. Where all n answers agree with the labels the
    standard error is 0; the noise is then at most 3 / n (95%).

    Args:
        decisions: One table a training pool, indexed by item_id, with `label`, `keep` and `asked` (of
            `reasons_to_ask`).
        answers: The class that people gave, by item_id.

    Returns:
        `labels/audit_noise`, `labels/audit_noise_kept`, `labels/audit_noise_rejected` (0-1) and each with `_se`; NaN
        where no pool has an answer (for `_se`, two answers).
    """
    estimates: dict[str, list[float]] = {}
    for decision in decisions:
        labelled = decision["label"].notna()
        audited = labelled & (decision["asked"] == "audit") & decision.index.isin(answers.index)
        parts = {"": labelled, "_kept": labelled & decision["keep"], "_rejected": labelled & ~decision["keep"]}
        for name, part in parts.items():
            ids = decision.index[audited & part]
            wrong = (decision.loc[ids, "label"] != answers.reindex(ids)).to_numpy()
            n, p = len(wrong), float(wrong.mean()) if len(wrong) else np.nan
            not_drawn = 1 - n / max(int(part.sum()), 1)
            error = float(np.sqrt(p * (1 - p) / (n - 1) * not_drawn)) if n > 1 else np.nan
            estimates.setdefault(f"labels/audit_noise{name}", []).append(p)
            estimates.setdefault(f"labels/audit_noise{name}_se", []).append(error)
    # The mean of pandas leaves out NaN, that is, pools without an audited item.
    return {name: float(pd.Series(values).mean()) for name, values in estimates.items()}
