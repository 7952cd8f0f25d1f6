"""Alarms: sentences about tuned models that have learned nothing."""

from collections.abc import Sequence

import pandas as pd

from silvertune.votes import prob_columns

SPREAD = 1e-3
"""Below this standard deviation of a class's probability, the scores do not tell items apart."""


def of(
    predictions: pd.DataFrame,
    histories: Sequence[Sequence[dict[str, float]]],
    classes: Sequence[str],
    items: str = "test",
) -> list[str]:
    """Describe what is wrong with the students of a run.

    There are three alarms. Constant: all test items of a fold get one label. Collapsed: their probabilities are nearly
    equal. No better than chance: the best epoch's validation AUPRC is not above that of guessing.

    Args:
        predictions: `label`, `fold` and `prob:<class>` of the test items.
        histories: For each fold one dict an epoch of its tuning, with `validation_auprc` (macro average; chance is
            1 / classes at even shares) where it was measured.
        classes: The task's classes.
        items: What the items are called in messages.

    Returns:
        One line an alarm; empty if nothing is wrong.
    """
    alarms = []
    for fold, rows in predictions.groupby("fold"):
        if len(rows) < 2:
            continue
        if rows["label"].nunique(dropna=False) == 1:
            alarms.append(
                f"fold {fold}: constant: all {len(rows)} {items} items are predicted as {rows['label'].iloc[0]!r}"
            )
        if (spread := rows[prob_columns(list(classes))].std().max()) < SPREAD:
            alarms.append(f"fold {fold}: collapsed: {items} probabilities differ by {spread:.0e} (standard deviation)")
    for fold, history in enumerate(histories):
        values = [epoch["validation_auprc"] for epoch in history if "validation_auprc" in epoch]
        if values and max(values) <= 1 / len(classes):
            alarms.append(f"fold {fold}: no better than chance on validation: macro AUPRC {max(values):.2f}")
    return alarms
