"""The votes table: the one thing that labelers hand on.

One row is one label that one annotator gave to one view of one item, once:

| column | type | meaning |
| --- | --- | --- |
| item_id | str | the item |
| annotator | str | who voted: a model, a person, a rule |
| view | str | the rendering that was read; `item` where the whole item was |
| repeat | int | 0, 1, ... where the same annotator read the same view again |
| label | str or None | one of the task's classes, or None: then `status` says why |
| confidence | float | 0-1 or NaN; the labeler says what it means |
| status | str | one of `STATUSES`; `ok` exactly where there is a label |
| cost_usd | float | what the vote cost, dollars |
| prob:<class> | float | where the annotator gives a distribution over the classes: 0-1, a row sums to 1 or is NaN |

Nothing is ever coerced to a class.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from silvertune.errors import UserError

STATUSES = ("ok", "abstained", "parse_error", "refused", "truncated", "api_error")
COLUMNS = ("item_id", "annotator", "view", "repeat", "label", "confidence", "status", "cost_usd")
ROUNDING = 0.01
"""A distribution's sum may be so far from 1: files carry a few digits."""
DISTRIBUTION = "probabilities that are no distribution (each 0-1, all together 1)"
WHOLE_ITEM = "item"
"""The `view` of a vote whose annotator, usually a person, saw the item and not one rendering of it."""


def table(rows: Iterable[Mapping[str, object]], classes: Sequence[str], *, probs: bool = False) -> pd.DataFrame:
    """A votes table from rows that leave out what is usual.

    Args:
        rows: Column -> value of each vote; `repeat`, `confidence`, `cost_usd` and `status` may be left out.
        classes: The task's classes.
        probs: Whether the table has the columns of a distribution.

    Returns:
        The table, with a new index from 0.
    """
    return from_columns(pd.DataFrame(list(rows)), classes, probs=probs)


def from_columns(
    columns: Mapping[str, Sequence[object]] | pd.DataFrame, classes: Sequence[str], *, probs: bool = False
) -> pd.DataFrame:
    """A votes table from columns; what is usual may be left out, whole or as a null.

    Args:
        columns: Column -> its value in each vote; `repeat`, `confidence`, `cost_usd` and `status` may be left out.
        classes: The task's classes.
        probs: Whether the table has the columns of a distribution.

    Returns:
        The table, with a new index from 0.
    """
    names = [*COLUMNS, *(prob_columns(classes) if probs else [])]
    votes = pd.DataFrame(columns).reindex(columns=names)
    votes["label"] = none_if_null(votes["label"])
    votes["status"] = votes["status"].where(votes["status"].notna(), np.where(votes["label"].isna(), "abstained", "ok"))
    votes["repeat"] = votes["repeat"].fillna(0).astype(int)
    votes["cost_usd"] = votes["cost_usd"].fillna(0.0).astype(float)
    votes["confidence"] = votes["confidence"].astype(float)
    return votes.astype(dict.fromkeys(("item_id", "annotator", "view", "status"), object))


def none_if_null(labels: pd.Series) -> pd.Series:
    """The same labels, as objects, with None for every kind of null."""
    return labels.astype(object).where(labels.notna(), None)


def prob_columns(classes: Sequence[str]) -> list[str]:
    """The names of the columns that hold a distribution over `classes`."""
    return [f"prob:{name}" for name in classes]


def check(
    votes: pd.DataFrame, classes: Sequence[str], item_ids: pd.Index, source: str, places: Sequence[str] | None = None
) -> pd.DataFrame:
    """Check that a table is a votes table.

    Args:
        votes: The table.
        classes: The task's classes, which labels must be of.
        item_ids: The items that votes may be about.
        source: Where the votes come from, for messages.
        places: File and row of each vote, for messages; None where they are in no file.

    Returns:
        `votes` itself.

    Raises:
        UserError: A column is missing or a row is no vote; the message shows the first such row.
    """
    if missing := [name for name in COLUMNS if name not in votes.columns]:
        raise UserError(f"{source}: votes need the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
    has_label = votes["label"].notna()
    probs = [name for name in prob_columns(classes) if name in votes.columns]
    if probs and len(probs) < len(classes):
        raise UserError(f"{source}: votes have {', '.join(probs)}; want that column for each of {', '.join(classes)}")
    for is_wrong, problem in (
        (~votes["item_id"].isin(item_ids), "an item_id that is not in the dataset"),
        (
            has_label & ~votes["label"].isin(list(classes)),
            f"a label that is no class of the task ({', '.join(classes)})",
        ),
        (~votes["status"].isin(STATUSES), f"a status other than {', '.join(STATUSES)}"),
        (
            has_label != (votes["status"] == "ok"),
            "a status that contradicts its label (ok exactly where there is one)",
        ),
        (~votes["confidence"].isna() & ~votes["confidence"].between(0, 1), "a confidence outside 0-1"),
        (
            votes.duplicated(["item_id", "annotator", "view", "repeat"]),
            "an (item, annotator, view, repeat) twice",
        ),
        (_no_distribution(votes[probs]), DISTRIBUTION),
    ):
        if is_wrong.any():
            row = votes.loc[is_wrong].iloc[0]
            shown = {name: row[name] for name in ("item_id", "annotator", "view", "label", "status")}
            if problem is DISTRIBUTION:
                shown |= {name: float(row[name]) for name in probs}
            place = "" if places is None else f", at {places[int(np.flatnonzero(is_wrong)[0])]}"
            raise UserError(f"{source}: {int(is_wrong.sum())} vote(s) with {problem}; first{place}: {shown}")
    return votes


def _no_distribution(probs: pd.DataFrame) -> pd.Series:
    """Which rows of probabilities (a column a class) are neither a distribution nor all NaN."""
    values = probs.to_numpy(dtype=float)
    is_distribution = ((values >= 0) & (values <= 1)).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= ROUNDING)
    return pd.Series(~(is_distribution | np.isnan(values).all(axis=1)), index=probs.index)


