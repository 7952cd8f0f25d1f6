"""How far annotators agree with one another, and how much of that is more than chance."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from silvertune.votes import WHOLE_ITEM

MOST_RATERS = 40
"""Every pair is compared: of more raters than this (a crowd's), only those with the most votes."""


def ratings(votes: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """item_id x rater: the place of the label among `classes`, -1 where there is none.

    A rater is an annotator on one view (`annotator:view`; only `annotator` where the whole item was seen).
    Where one reads a view several times, the first reading counts, also if it gave no label. Of many raters,
    the `MOST_RATERS` with the most votes are looked at.
    """
    first = _first_readings(votes)
    who = first["annotator"].where(first["view"] == WHOLE_ITEM, first["annotator"] + ":" + first["view"])
    if len(counts := who.value_counts()) > MOST_RATERS:
        most = who.isin(counts.sort_index().nlargest(MOST_RATERS).index)
        first, who = first[most], who[most]
    item, items = pd.factorize(first["item_id"])
    rater, raters = pd.factorize(who)
    found = np.full((len(items), len(raters)), -1, dtype=np.int32)
    # Backwards: of an item's votes by one rater (a labeler's that are also among the annotations), the first stays.
    found[item[::-1], rater[::-1]] = codes(first["label"], classes)[::-1]
    return pd.DataFrame(found, index=pd.Index(items, name="item_id", dtype=object), columns=list(raters))


def _first_readings(votes: pd.DataFrame) -> pd.DataFrame:
    """Of each view of an item, the first vote of every annotator."""
    reading = votes.groupby(["item_id", "annotator", "view"], sort=False)["repeat"]
    return votes[votes["repeat"] == reading.transform("min")]


def codes(labels: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """The place of each label among `classes`, -1 where it is null."""
    return np.asarray(pd.Categorical(labels, categories=list(classes)).codes, dtype=np.int32)


def crosstabs(rated: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Who said what where another said what (the paper's Table 2): `a, b, label_a, label_b, n`, zeros included.

    rated: of `ratings`. One block a pair of raters that have an item in common.
    """
    k = len(classes)
    columns, blocks = rated.to_numpy(), []
    for i, a in enumerate(rated.columns):
        for j in range(i + 1, rated.shape[1]):
            both = (columns[:, i] >= 0) & (columns[:, j] >= 0)
            if both.any():
                cell = columns[both, i] * k + columns[both, j]
                blocks.append((a, rated.columns[j], np.bincount(cell, minlength=k * k)))
    return pd.DataFrame(
        {
            "a": np.repeat([a for a, _, _ in blocks], k * k),
            "b": np.repeat([b for _, b, _ in blocks], k * k),
            "label_a": np.tile(np.repeat(list(classes), k), len(blocks)),
            "label_b": np.tile(list(classes), k * len(blocks)),
            "n": np.concatenate([n for _, _, n in blocks]) if blocks else np.array([], dtype=int),
        }
    )


def pairs(crosses: pd.DataFrame) -> pd.DataFrame:
    """Of each pair of `crosstabs`: `n` items in common, raw `agreement` (0-1), Cohen's `kappa` (Cohen 1960).

    kappa is NaN where both only ever gave one and the same label: nothing is left to agree on.
    """
    rows = []
    for (a, b), block in crosses.groupby(["a", "b"], sort=False):
        count = block["n"].to_numpy(dtype=float).reshape(block["label_a"].nunique(), -1)
        share = count / count.sum()
        same, chance = float(np.trace(share)), float(share.sum(axis=0) @ share.sum(axis=1))
        kappa = (same - chance) / (1 - chance) if chance < 1 - 1e-12 else np.nan
        rows.append({"a": a, "b": b, "n": int(count.sum()), "agreement": same, "kappa": kappa})
    return pd.DataFrame(rows, columns=["a", "b", "n", "agreement", "kappa"])


def shared_errors(rated: pd.DataFrame, true: np.ndarray) -> pd.DataFrame:
    """Do two raters make the same errors? `a, b, either_wrong, same_error`, one row a pair.

    rated: of `ratings`. true: the code of each item's gold, -1 where there is none.
    either_wrong: items (of those with gold that both labelled) that at least one has wrong; same_error: share
    of these to which both gave the same wrong label, NaN where there are none. Two that err independently in
    a share e of two classes' items share e / (2 - e) of their errors.
    """
    columns, rows = rated.to_numpy(), []
    for i, a in enumerate(rated.columns):
        for j in range(i + 1, rated.shape[1]):
            one, two = columns[:, i], columns[:, j]
            known = (one >= 0) & (two >= 0) & (true >= 0)
            either = int((known & ((one != true) | (two != true))).sum())
            same = int((known & (one == two) & (one != true)).sum())
            rows.append({"a": a, "b": rated.columns[j], "either_wrong": either,
                         "same_error": same / either if either else np.nan})  # fmt: skip
    found = pd.DataFrame(rows, columns=["a", "b", "either_wrong", "same_error"])
    return found.astype({"either_wrong": float, "same_error": float})


def krippendorff_alpha(unit: pd.Series, label: pd.Series) -> float:
    """Krippendorff's alpha for nominal labels, any number of them a unit (Krippendorff 2011, section C).

    unit: what was rated. label: the label, null ones are left out; so are units with fewer than two others.
    1 is perfect agreement, 0 what chance gives; NaN where there is nothing to compare, or one label only.
    """
    given = label.notna().to_numpy()
    units, _ = pd.factorize(unit[given])
    named, names = pd.factorize(label[given])
    if not len(names):
        return float("nan")
    shape = (units.max() + 1, len(names))
    counts = np.bincount(units * shape[1] + named, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
    counts = counts[counts.sum(axis=1) >= 2]
    n, by_class = counts.sum(), counts.sum(axis=0)
    if (by_class > 0).sum() < 2:
        return float("nan")
    observed = ((counts * (counts - 1)).sum(axis=1) / (counts.sum(axis=1) - 1)).sum() / n
    expected = (by_class * (by_class - 1)).sum() / (n * (n - 1))
    return float(1 - (1 - observed) / (1 - expected))


def alphas(votes: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Krippendorff's alpha of every set of labels that may be compared.

    votes: the labeler's. annotations: those that came with the data.
    Returns `between` (what differs between the labels of a unit), `of`, `n` (labels with another to compare
    to) and `alpha`: all of the labeler's votes; its annotators on each view, the views and the repeats of each
    annotator (where there is more than one), and all recorded annotations. Undefined ones are left out.
    """
    first = _first_readings(votes)
    sets = [("all votes", "the labeler", votes, votes["item_id"])]
    for view, own in first.groupby("view", sort=False):
        sets.append(("annotators", f"view {view}", own, own["item_id"]))
    for who, own in first.groupby("annotator", sort=False):
        sets.append(("views", str(who), own, own["item_id"]))
    for who, own in votes.groupby("annotator", sort=False):
        sets.append(("repeats", str(who), own, own["item_id"] + "\x1f" + own["view"]))
    sets.append(("all annotations", "the data", annotations, annotations["item_id"]))
    rows = []
    for between, of, own, unit in sets:
        given = own["label"].notna().to_numpy()
        if not np.isnan(value := krippendorff_alpha(unit, own["label"])):
            compared = int((unit[given].value_counts().loc[lambda n: n >= 2]).sum())
            rows.append({"between": between, "of": of, "n": compared, "alpha": value})
    return pd.DataFrame(rows, columns=["between", "of", "n", "alpha"])
