"""Controls: what every other filter is compared with."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd


def none(labels: pd.DataFrame) -> pd.Series:
    """Keep every label.

    Source: Control: the labels as they are.

    Args:
        labels: The aggregated labels, indexed by item_id.

    Returns:
        True for every item.

    Fails where many labels are wrong: the student learns from all of them.
    """
    return pd.Series(True, index=labels.index)


def random_matched(
    labels: pd.DataFrame,
    kept_by: Callable[[Mapping[str, Any]], pd.Series],
    rng: np.random.Generator,
    *,
    like: Mapping[str, Any],
    per_class: bool,
) -> pd.Series:
    """Keep as many labels as another filter does, but at random.

    Source: Control: a filter whose gain survives the comparison `per_class` found the right items; one whose gain
    does not only changed how many labels each class has.

    Args:
        labels: The aggregated labels, indexed by item_id.
        kept_by: A function that runs other filters on the same evidence.
        rng: Random numbers of the run's seed.
        like: The other filter: the name of its yaml, or its config.
        per_class: Whether to keep as many of each class as it does, instead of as many overall.

    Returns:
        True for the items that are drawn.

    Fails where the other filter keeps nearly everything: a random drop of as many labels then hardly differs from it.
    """
    kept = kept_by(like)
    keep = pd.Series(False, index=labels.index)
    labelled = labels.loc[labels["label"].notna(), "label"].sort_index()
    pools = [labelled.index[labelled == name] for name in sorted(labelled.unique())] if per_class else [labelled.index]
    for pool in pools:
        keep[rng.choice(pool.to_numpy(dtype=object), size=int(kept[pool].sum()), replace=False)] = True
    return keep


def oracle(labels: pd.DataFrame, gold: pd.Series) -> pd.Series:
    """Keep exactly the labels that are right by gold; drop those of items without gold.

    Source: Control: the best that any filter could reach. It sees gold: its yaml says `_gold_: true` and the run is
    tagged.

    Args:
        labels: The aggregated labels, indexed by item_id.
        gold: The gold label of the items that have one, by item_id.

    Returns:
        True for the items whose label is their gold label.

    Fails where few items have gold: it drops all others.
    """
    return labels["label"].notna() & (labels["label"] == gold.reindex(labels.index))
