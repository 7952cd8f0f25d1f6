"""Aggregations: votes -> one label per item.

Every function takes `(votes, task, ...)` and returns the *labels* table, indexed by `item_id`: `label` (a class name,
or None where no vote has a label), `confidence` (0-1; each function says what it means; NaN where it would be a vote's
own and there is none) and `n_votes` (how many votes have a label). Votes without a label do not count; a function says
so if they matter otherwise. An aggregation that knows a distribution over the classes adds it as `prob:<class>` (rows
sum to 1, NaN where no vote has a label): soft labels, for a model that takes them.

The docstring of an aggregation has the parts of a filter's (`silvertune.filters`), and a paragraph that starts with
`Confidence:`.
"""

from silvertune.aggregations.annotator_models import dawid_skene
from silvertune.aggregations.distributions import mean_distribution
from silvertune.aggregations.views import all_views, and_relabel, any_view
from silvertune.aggregations.voting import first, majority, weighted_majority

__all__ = [
    "all_views",
    "and_relabel",
    "any_view",
    "dawid_skene",
    "first",
    "majority",
    "mean_distribution",
    "weighted_majority",
]
