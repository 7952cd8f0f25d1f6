"""From scores to what is kept, as several filters do it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from silvertune.errors import UserError


def within(key: str, value: object, *, above_zero: bool = False) -> None:
    """UserError naming the yaml's `key` unless `value` is a number from 0 to 1; with `above_zero`, not 0 itself."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{key}={value}: want a number from 0 to 1")
    if above_zero and value == 0:
        raise UserError(f"{key}={value}: want a number above 0, at most 1")


def whole(key: str, value: object, least: int) -> None:
    """UserError naming the yaml's `key` unless `value` is a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{key}={value}: want a whole number from {least}")


def one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    """UserError naming the yaml's `key` unless `value` is among `choices`."""
    if value not in choices:
        raise UserError(f"{key}={value!r}: want {', '.join(choices[:-1])} or {choices[-1]}")


def at_least_or_top(score: pd.Series, at_least: float | None, top: float | None, key: str) -> pd.DataFrame:
    """Keep scores of at least `at_least`, or, where that is null, the highest fraction `top` of all scores.

    Both are 0-1. Ties at the cut are all kept; what has no score (NaN) is not, and does not count.
    """
    if at_least is None and top is None:
        raise UserError(f"{key}.at_least=null, top=null: set one of them, from 0 to 1")
    if at_least is None:
        within(f"{key}.top", top)
        assert top is not None
        count = up(top * score.notna().sum())
        at_least = float(score.nlargest(count).min()) if count else np.inf
    else:
        within(f"{key}.at_least", at_least)
    return pd.DataFrame({"keep": score >= at_least, "score": score})


def views_agree(votes: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """Indexed like `labels` (class by item_id): False where a view's votes gave another class more often.

    A view without a label says nothing, and where two classes have the most votes, both are the view's.
    """
    cast = votes[votes["label"].notna() & votes["item_id"].isin(labels.index)]
    often = cast.groupby(["item_id", "view", "label"], sort=False).size().rename("n").reset_index()
    most = often.groupby(["item_id", "view"], sort=False)["n"].transform("max")
    behind = often["label"].to_numpy(dtype=object) == labels[often["item_id"]].to_numpy(dtype=object)
    pairs = often[["item_id", "view"]]
    views = pairs.drop_duplicates().groupby("item_id").size()
    with_it = pairs[behind & (often["n"] == most).to_numpy()].groupby("item_id").size()
    against = views.index[with_it.reindex(views.index, fill_value=0) < views]
    return pd.Series(~labels.index.isin(against), index=labels.index)


def best_of_each_class(score: pd.Series, labels: pd.DataFrame, fraction: float | Mapping[str, float]) -> pd.DataFrame:
    """Of each class keep the `fraction` (one, or one a class) of its labels with the highest scores.

    Rounded up, so that no class with a score is lost; ties go to the lower item_id. What has no label or no
    score (NaN) is not kept, and does not count.
    """
    counted = (labels["label"].notna() & score.notna()).to_numpy()
    # A stable sort of what is in item_id order: ties fall the same way whatever order the items came in.
    by_id = np.argsort(labels.index.to_numpy(), kind="stable")
    by_id = by_id[counted[by_id]]
    order = by_id[np.argsort(-score.to_numpy()[by_id], kind="stable")]
    code, names = pd.factorize(labels["label"].to_numpy()[order])
    share = np.array([fraction[name] if isinstance(fraction, Mapping) else fraction for name in names], dtype=float)
    count = np.ceil(share * np.bincount(code, minlength=len(names)) - 1e-9)
    keep = np.zeros(len(labels), dtype=bool)
    keep[order[pd.Series(code).groupby(code).cumcount().to_numpy() < count[code]]] = True
    return pd.DataFrame({"keep": keep, "score": score.where(counted)}, index=labels.index)


def up(count: float) -> int:
    """The next whole number, but 7 for .07 x 100, which is a hair above it."""
    return int(np.ceil(count - 1e-9))
