"""Filters that compare a label with what a model predicts, or with the labels of similar items."""

import numpy as np
import pandas as pd

from silvertune.errors import check_choice, check_number, check_whole_number
from silvertune.schema import Task
from silvertune.votes import score_of_label

FILTER_BY = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)


def confident_learning(
    labels: pd.DataFrame,
    out_of_fold_probs: pd.DataFrame,
    task: Task,
    *,
    filter_by: str,
    frac_noise: float,
    min_examples_per_class: int,
) -> pd.DataFrame:
    """Keep labels that cleanlab does not call an issue, by a student's out-of-fold probabilities.

    Source: Northcutt, Jiang & Chuang 2021 ("Confident learning"), section 3; `cleanlab.filter.find_label_issues`.

    Args:
        labels: The aggregated labels, indexed by item_id.
        out_of_fold_probs: Class probabilities by students that were tuned on other groups, item_id x class.
        task: The task, for its classes.
        filter_by: cleanlab's rule: `prune_by_noise_rate` (usual), `prune_by_class`, `both`, `confident_learning`,
            `predicted_neq_given`, `low_normalized_margin` or `low_self_confidence`.
        frac_noise: The share (0-1], 0 excluded, of the estimated issues to drop, the worst first; usual 1. Only
            `both` and the two `prune_by_...` read it.
        min_examples_per_class: How many labels of a class stay at least, from 1; usual 5. The same three read it.

    Returns:
        `keep`, and as `score` the out-of-fold probability of the label, 0-1.

    Raises:
        UserError: If a setting is outside its range.

    Fails where the student learned the labeler's mistakes, as it does where they are systematic; and it may drop
    a rare class (cleanlab#641): look at the kept fraction of each class.
    """
    check_choice("filter.confident_learning.filter_by", filter_by, FILTER_BY)
    check_number("filter.confident_learning.frac_noise", frac_noise, most=1, above=True)
    check_whole_number("filter.confident_learning.min_examples_per_class", min_examples_per_class, 1)
    labelled = labels.loc[labels["label"].notna(), "label"].sort_index()
    classes_with_labels = [name for name in task.classes if (labelled == name).any()]
    keep = labels["label"].notna()
    probs = out_of_fold_probs.reindex(labels.index)
    score = score_of_label(probs, labels["label"])
    if len(classes_with_labels) > 1:
        from cleanlab.filter import find_label_issues

        # cleanlab takes only classes that have a label. A hair is added, so that every row can be scaled to sum to 1.
        rows = out_of_fold_probs.loc[labelled.index, classes_with_labels].to_numpy() + 1e-9
        issues = find_label_issues(
            labels=pd.Categorical(labelled, categories=classes_with_labels).codes.astype(int),
            pred_probs=rows / rows.sum(axis=1, keepdims=True),
            filter_by=filter_by,
            frac_noise=frac_noise,
            min_examples_per_class=min_examples_per_class,
            n_jobs=1,
        )
        keep[labelled.index[issues]] = False
    return pd.DataFrame({"keep": keep, "score": score})


def knn_agreement(
    labels: pd.DataFrame, embeddings: pd.DataFrame, *, k: int, at_least: float, class_weighted: bool
) -> pd.DataFrame:
    """Keep labels that the nearest labelled items, by embedding, share.

    An item without neighbours, or without a view that can be read, is not kept.

    Source: Wilson 1972 (edited nearest neighbours); Bahri, Jiang & Gupta 2020 ("Deep k-NN for noisy labels"),
    section 3.

    Args:
        labels: The aggregated labels, indexed by item_id.
        embeddings: The embedding of each item, item_id x dimension, of unit length.
        k: How many neighbours to look at, by cosine, without the item itself; usual 5-50. Of fewer items, all.
        at_least: The share (0-1) of them that must have the item's label; usual .5.
        class_weighted: Whether a neighbour counts inversely to how common its label is, so that a rare class is not
            outvoted because it is rare.

    Returns:
        `keep`, and as `score` the (weighted) share of the neighbours with the item's label, 0-1.

    Raises:
        UserError: If a setting is outside its range.

    Fails where the embedding does not tell the classes apart, and where near copies (the pages of one table) were
    all labelled wrong: they confirm each other.
    """
    check_whole_number("filter.knn_agreement.k", k, 1)
    check_number("filter.knn_agreement.at_least", at_least, most=1)
    readable = (embeddings != 0).any(axis=1).reindex(labels.index, fill_value=False)
    label = labels.loc[labels["label"].notna() & readable, "label"].sort_index()
    share = pd.Series(np.nan, index=labels.index)
    if len(label) > 1:
        from sklearn.neighbors import NearestNeighbors

        vectors = embeddings.loc[label.index].to_numpy()
        search = NearestNeighbors(n_neighbors=min(k, len(label) - 1), metric="cosine", algorithm="brute").fit(vectors)
        near = search.kneighbors(return_distance=False)
        codes, names = pd.factorize(label)
        sizes = np.bincount(codes, minlength=len(names))
        weight = (1 / sizes if class_weighted else np.ones(len(names)))[codes[near]]
        alike = codes[near] == codes[:, None]
        share[label.index] = (weight * alike).sum(axis=1) / weight.sum(axis=1)
    return pd.DataFrame({"keep": share >= at_least - 1e-12, "score": share})
