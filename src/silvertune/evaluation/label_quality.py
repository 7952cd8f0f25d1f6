"""How good the labels are that a run trains on, before and after its filter, and what became of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.stats import calibration, rater_agreement
from silvertune.votes import STATUSES, WHOLE_ITEM, prob_columns

CURVE_POINTS = 200
"""A risk-coverage curve keeps at most about this many of its thresholds; areas are taken of all of them."""
LOGGED_CLASSES = 4
"""Tasks with more classes have what is told by class in the table, and not among the metrics."""


@dataclass(frozen=True)
class Report:
    """metrics: name -> value (NaN: undefined). The rest are tables; what needs gold is NaN or no row without it.

    by_class: indexed by class: the labels that say so, before, dropped and after, counted over all folds
    (`items_dropped`: different items dropped in any fold; `known_`: those with gold; `n_gold`: items that are it).
    by_view: the labeler's votes, one row an annotator and view. by_fold: labels and predictions of each fold.
    annotators: who gave how many votes of what (the paper's Table 1). agreement: one row a pair of raters
    (`either_wrong, same_error`: of two of the labeler's).
    crosstabs: the same pairs, label by label (Table 2). alphas: Krippendorff's. prevalence: indexed by class,
    its share in the labels, the training labels, gold, the test items' gold, the predictions. rankings: how
    well a confidence or a filter's score orders the errors; risk_coverage: the curves behind them.
    reliability: bins of confidence.
    """

    metrics: dict[str, float]
    by_class: pd.DataFrame
    by_view: pd.DataFrame
    by_fold: pd.DataFrame
    annotators: pd.DataFrame
    agreement: pd.DataFrame
    crosstabs: pd.DataFrame
    alphas: pd.DataFrame
    prevalence: pd.DataFrame
    rankings: pd.DataFrame
    risk_coverage: pd.DataFrame
    reliability: pd.DataFrame


def report(
    decisions: pd.DataFrame,
    votes: pd.DataFrame,
    annotations: pd.DataFrame,
    predictions: pd.DataFrame,
    gold: pd.Series,
    task: Task,
) -> Report:
    """Quality of the training labels, pooled over the folds.

    decisions: indexed by item_id, one row an (item, fold): label, confidence, keep, train_label, source, fold,
        `score:<filter>` where a filter gives one.
    votes: all that the run has, with `stage` (`preselect`, `labeler` or `fallback`). annotations: what came
        with the data. Both are looked at on the items of `decisions` alone, but for the annotators' counts.
    predictions: of the test items, indexed by item_id: label, prob:<class>, fold.
    gold: by item_id; noise is measured on the items that have it.

    `kept_fraction` is the share of the labels that the filter keeps; an item without a label counts in `n_pool` only.
    Noise is the share of labels that differ from gold: of the aggregated labels (`noise_before`) and of those
    trained on (`noise_after`, the fallback's among them). `dropped_precision` is the share of the dropped
    labels that were wrong. `n_train` is the mean over the folds, validation groups included. `alpha` is
    Krippendorff's over all votes of the labeler; `aurc`, `ece`, `brier` are about the aggregated labels'
    confidence (`silvertune.stats.calibration`), undefined where every label has confidence 1.
    `shift_train_test` is half the summed difference between the class shares of the training labels and of the
    test items' gold (total variation, 0-1).
    """
    true = gold.reindex(decisions.index)
    before, after = decisions["label"], decisions["train_label"]
    dropped = before.notna() & ~decisions["keep"]
    own = votes[(votes["stage"] == "labeler") & votes["item_id"].isin(decisions.index)]
    recorded = annotations[annotations["item_id"].isin(decisions.index)]

    by_class = pd.DataFrame([_class_row(name, decisions, true) for name in task.classes]).set_index("class")
    prevalence = _prevalence(decisions, predictions, gold, task)
    alphas = rater_agreement.alphas(own, recorded)
    voted = rater_agreement.ratings(own, task.classes, whole_item=WHOLE_ITEM)
    shared = rater_agreement.shared_errors(voted, rater_agreement.codes(gold.reindex(voted.index), task.classes))
    crosses = rater_agreement.crosstabs(_rated(decisions, own, recorded, gold, task), task.classes)
    rankings, curves = _rankings(decisions, true, task)
    sure, right = _confidence(decisions["confidence"], before, true)
    n_folds = decisions["fold"].nunique()
    metrics = {
        "labels/kept_fraction": float(decisions.loc[before.notna(), "keep"].mean()),
        "labels/n_pool": len(decisions) / n_folds,
        "labels/n_train": float(after.notna().sum() / n_folds),
        "labels/from_fallback": float((decisions["source"] == "fallback").sum() / n_folds),
        "labels/noise_before": _noise(before, true),
        "labels/noise_after": _noise(after, true),
        "labels/dropped_precision": _noise(before[dropped], true[dropped]),
        "labels/alpha": float(alphas["alpha"].iloc[0]) if (alphas["of"] == "the labeler").any() else np.nan,
        "labels/aurc": float(rankings["aurc"].iloc[0]) if (rankings["by"] == "confidence").any() else np.nan,
        "labels/ece": calibration.expected_calibration_error(sure, right),
        "labels/brier": calibration.brier(sure, right),
        "labels/shift_train_test": _shift(prevalence["trained on"], prevalence["test gold"]),
    }
    if task.positive is not None:
        for name, column in (("gold", "gold"), ("before", "labels"), ("after", "trained on")):
            metrics[f"labels/prevalence_{name}"] = float(prevalence[column][task.positive])
    if len(task.classes) <= LOGGED_CLASSES:
        for column in ("kept_fraction", "noise_before", "noise_after"):
            metrics |= {f"labels_by_class/{name}/{column}": float(by_class[column][name]) for name in task.classes}
    return Report(
        metrics=metrics,
        by_class=by_class,
        by_view=_by_view(own, decisions, gold, task),
        by_fold=_by_fold(decisions, predictions, gold),
        annotators=_annotators(pd.concat([votes, recorded.assign(stage="with the data")]), gold, task),
        agreement=rater_agreement.pairs(crosses).merge(shared, on=["a", "b"], how="left"),
        crosstabs=crosses,
        alphas=alphas,
        prevalence=prevalence,
        rankings=rankings,
        risk_coverage=curves,
        reliability=_reliability(sure, right, predictions, gold, task),
    )


def _noise(labels: pd.Series, true: pd.Series, weight: pd.Series | None = None) -> float:
    known = (labels.notna() & true.notna()).to_numpy()
    wrong = labels.to_numpy()[known] != true.to_numpy()[known]
    weights = np.ones(len(wrong)) if weight is None else weight.to_numpy()[known]
    return float(np.average(wrong, weights=weights)) if weights.sum() > 0 else float("nan")


def _class_row(name: str, decisions: pd.DataFrame, true: pd.Series) -> dict[str, object]:
    """Of the labels that say `name`, how many are wrong; of the items that are `name`, how many say so."""
    before, after = decisions["label"] == name, decisions["train_label"] == name
    dropped = before & ~decisions["keep"]
    there = true == name
    answered = decisions["label"].notna() & there
    trained = decisions["train_label"].notna() & there
    return {
        "class": name,
        "n_before": int(before.sum()),
        "n_dropped": int(dropped.sum()),
        "n_after": int(after.sum()),
        "items_dropped": decisions.index[dropped].nunique(),
        "known_before": int((before & true.notna()).sum()),
        "known_dropped": int((dropped & true.notna()).sum()),
        "known_after": int((after & true.notna()).sum()),
        "n_gold": int(there.sum()),
        "kept_fraction": float(decisions.loc[before, "keep"].mean()) if before.any() else np.nan,
        "noise_before": _noise(decisions["label"][before], true[before]),
        "noise_after": _noise(decisions["train_label"][after], true[after]),
        "dropped_precision": _noise(decisions["label"][dropped], true[dropped]),
        "recall_before": float(before[answered].mean()) if answered.any() else np.nan,
        "recall_after": float(after[trained].mean()) if trained.any() else np.nan,
    }


def _by_view(votes: pd.DataFrame, decisions: pd.DataFrame, gold: pd.Series, task: Task) -> pd.DataFrame:
    """Noise before the filter (of all votes) and after it (of those on kept items), class shares, calibration.

    An item that is kept in some folds only counts for that share after the filter.
    """
    kept = decisions["keep"].groupby(level=0).mean()
    rows = []
    for (annotator, view), own in votes.groupby(["annotator", "view"], sort=False):
        true, weight = own["item_id"].map(gold), own["item_id"].map(kept)
        cast = own["label"].dropna()
        row: dict[str, object] = {
            "annotator": annotator,
            "view": view,
            "n": len(own),
            "without_label": int(own["label"].isna().sum()),
            "noise": _noise(own["label"], true),
            "noise_after": _noise(own["label"], true, weight),
        }
        for name in task.classes:
            says = own["label"] == name
            row[f"noise:{name}"] = _noise(own["label"][says], true[says])
            row[f"noise_after:{name}"] = _noise(own["label"][says], true[says], weight[says])
            row[f"share:{name}"] = float((cast == name).mean()) if len(cast) else np.nan
        sure, right = _confidence(own["confidence"], own["label"], true)
        row["aurc"] = calibration.aurc(calibration.risk_coverage(sure, ~right))
        row["ece"] = calibration.expected_calibration_error(sure, right)
        row["brier"] = calibration.brier(sure, right)
        rows.append(row)
    return pd.DataFrame(rows)


def _confidence(confidence: pd.Series, labels: pd.Series, true: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Confidences (float) and whether the labels are right (bool), where both are known.

    Nothing where every confidence is 1: then nobody said how sure they are.
    """
    known = (labels.notna() & true.notna() & confidence.notna()).to_numpy()
    sure = confidence.to_numpy(dtype=float)[known]
    if (sure == 1).all():
        known, sure = np.zeros_like(known), sure[:0]
    return sure, labels.to_numpy()[known] == true.to_numpy()[known]


def _by_fold(decisions: pd.DataFrame, predictions: pd.DataFrame, gold: pd.Series) -> pd.DataFrame:
    """What each fold was trained on, and how many classes its test items have and its predictions name."""
    rows = []
    for fold, own in decisions.groupby("fold"):
        tested = predictions[predictions["fold"] == fold]
        true, known = gold.reindex(own.index), gold.reindex(tested.index)
        rows.append(
            {
                "fold": fold,
                "n_pool": len(own),
                "n_train": int(own["train_label"].notna().sum()),
                "noise_before": _noise(own["label"], true),
                "noise_after": _noise(own["train_label"], true),
                "n_test": len(tested),
                "test_error": _noise(tested["label"], known),
                "classes_in_test": known.nunique(),
                "classes_predicted": tested["label"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def _annotators(votes: pd.DataFrame, gold: pd.Series, task: Task) -> pd.DataFrame:
    """Votes of every annotator on every view: how many of each class, how many without a label and why, noise."""
    key = ["stage", "annotator", "view"]
    sized = votes.groupby(key, sort=False).agg(
        items=("item_id", "nunique"), votes=("item_id", "size"), cost_usd=("cost_usd", "sum")
    )
    said = votes["label"].where(votes["label"].notna(), votes["status"])
    null = [status for status in STATUSES if status != "ok" and (votes["status"] == status).any()]
    # A class may be called like a status.
    for column, names, rows in (("", task.classes, votes["label"].notna()), ("null:", null, votes["label"].isna())):
        counts = votes[rows].assign(said=said[rows]).groupby([*key, "said"]).size().unstack(fill_value=0)
        counts = counts.reindex(index=sized.index, columns=list(names), fill_value=0)
        sized = sized.join(counts.add_prefix(column).astype(int))
    true = votes["item_id"].map(gold)
    known = votes.assign(wrong=votes["label"] != true)[votes["label"].notna() & true.notna()]
    return sized.join(known.groupby(key)["wrong"].mean().rename("noise")).reset_index()


def _rated(
    decisions: pd.DataFrame, votes: pd.DataFrame, annotations: pd.DataFrame, gold: pd.Series, task: Task
) -> pd.DataFrame:
    """Who is compared: every annotator and view, the aggregated label where it is not one of them, and gold."""
    rated = rater_agreement.ratings(pd.concat([votes, annotations]), task.classes, whole_item=WHOLE_ITEM)
    several = len(votes[["annotator", "view"]].drop_duplicates()) > 1
    labels = decisions["label"][~decisions.index.duplicated()]
    for name, column, shown in (("aggregated", labels, several), ("gold", gold, True)):
        if shown:
            free = name if name not in rated else f"{name} (silvertune)"
            rated[free] = rater_agreement.codes(column.reindex(rated.index), task.classes)
    return rated


def _prevalence(decisions: pd.DataFrame, predictions: pd.DataFrame, gold: pd.Series, task: Task) -> pd.DataFrame:
    """Class shares of the pool's labels before and after the filter and of its gold; of the test's gold, predicted."""
    columns = {
        "labels": decisions["label"],
        "trained on": decisions["train_label"],
        "gold": gold.reindex(decisions.index),
        "test gold": gold.reindex(predictions.index),
        "predicted": predictions["label"],
    }
    shares = {name: labels.value_counts(normalize=True).reindex(task.classes) for name, labels in columns.items()}
    table = pd.DataFrame(shares, index=pd.Index(task.classes, name="class"), dtype=float)
    known = [name for name, labels in columns.items() if labels.notna().any()]
    table[known] = table[known].fillna(0.0)
    return table


def _shift(one: pd.Series, other: pd.Series) -> float:
    return float((one - other).abs().sum(skipna=False) / 2)


def _rankings(decisions: pd.DataFrame, true: pd.Series, task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every score of the labels as an order of their errors, over all of them and of each class by itself."""
    rankings, curves = [], []
    scores = {"confidence": decisions["confidence"]}
    scores |= {str(name): decisions[name] for name in decisions.columns if str(name).startswith("score:")}
    known = decisions["label"].notna() & true.notna()
    wrong = (decisions["label"] != true).to_numpy()
    for by, score in scores.items():
        if by == "confidence" and (score[known].dropna() == 1).all():
            continue
        for of in ("all", *task.classes):
            chosen = known & score.notna() & ((decisions["label"] == of) | (of == "all"))
            if not chosen.any() or (of != "all" and len(task.classes) > LOGGED_CLASSES):
                continue
            errors = wrong[chosen]
            curve = calibration.risk_coverage(score[chosen].to_numpy(dtype=float), errors)
            rankings.append(
                {
                    "by": by,
                    "of": of,
                    "n": len(errors),
                    "errors": int(errors.sum()),
                    "thresholds": len(curve),
                    "aurc": calibration.aurc(curve),
                    "aurc_random": float(errors.mean()),
                    "aurc_best": calibration.best_aurc(len(errors), int(errors.sum())),
                }
            )
            places = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int))
            curves.append(curve.iloc[places].assign(by=by, of=of))
    columns = ["by", "of", "n", "errors", "thresholds", "aurc", "aurc_random", "aurc_best"]
    points = pd.concat(curves) if curves else pd.DataFrame(columns=["threshold", "coverage", "risk", "by", "of"])
    return pd.DataFrame(rankings, columns=columns), points[["by", "of", "threshold", "coverage", "risk"]]


def _reliability(
    sure: np.ndarray, right: np.ndarray, predictions: pd.DataFrame, gold: pd.Series, task: Task
) -> pd.DataFrame:
    """Bins of confidence: of the labels, and of the predictions' highest probability (as for `test/ece`)."""
    tested = predictions[predictions.index.isin(gold.index)]
    probs = tested[prob_columns(task.classes)].to_numpy(dtype=float)
    named = np.asarray(task.classes, dtype=object)[probs.argmax(axis=1)]
    parts = {
        "labels": (sure, right),
        "predictions": (probs.max(axis=1), named == gold.reindex(tested.index).to_numpy()),
    }
    return pd.concat(
        [calibration.reliability(*part).assign(of=name) for name, part in parts.items()], ignore_index=True
    )[["of", "low", "high", "n", "confidence", "accuracy"]]


def tables(made: Report) -> dict[str, pd.DataFrame]:
    """The tables of a report by name, without those that have nothing to tell."""
    named = {name: table for name, table in vars(made).items() if isinstance(table, pd.DataFrame) and len(table)}
    return {name: table.reset_index() if table.index.name else table for name, table in named.items()}
