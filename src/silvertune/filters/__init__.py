"""Which silver labels to keep: one module a kind of evidence, one function a filter.

Parameters named like evidence (`silvertune.evidence.evidence`) are filled from it; the others come from the filter's
yaml. A filter returns a boolean Series indexed by item_id, True = keep, or a DataFrame with `keep` and any of
`score` (higher = rather keep), `weight`, `reason`. Labels are never changed here, and items without a label are
never kept, whatever a filter says of them.

What keeps a fraction of each class rounds up, so that no class is lost; where a threshold loses one, the run
fails and says which (`silvertune.runner`).
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
