"""Controls: what any filter has to be held against."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd


def none(labels: pd.DataFrame) -> pd.Series:
    """Keep every label."""
    return pd.Series(True, index=labels.index)


def random_matched(
    labels: pd.DataFrame,
    kept_by: Callable[[Mapping[str, Any]], pd.Series],
    rng: np.random.Generator,
    *,
    like: Mapping[str, Any],
    per_class: bool,
) -> pd.Series:
    """Control: keep as many labels as another filter does, but at random.

    like: the other filter (the name of its yaml on the command line).
    per_class: keep as many *of each class* as it does. A filter whose gain survives this control found the
        right items; one whose gain does not only changed how many of each class there are.
    """
    kept = kept_by(like)
    keep = pd.Series(False, index=labels.index)
    labelled = labels.loc[labels["label"].notna(), "label"].sort_index()
    pools = [labelled.index[labelled == name] for name in sorted(labelled.unique())] if per_class else [labelled.index]
    for pool in pools:
        keep[rng.choice(pool.to_numpy(dtype=object), size=int(kept[pool].sum()), replace=False)] = True
    return keep


def oracle(labels: pd.DataFrame, gold: pd.Series) -> pd.Series:
    """Control: keep exactly the labels that gold says are right (where there is gold; drop the rest).

    What a perfect filter would reach. It sees gold: its yaml says `_gold_: true` and the run is tagged.
    """
    return labels["label"].notna() & (labels["label"] == gold.reindex(labels.index))
