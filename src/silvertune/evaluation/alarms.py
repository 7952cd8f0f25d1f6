"""A tuned model that has learned nothing, told in words."""

from collections.abc import Sequence

import pandas as pd

from silvertune.votes import prob_columns

SPREAD = 1e-3
"""Standard deviation of a class's probability below which scores tell nothing apart."""


def of(predictions: pd.DataFrame, histories: Sequence[Sequence[dict[str, float]]], classes: Sequence[str]) -> list[str]:
    """What is wrong with the students of a run, one line each; empty if nothing is.

    predictions: `label`, `fold` and `prob:<class>` of the test items. histories: of each fold's tuning, one
    dict an epoch with `validation_auprc` (macro average; 1 / classes is chance at even shares) where known.
    Constant: all test items of a fold have one label. Collapsed: their probabilities are nearly equal.
    No better than chance: the best epoch's validation AUPRC is not above that of guessing.
    """
    found = []
    for fold, rows in predictions.groupby("fold"):
        if len(rows) < 2:
            continue
        if rows["label"].nunique(dropna=False) == 1:
            found.append(
                f"fold {fold}: constant: every one of {len(rows)} test items is called {rows['label'].iloc[0]!r}"
            )
        if (spread := rows[prob_columns(list(classes))].std().max()) < SPREAD:
            found.append(f"fold {fold}: collapsed: test probabilities differ by {spread:.0e} (standard deviation)")
    for fold, history in enumerate(histories):
        known = [epoch["validation_auprc"] for epoch in history if "validation_auprc" in epoch]
        if known and max(known) <= 1 / len(classes):
            found.append(f"fold {fold}: no better than chance on validation: macro AUPRC {max(known):.2f}")
    return found
