"""Filters made of filters. A chain (`'filter=[a,b]'`) keeps what all of them keep; this is for the rest."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from silvertune.errors import UserError

KeptBy = Callable[[Mapping[str, Any]], pd.Series]


def any_of(labels: pd.DataFrame, kept_by: KeptBy, *, of: Mapping[str, Any]) -> pd.DataFrame:
    """Keep what at least one of several filters keeps, each judging the same evidence.

    Source: the union of selectors; cf. co-training's pooled confident sets (Blum & Mitchell 1998, table 1).
    of: the filters: names of their yamls (taken as they are there), or name -> a filter's config. Usual: two that
        look at different evidence. The score is the share of them that keep the label.
    Fails where one of them is bad: its errors all come in.
    """
    share = _share(labels, kept_by, of, "any_of")
    return pd.DataFrame({"keep": share > 0, "score": share})


def all_of(labels: pd.DataFrame, kept_by: KeptBy, *, of: Mapping[str, Any]) -> pd.DataFrame:
    """Keep what each of several filters keeps, as a chain does; for use within `any_of`.

    Source: the intersection of selectors, as a chain's.
    of: as for `any_of`. The score is the share of them that keep the label.
    Fails where one of them rejects a class: so does the whole.
    """
    share = _share(labels, kept_by, of, "all_of")
    return pd.DataFrame({"keep": share == 1, "score": share})


def _share(labels: pd.DataFrame, kept_by: KeptBy, of: Mapping[str, Any], name: str) -> pd.Series:
    if not of:
        raise UserError(f"filter.{name}.of: names no filter; want names such as [agreement,confidence]")
    kept = pd.DataFrame({key: kept_by({key: node}) for key, node in of.items()}, index=labels.index)
    return kept.mean(axis=1)