def one_hot(labels: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """Which class each label is.

    Args:
        labels: Class names or nulls.
        classes: The task's classes.

    Returns:
        (labels, classes) bool; a row of False where the label is null or none of the classes.
    """
    hot: np.ndarray = labels.to_numpy(dtype=object)[:, None] == np.asarray(classes, dtype=object)[None, :]
    return hot


def score_of_label(scores: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """The score of each item's label.

    Args:
        scores: Item x class, indexed like `labels`.
        labels: Class names or nulls.

    Returns:
        The score in the column of the label; NaN where the label is null.
    """
    is_label = one_hot(labels, list(scores.columns))
    chosen = np.where(is_label, scores.to_numpy(dtype=float), 0.0).sum(axis=1)
    return pd.Series(np.where(is_label.any(axis=1), chosen, np.nan), index=labels.index)


def class_scores(votes: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """How strongly each item's votes speak for each class: the mean of their distributions.

    A vote without a distribution counts as its confidence on its label and the rest spread evenly. One without a
    confidence is as doubtful as its annotator's most doubtful vote, and certain if the annotator never has a
    confidence. Null votes are left out, and so are items that have no other.

    Args:
        votes: A votes table.
        classes: The task's classes.

    Returns:
        item_id x class, 0-1; rows sum to 1.
    """
    cast = votes[votes["label"].notna()]
    columns = prob_columns(classes)
    confidences = cast["confidence"]
    if confidences.isna().any():
        confidences = confidences.fillna(confidences.groupby(cast["annotator"]).transform("min")).fillna(1.0)
    confidence = confidences.to_numpy()[:, None]
    scores = np.where(one_hot(cast["label"], classes), confidence, (1 - confidence) / max(len(classes) - 1, 1))
    if set(columns) <= set(cast.columns):
        distributions = cast[columns].to_numpy(dtype=float)
        distributions = distributions / distributions.sum(axis=1, keepdims=True)
        scores = np.where(np.isnan(distributions).any(axis=1, keepdims=True), scores, distributions)
    frame = pd.DataFrame(scores, columns=list(classes))
    frame["item_id"] = cast["item_id"].to_numpy()
    return frame.groupby("item_id", sort=False).mean()


def annotators_named(patterns: Sequence[str], present: Sequence[str], key: str, path: str | None) -> list[str]:
    """The annotators that names or patterns (`llm/*`) are of; a name itself counts before a pattern.

    Args:
        patterns: Names, or patterns as `fnmatch` has them.
        present: The annotators that there are.
        key: The configuration key of the patterns, for the message.
        path: The file that has the annotators' votes; None: the dataset has them.

    Returns:
        Each of them once, in the order of the patterns.

    Raises:
        UserError: There is none of a pattern.
    """
    named: dict[str, None] = {}
    for pattern in patterns:
        matching = [pattern] if pattern in present else fnmatch.filter(present, pattern)
        if not matching:
            raise UserError(
                f"{key}={pattern}: no votes of such an annotator in {path or 'dataset.annotations'}; "
                f"{who_is_there(present, path)}"
            )
        named |= dict.fromkeys(matching)
    return list(named)


def who_is_there(annotators: Sequence[str], path: str | None) -> str:
    """Who gave labels, as a clause for a message; and how the dataset says so where it names nobody.

    Args:
        annotators: Who did.
        path: The file that has their votes; None: the dataset has them.
    """
    if annotators:
        return f"there is {', '.join(annotators)}"
    if path:
        return "there is nobody"
    return (
        "the dataset names nobody: say in its yaml which column holds labels, such as "
        "annotations: {llm: {column: llm_label}}"
    )
