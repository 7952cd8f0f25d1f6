"""How often annotators agree, and how much of that is more than chance."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

MOST_RATERS = 40
"""How many raters are compared at most, in pairs: of more (a crowd), those with the most votes."""


def ratings(votes: pd.DataFrame, classes: Sequence[str], *, whole_item: str) -> pd.DataFrame:
    """Arrange votes as a table of raters.

    A rater is an annotator on one view. Where it has several votes (repeats) on a view of an item, the first counts,
    also if it has no label.

    Args:
        votes: The votes: `item_id`, `annotator`, `view`, `repeat`, `label`.
        classes: The classes.
        whole_item: The name of the view that stands for the whole item.

    Returns:
        item_id x rater, named `annotator:view` (`annotator` on the whole item): the position of the label in
        `classes`, -1 where there is none. Of many raters, the `MOST_RATERS` with the most votes.
    """
    first_votes = votes[_is_first(votes)]
    rater, raters = _raters(first_votes, whole_item)
    counts = pd.Series(np.bincount(rater, minlength=len(raters)), index=raters)
    if len(raters) > MOST_RATERS:
        busiest = raters.isin(counts.sort_index().nlargest(MOST_RATERS).index)
        first_votes, rater = first_votes[busiest[rater]], rater[busiest[rater]]
        order, rater = pd.unique(rater), pd.factorize(rater)[0]
        raters = raters[order]
    item, items = pd.factorize(first_votes["item_id"])
    rated = np.full((len(items), len(raters)), -1, dtype=np.int32)
    # Backwards: of an item's votes by one rater (a labeler's that are also among the annotations), the first stays.
    # Copies, because NumPy goes through reversed views in the order of the memory.
    code = codes(first_votes["label"], classes)
    rated[item[::-1].copy(), rater[::-1].copy()] = code[::-1].copy()
    return pd.DataFrame(rated, index=pd.Index(items, name="item_id", dtype=object), columns=list(raters))


def rater_name(annotator: object, view: object, whole_item: str) -> str:
    """How an annotator on one view is called: `annotator:view`, `annotator` on the whole item."""
    return str(annotator) if view == whole_item else f"{annotator}:{view}"


def _raters(votes: pd.DataFrame, whole_item: str) -> tuple[np.ndarray, pd.Index]:
    """The rater of each vote as a position among the raters' names, which stand in the order of their first votes."""
    (annotator, annotators), (view, views) = pd.factorize(votes["annotator"]), pd.factorize(votes["view"])
    pair, pairs_of_codes = pd.factorize(annotator * len(views) + view)
    by_code = [(annotators[k // len(views)], views[k % len(views)]) for k in pairs_of_codes.tolist()]
    names = [rater_name(one, of, whole_item) for one, of in by_code]
    rater, raters = pd.factorize(pd.Index(names, dtype=object))  # two pairs may have one name
    return rater[pair], raters


def _is_first(votes: pd.DataFrame) -> np.ndarray:
    """Which votes are the first of their annotator on their view of their item."""
    repeat = votes["repeat"].to_numpy()
    if not len(repeat) or (repeat == repeat[0]).all():  # then nobody was asked twice
        return np.ones(len(repeat), dtype=bool)
    first = votes.groupby(["item_id", "annotator", "view"], sort=False)["repeat"].transform("min")
    return np.asarray(repeat == first.to_numpy())


def codes(labels: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """Look up the position of each label in the classes.

    Args:
        labels: The labels.
        classes: The classes.

    Returns:
        (n,) int32, -1 where the label is null.
    """
    return np.asarray(pd.Categorical(labels, categories=list(classes)).codes, dtype=np.int32)


def crosstabs(rated: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Count the labels of every pair of raters against each other (the paper's Table 2).

    Args:
        rated: The table of `ratings`.
        classes: The classes.

    Returns:
        `a, b, label_a, label_b, n`, zeros included: one block of rows a pair that has an item in common.
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
    """Compute how often each pair of raters agrees.

    Source: Cohen 1960 ("A coefficient of agreement for nominal scales").

    Args:
        crosses: The table of `crosstabs`.

    Returns:
        One row a pair: `a, b`, `n` items in common, raw `agreement` (0-1) and Cohen's `kappa` (-1 to 1), NaN where both
        always gave one and the same label.
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
    """Compute how often each pair of raters makes the same errors.

    Two raters of two classes that err independently in a share e of the items share e / (2 - e) of their errors.

    Args:
        rated: The table of `ratings`.
        true: (items,) the code of each item's gold label, -1 where there is none.

    Returns:
        One row a pair: `a, b`, `either_wrong` (items with gold that both labelled and at least one has wrong) and
        `same_error` (the share of these, 0-1, to which both gave the same wrong label; NaN where there are none).
    """
    columns, rows = rated.to_numpy(), []
    for i, a in enumerate(rated.columns):
        for j in range(i + 1, rated.shape[1]):
            one, two = columns[:, i], columns[:, j]
            has_all = (one >= 0) & (two >= 0) & (true >= 0)
            either = int((has_all & ((one != true) | (two != true))).sum())
            same = int((has_all & (one == two) & (one != true)).sum())
            rows.append({"a": a, "b": rated.columns[j], "either_wrong": either,
                         "same_error": same / either if either else np.nan})  # fmt: skip
    errors = pd.DataFrame(rows, columns=["a", "b", "either_wrong", "same_error"])
    return errors.astype({"either_wrong": float, "same_error": float})


def krippendorff_alpha(unit: pd.Series, label: pd.Series) -> float:
    """Compute Krippendorff's alpha for nominal labels, any number of them a unit.

    Source: Krippendorff 2011 ("Computing Krippendorff's alpha-reliability"), section C.

    Args:
        unit: What each label is about, such as its item.
        label: The labels, indexed alike. Null ones do not count, nor do units with fewer than two others.

    Returns:
        1 for perfect agreement, 0 for what chance gives, below 0 for less; NaN where no unit has two labels, or all
        labels are the same.
    """
    has_label = label.notna().to_numpy()
    units, _ = pd.factorize(unit[has_label])
    label_codes, names = pd.factorize(label[has_label])
    if not len(names):
        return float("nan")
    shape = (units.max() + 1, len(names))
    counts = np.bincount(units * shape[1] + label_codes, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
    counts = counts[counts.sum(axis=1) >= 2]
    n, by_class = counts.sum(), counts.sum(axis=0)
    if (by_class > 0).sum() < 2:
        return float("nan")
    observed = ((counts * (counts - 1)).sum(axis=1) / (counts.sum(axis=1) - 1)).sum() / n
    expected = (by_class * (by_class - 1)).sum() / (n * (n - 1))
    return float(1 - (1 - observed) / (1 - expected))


def alphas(votes: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Compute Krippendorff's alpha of every set of labels that may be compared.

    The sets are all votes of the labeler; its annotators on each view; the views and the repeats of each annotator;
    and all annotations that came with the data.

    Args:
        votes: The labeler's votes.
        annotations: The votes that came with the data.

    Returns:
        One row a set for which alpha is defined: `between` (what differs between the labels of a unit), `of` (whose
        labels), `n` (labels of units that have several) and `alpha`.
    """
    rows = []
    for between, of, unit, label in _sets(votes, annotations):
        if not np.isnan(value := krippendorff_alpha(unit, label)):
            compared = int((unit[label.notna()].value_counts().loc[lambda n: n >= 2]).sum())
            rows.append({"between": between, "of": of, "n": compared, "alpha": value})
    return pd.DataFrame(rows, columns=["between", "of", "n", "alpha"])


def _sets(votes: pd.DataFrame, annotations: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series, pd.Series]]:
    """For each set of `alphas`: what differs, whose labels they are, the unit of each label as a number, the labels."""
    of_all, of_data = (
        table[["annotator", "view", "label"]].assign(unit=pd.factorize(table["item_id"])[0])
        for table in (votes, annotations)
    )
    first_votes = of_all[_is_first(votes)]
    yield "all votes", "the labeler", of_all["unit"], of_all["label"]
    for view, of_view in first_votes.groupby("view", sort=False):
        yield "annotators", f"view {view}", of_view["unit"], of_view["label"]
    for annotator, by_annotator in first_votes.groupby("annotator", sort=False):
        yield "views", str(annotator), by_annotator["unit"], by_annotator["label"]
    view_codes, views = pd.factorize(of_all["view"])
    item_and_view = of_all.assign(unit=of_all["unit"] * len(views) + view_codes)
    for annotator, by_annotator in item_and_view.groupby("annotator", sort=False):
        yield "repeats", str(annotator), by_annotator["unit"], by_annotator["label"]
    yield "all annotations", "the data", of_data["unit"], of_data["label"]
