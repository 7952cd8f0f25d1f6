"""Filters made of filters: what at least one of them keeps, or all of them (as a chain `'filter=[a,b]'` does)."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from silvertune.errors import UserError

KeptBy = Callable[[Mapping[str, Any]], pd.Series]
"""Configs of filters, by name -> True for the items that their chain keeps."""


def any_of(labels: pd.DataFrame, kept_by: KeptBy, *, of: Mapping[str, Any]) -> pd.DataFrame:
    """Keep what at least one of several filters keeps, each judging the same evidence.

    Source: the union of selectors; cf. co-training's pooled confident sets (Blum & Mitchell 1998, table 1).

    Args:
        labels: The aggregated labels, indexed by item_id.
        kept_by: A function that runs other filters on the same evidence.
        of: The filters: names of their yamls (used as shipped), or name -> a filter's config. Usual: two that read
            different evidence.

    Returns:
        `keep`, and as `score` the share (0-1) of the filters that keep the label.

    Raises:
        UserError: If `of` names no filter.

    Fails where one of the filters is bad: it keeps all of that filter's errors.
    """
    share = _share_keeping(labels, kept_by, of, "any_of")
    return pd.DataFrame({"keep": share > 0, "score": share})


def all_of(labels: pd.DataFrame, kept_by: KeptBy, *, of: Mapping[str, Any]) -> pd.DataFrame:
    """Keep what each of several filters keeps, as a chain does; for use within `any_of`.

    Source: the intersection of selectors, as a chain's.

    Args:
        labels: The aggregated labels, indexed by item_id.
        kept_by: A function that runs other filters on the same evidence.
        of: The filters, as for `any_of`.

    Returns:
        `keep`, and as `score` the share (0-1) of the filters that keep the label.

    Raises:
        UserError: If `of` names no filter.

    Fails where one of the filters rejects a class: so does their intersection.
    """
    share = _share_keeping(labels, kept_by, of, "all_of")
    return pd.DataFrame({"keep": share == 1, "score": share})


def _share_keeping(labels: pd.DataFrame, kept_by: KeptBy, of: Mapping[str, Any], name: str) -> pd.Series:
    if not of:
        raise UserError(f"filter.{name}.of: names no filter; want names such as [agreement,confidence]")
    kept = pd.DataFrame({key: kept_by({key: node}) for key, node in of.items()}, index=labels.index)
    return kept.mean(axis=1)
