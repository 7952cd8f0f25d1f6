"""How good the labels are that a run trains on, before and after its filter."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.schema import Task


@dataclass(frozen=True)
class Report:
    """metrics: name -> value. by_class, by_view: tables. agreement: one row a pair of annotators."""

    metrics: dict[str, float]
    by_class: pd.DataFrame
    by_view: pd.DataFrame
    agreement: pd.DataFrame


def report(
    decisions: pd.DataFrame, votes: pd.DataFrame, annotations: pd.DataFrame, gold: pd.Series, task: Task
) -> Report:
    """Quality of the training labels, pooled over the folds.

    decisions: indexed by item_id, one row an (item, fold): label, keep, train_label, source, fold.
    votes: the labeler's on those items. annotations: what came with the data. gold: by item_id; noise is
    measured on the items that have it.

    Noise is the share of labels that differ from gold: of the aggregated labels (`noise_before`) and of those
    trained on (`noise_after`, the fallback's among them). `dropped_precision` is the share of the dropped
    labels that were wrong. `n_train` is the mean over the folds.
    """
    true = gold.reindex(decisions.index)
    before, after = decisions["label"], decisions["train_label"]
    dropped = before.notna() & ~decisions["keep"]
    metrics = {
        "labels/kept_fraction": float(decisions["keep"].mean()),
        "labels/n_pool": len(decisions) / decisions["fold"].nunique(),
        "labels/n_train": float(after.notna().sum() / decisions["fold"].nunique()),
        "labels/from_fallback": float((decisions["source"] == "fallback").sum() / decisions["fold"].nunique()),
        "labels/noise_before": _noise(before, true),
        "labels/noise_after": _noise(after, true),
        "labels/dropped_precision": _noise(before[dropped], true[dropped]),
    }
    if task.positive is not None:
        for name, labels in (("gold", true), ("before", before), ("after", after)):
            known = labels.dropna()
            metrics[f"labels/prevalence_{name}"] = float((known == task.positive).mean()) if len(known) else np.nan
    by_class = pd.DataFrame([_class_row(name, decisions, true) for name in task.classes]).set_index("class")
    for column in ("kept_fraction", "noise_before", "noise_after"):
        metrics |= {f"labels_by_class/{label}/{column}": float(by_class[column][label]) for label in task.classes}
    every = pd.concat([votes, annotations[annotations["item_id"].isin(votes["item_id"])]])
    return Report(metrics, by_class, _by_view(votes, gold, task), _agreement(every, gold))


def _noise(labels: pd.Series, true: pd.Series) -> float:
    known = labels.notna() & true.notna()
    return float((labels[known] != true[known]).mean()) if known.any() else float("nan")


def _class_row(name: str, decisions: pd.DataFrame, true: pd.Series) -> dict[str, object]:
    """Of the labels that say `name`, how many are wrong; of the items that are `name`, how many say so."""
    before, after = decisions["label"] == name, decisions["train_label"] == name
    there = true == name
    answered = decisions["label"].notna() & there
    trained = decisions["train_label"].notna() & there
    return {
        "class": name,
        "n_before": int(before.sum()),
        "n_after": int(after.sum()),
        "kept_fraction": float(decisions.loc[before, "keep"].mean()) if before.any() else np.nan,
        "noise_before": _noise(decisions["label"][before], true[before]),
        "noise_after": _noise(decisions["train_label"][after], true[after]),
        "recall_before": float(before[answered].mean()) if answered.any() else np.nan,
        "recall_after": float(after[trained].mean()) if trained.any() else np.nan,
    }


def _by_view(votes: pd.DataFrame, gold: pd.Series, task: Task) -> pd.DataFrame:
    """Noise, and shares of each class, of every annotator's votes on every view."""
    rows = []
    for (annotator, view), own in votes.groupby(["annotator", "view"], sort=False):
        true = own["item_id"].map(gold)
        cast = own["label"].dropna()
        rows.append(
            {
                "annotator": annotator,
                "view": view,
                "n": len(own),
                "without_label": int(own["label"].isna().sum()),
                "noise": _noise(own["label"], true),
                **{
                    f"noise:{name}": _noise(own["label"][own["label"] == name], true[own["label"] == name])
                    for name in task.classes
                },
                **{f"share:{name}": float((cast == name).mean()) if len(cast) else np.nan for name in task.classes},
            }
        )
    return pd.DataFrame(rows)


def _agreement(votes: pd.DataFrame, gold: pd.Series) -> pd.DataFrame:
    """Raw agreement and Cohen's kappa of every pair of annotators (and views), and of each with gold."""
    cast = votes[votes["label"].notna() & (votes["repeat"] == 0)]
    whole = cast["view"] == "item"
    names = cast["annotator"].where(whole, cast["annotator"] + ":" + cast["view"])
    wide = (
        pd.DataFrame({"item_id": cast["item_id"], "who": names, "label": cast["label"]})
        .drop_duplicates(["item_id", "who"])
        .pivot(index="item_id", columns="who", values="label")
    )
    wide["gold" if "gold" not in wide else "gold (trusted)"] = gold.reindex(wide.index)
    rows = []
    who = list(wide.columns)
    for i, a in enumerate(who):
        for b in who[i + 1 :]:
            both = wide[[a, b]].dropna()
            if len(both):
                same = float((both[a] == both[b]).mean())
                shares_a, shares_b = (
                    both[a].value_counts(normalize=True),
                    both[b].value_counts(normalize=True),
                )
                chance = float((shares_a * shares_b).sum())
                kappa = (same - chance) / (1 - chance) if chance < 1 else float("nan")
                rows.append({"a": a, "b": b, "n": len(both), "agreement": same, "kappa": kappa})
    return pd.DataFrame(rows, columns=["a", "b", "n", "agreement", "kappa"])
