"""Filters: which of the aggregated labels to keep. One module a kind of evidence, one function a filter.

The run fills the parameters of a filter that are named like evidence (`silvertune.part_inputs`); the filter's yaml
sets the others. A filter returns a boolean Series indexed by item_id, True = keep, or a DataFrame with `keep` and any
of `score` (higher = rather keep), `weight`, `reason`. A filter never changes a label, and an item without a label is
never kept.

A filter that keeps a fraction of each class rounds up, so that no class is lost. Where a threshold loses a class, the
run fails and names it (`silvertune.runner`).

The docstring of a filter says, in this order: what it keeps; `Source:` (a paper and section, or `Control:`); `Args:`,
each with its unit, range and usual value; `Returns:`; `Raises:`; and a paragraph that starts with `Fails where`. The
catalogue of filters in the documentation is made from it.
"""

from silvertune.filters.calibrated import calibrated_threshold, conformal
from silvertune.filters.combined import all_of, any_of
from silvertune.filters.controls import none, oracle, random_matched
from silvertune.filters.dynamics import aum, cartography, small_loss
from silvertune.filters.learned import confident_learning, knn_agreement
from silvertune.filters.out_of_fold import iterated
from silvertune.filters.ranked import quantile_per_class, top_k_per_class
from silvertune.filters.scores import confidence, confidence_weighted, entropy, margin
from silvertune.filters.votes import agreement, k_of_n

__all__ = [
    "agreement",
    "all_of",
    "any_of",
    "aum",
    "calibrated_threshold",
    "cartography",
    "confidence",
    "confidence_weighted",
    "confident_learning",
    "conformal",
    "entropy",
    "iterated",
    "k_of_n",
    "knn_agreement",
    "margin",
    "none",
    "oracle",
    "quantile_per_class",
    "random_matched",
    "small_loss",
    "top_k_per_class",
]
