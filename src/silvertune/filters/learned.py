"""Filters that hold a label against what a model, or the label's neighbours, say of the item."""

import numpy as np
import pandas as pd

from silvertune.filters.selection import one_of, whole, within
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
    filter_by: `prune_by_noise_rate` (usual), `prune_by_class`, `both`, `confident_learning`,
        `predicted_neq_given`, `low_normalized_margin` or `low_self_confidence`: see cleanlab.
    frac_noise: the share (0-1] of the estimated issues that is dropped, the worst first; 1 is usual
        (the two `prune_by_...` and `both` only).
    min_examples_per_class: of a class, at least so many labels stay (the same three only); 1 or more.
    The score is the out-of-fold probability of the label.
    Fails where the student learned the labeler's mistakes, which it does where they are systematic; and a rare
    class may be pruned away (cleanlab#641): look at the kept fraction of each class.
    """
    one_of("filter.confident_learning.filter_by", filter_by, FILTER_BY)
    within("filter.confident_learning.frac_noise", frac_noise, above_zero=True)
    whole("filter.confident_learning.min_examples_per_class", min_examples_per_class, 1)
    labelled = labels.loc[labels["label"].notna(), "label"].sort_index()
    there = [name for name in task.classes if (labelled == name).any()]
    keep = labels["label"].notna()
    probs = out_of_fold_probs.reindex(labels.index)
    score = score_of_label(probs, labels["label"])
    if len(there) > 1:
        from cleanlab.filter import find_label_issues

        # cleanlab knows the classes that have a label. A hair for each, so that a row can be made to sum to 1.
        rows = out_of_fold_probs.loc[labelled.index, there].to_numpy() + 1e-9
        issues = find_label_issues(
            labels=pd.Categorical(labelled, categories=there).codes.astype(int),
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

    Source: Wilson 1972 (edited nearest neighbours); Bahri, Jiang & Gupta 2020 ("Deep k-NN for noisy labels"),
    section 3.
    k: how many neighbours, by cosine, the item itself left out; usual 5-50, of fewer items all.
    at_least: the share (0-1) of them that must have the item's label; usual .5.
    class_weighted: a neighbour counts inversely to how common its label is, so that a rare class is not outvoted
        by being rare.
    The score is the (weighted) share. An item without neighbours, or without a view that can be read, is not kept.
    Fails where the embedding does not tell the classes apart, and where near copies (the pages of one table) were
    all labelled wrong: they back each other.
    """
    whole("filter.knn_agreement.k", k, 1)
    within("filter.knn_agreement.at_least", at_least)
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
