"""The quality of the labels that a run trains on, before and after its filter."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.stats import calibration, rater_agreement
from silvertune.votes import STATUSES, WHOLE_ITEM, prob_columns

DECIDED = ("label", "confidence", "keep", "reason", "train_label", "source", "fold", "score:")
"""The columns of decisions that a report needs; `score:` is the beginning of several."""
CURVE_POINTS = 200
"""About how many points of a risk-coverage curve are kept at most; its area is computed from all points."""
LOGGED_CLASSES = 4
"""With more classes than this, numbers by class are in the table only, and not among the metrics."""


@dataclass(frozen=True)
class Report:
    """The quality of a run's labels. Without gold, what needs it is NaN or has no row.

    Attributes:
        metrics: Name -> value; NaN where it is undefined.
        by_class: Indexed by class: its labels before the filter, dropped and after it, counted over all folds.
            `items_dropped`: different items dropped in any fold; `known_...`: labels of items with gold; `n_gold`:
            items whose gold label is the class.
        reasons: How many labels of each class were kept, dropped and why (`reason`: the filter's, or `no label`), and
            given by the fallback, counted over all folds.
        by_view: The labeler's votes, one row an annotator and view.
        by_fold: The labels and predictions of each fold.
        annotators: How many votes of each class every annotator gave (the paper's Table 1).
        agreement: One row a pair of raters (`either_wrong, same_error`: for two raters of the labeler).
        crosstabs: The same pairs, label by label (the paper's Table 2).
        alphas: Krippendorff's alpha of every set of labels.
        prevalence: Indexed by class: its share in the labels, the training labels, their gold, the gold of the test
            items and the predictions.
        rankings: How well a confidence or a filter's score ranks the wrong labels last.
        risk_coverage: The curves of the rankings.
        reliability: Bins of confidence.
    """

    metrics: dict[str, float]
    by_class: pd.DataFrame
    reasons: pd.DataFrame
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
    """Measure the quality of the training labels, pooled over the folds.

    Args:
        decisions: One row an item and fold, indexed by item_id: `label`, `confidence`, `keep`, `train_label`, `source`,
            `fold`, and, where a filter gives them, `reason` and `score:<filter>`.
        votes: All votes of the run, with `stage` (`preselect`, `labeler` or `fallback`).
        annotations: The votes that came with the data. Of both, only those on the items of `decisions` count, except
            for the annotators' numbers of votes.
        predictions: `label`, `prob:<class>` and `fold` of the test items, indexed by item_id.
        gold: The gold class, by item_id.
        task: The task.

    Returns:
        The report. Its metrics, all under `labels/`, are:

        - `kept_fraction`: the share of the labels that the filter keeps. `n_pool` and `n_train`: the items of a
          training pool and the labels trained on, validation groups included, means over the folds; an item without a
          label counts in `n_pool` only. `from_fallback`: how many of these the fallback gave.
        - `noise_before` and `noise_after`: the share of the aggregated labels and of the training labels (with those
          of the fallback) that differ from gold. `dropped_precision`: the share of the dropped labels that are wrong.
        - `alpha`: Krippendorff's alpha over all votes of the labeler.
        - `aurc`, `ece`, `brier`: how well the confidence of the aggregated labels fits
          (`silvertune.stats.calibration`); NaN where every label has confidence 1.
        - `shift_train_test`: half the summed difference between the class shares of the training labels and of the
          gold of the test items (total variation, 0-1).
    """
    # With item_id as a column: masking by a Series makes pandas hash its index, which takes more memory than the table.
    decisions = decisions.rename_axis("item_id").reset_index()
    true = gold.reindex(decisions["item_id"]).reset_index(drop=True)
    before, after = decisions["label"], decisions["train_label"]
    dropped = before.notna() & ~decisions["keep"]
    labels = decisions.loc[~decisions["item_id"].duplicated(), ["item_id", "label"]].set_index("item_id")["label"]
    labeler_votes = votes[(votes["stage"] == "labeler") & votes["item_id"].isin(labels.index)]
    recorded = annotations[annotations["item_id"].isin(labels.index)]

    by_class = pd.DataFrame([_class_row(name, decisions, true) for name in task.classes]).set_index("class")
    prevalence = _prevalence(decisions, true, predictions, gold, task)
    alphas = rater_agreement.alphas(labeler_votes, recorded)
    rated = rater_agreement.ratings(labeler_votes, task.classes, whole_item=WHOLE_ITEM)
    shared = rater_agreement.shared_errors(rated, rater_agreement.codes(gold.reindex(rated.index), task.classes))
    crosses = rater_agreement.crosstabs(_rated(labels, labeler_votes, recorded, gold, task), task.classes)
    rankings, curves = _rankings(decisions, true, task)
    confidence, right = _confidence(decisions["confidence"], before, true)
    n_folds = decisions["fold"].nunique()
    metrics = {
        "labels/kept_fraction": float(decisions["keep"][before.notna()].mean()),
        "labels/n_pool": len(decisions) / n_folds,
        "labels/n_train": float(after.notna().sum() / n_folds),
        "labels/from_fallback": float((decisions["source"] == "fallback").sum() / n_folds),
        "labels/noise_before": _noise(before, true),
        "labels/noise_after": _noise(after, true),
        "labels/dropped_precision": _noise(before[dropped], true[dropped]),
        "labels/alpha": float(alphas["alpha"].iloc[0]) if (alphas["of"] == "the labeler").any() else np.nan,
        "labels/aurc": float(rankings["aurc"].iloc[0]) if (rankings["by"] == "confidence").any() else np.nan,
        "labels/ece": calibration.expected_calibration_error(confidence, right),
        "labels/brier": calibration.brier(confidence, right),
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
        reasons=_reasons(decisions, task),
        by_view=_by_view(labeler_votes, decisions, gold, task),
        by_fold=_by_fold(decisions, true, predictions, gold),
        annotators=_annotators(votes, recorded, gold, task),
        agreement=rater_agreement.pairs(crosses).merge(shared, on=["a", "b"], how="left"),
        crosstabs=crosses,
        alphas=alphas,
        prevalence=prevalence,
        rankings=rankings,
        risk_coverage=curves,
        reliability=_reliability(confidence, right, predictions, gold, task),
    )


def _noise(labels: pd.Series, true: pd.Series, weight: pd.Series | None = None) -> float:
    has_both = (labels.notna() & true.notna()).to_numpy()
    wrong = labels.to_numpy()[has_both] != true.to_numpy()[has_both]
    weights = np.ones(len(wrong)) if weight is None else weight.to_numpy()[has_both]
    return float(np.average(wrong, weights=weights)) if weights.sum() > 0 else float("nan")


def _class_row(name: str, decisions: pd.DataFrame, true: pd.Series) -> dict[str, object]:
    """Counts and noise of the labels of one class, and the recall of its items."""
    before, after = decisions["label"] == name, decisions["train_label"] == name
    dropped = before & ~decisions["keep"]
    is_class = true == name
    labelled = decisions["label"].notna() & is_class
    trained = decisions["train_label"].notna() & is_class
    return {
        "class": name,
        "n_before": int(before.sum()),
        "n_dropped": int(dropped.sum()),
        "n_after": int(after.sum()),
        "items_dropped": decisions["item_id"][dropped].nunique(),
        "known_before": int((before & true.notna()).sum()),
        "known_dropped": int((dropped & true.notna()).sum()),
        "known_after": int((after & true.notna()).sum()),
        "n_gold": int(is_class.sum()),
        "kept_fraction": float(decisions["keep"][before].mean()) if before.any() else np.nan,
        "noise_before": _noise(decisions["label"][before], true[before]),
        "noise_after": _noise(decisions["train_label"][after], true[after]),
        "dropped_precision": _noise(decisions["label"][dropped], true[dropped]),
        "recall_before": float(before[labelled].mean()) if labelled.any() else np.nan,
        "recall_after": float(after[trained].mean()) if trained.any() else np.nan,
    }


def _reasons(decisions: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row a reason to drop a label, after the labels that were kept: how many of each class, and in all."""
    dropped = ~decisions["keep"]
    why = decisions["reason"] if "reason" in decisions else pd.Series("", decisions.index)
    why = why.where(why.astype(bool), "rejected").where(dropped, "")
    counted = pd.DataFrame(
        {
            "outcome": dropped.map({True: "dropped", False: "kept"}).astype("category"),
            "reason": why.astype("category"),
            "counted": decisions["source"] == "fallback",
        }
    )
    by_reason = counted.groupby(["outcome", "reason"], observed=True)
    table = pd.DataFrame({"labels": by_reason.size(), "from_fallback": by_reason["counted"].sum()})
    for name in task.classes:
        of_class = counted.assign(counted=decisions["label"] == name)
        table[f"n:{name}"] = of_class.groupby(["outcome", "reason"], observed=True)["counted"].sum()
    rows = table.reset_index().astype({"outcome": object, "reason": object})
    return rows.sort_values(["outcome", "labels"], ascending=False, kind="stable", ignore_index=True)


def _by_view(votes: pd.DataFrame, decisions: pd.DataFrame, gold: pd.Series, task: Task) -> pd.DataFrame:
    """Noise before the filter (of all votes) and after it (of those on kept items), class shares, calibration.

    An item that only some folds keep counts after the filter with the share of the folds that do.
    """
    kept = decisions.groupby("item_id")["keep"].mean()
    rows = []
    columns = ["annotator", "view", "item_id", "label", "confidence"]
    for (annotator, view), of_view in votes[columns].groupby(["annotator", "view"], sort=False):
        true, weight = of_view["item_id"].map(gold), of_view["item_id"].map(kept)
        label = of_view["label"]
        row: dict[str, object] = {
            "annotator": annotator,
            "view": view,
            "n": len(of_view),
            "without_label": int(label.isna().sum()),
            "noise": _noise(label, true),
            "noise_after": _noise(label, true, weight),
        }
        for name in task.classes:
            of_class = label == name
            row[f"noise:{name}"] = _noise(label[of_class], true[of_class])
            row[f"noise_after:{name}"] = _noise(label[of_class], true[of_class], weight[of_class])
            row[f"share:{name}"] = float((label.dropna() == name).mean()) if label.notna().any() else np.nan
        confidence, right = _confidence(of_view["confidence"], label, true)
        row["aurc"] = calibration.aurc(calibration.risk_coverage(confidence, ~right))
        row["ece"] = calibration.expected_calibration_error(confidence, right)
        row["brier"] = calibration.brier(confidence, right)
        rows.append(row)
    return pd.DataFrame(rows)


def _confidence(confidence: pd.Series, labels: pd.Series, true: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Confidences (float) and whether the labels are right (bool), of the labels that have confidence and gold.

    Empty where every confidence is 1: the annotators then gave no confidence.
    """
    has_all = (labels.notna() & true.notna() & confidence.notna()).to_numpy()
    values = confidence.to_numpy(dtype=float)[has_all]
    if (values == 1).all():
        has_all, values = np.zeros_like(has_all), values[:0]
    return values, labels.to_numpy()[has_all] == true.to_numpy()[has_all]


def _by_fold(decisions: pd.DataFrame, true: pd.Series, predictions: pd.DataFrame, gold: pd.Series) -> pd.DataFrame:
    """The labels that each fold was trained on, and the classes of its test items and predictions."""
    rows = []
    for fold, pool in decisions.groupby("fold"):
        tested = predictions[predictions["fold"] == fold]
        pool_gold, test_gold = true[pool.index], gold.reindex(tested.index)
        rows.append(
            {
                "fold": fold,
                "n_pool": len(pool),
                "n_train": int(pool["train_label"].notna().sum()),
                "noise_before": _noise(pool["label"], pool_gold),
                "noise_after": _noise(pool["train_label"], pool_gold),
                "n_test": len(tested),
                "test_error": _noise(tested["label"], test_gold),
                "classes_in_test": test_gold.nunique(),
                "classes_predicted": tested["label"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def _annotators(votes: pd.DataFrame, recorded: pd.DataFrame, gold: pd.Series, task: Task) -> pd.DataFrame:
    """Votes of every annotator on every view: how many of each class, how many without a label by status, noise."""
    key = ["stage", "annotator", "view"]
    columns = [*key, "item_id", "label", "status", "cost_usd"]
    votes = pd.concat([votes[columns], recorded.assign(stage="with the data")[columns]])
    summary = votes.groupby(key, sort=False).agg(
        items=("item_id", "nunique"), votes=("item_id", "size"), cost_usd=("cost_usd", "sum")
    )
    label_or_status = votes["label"].where(votes["label"].notna(), votes["status"])
    null = [status for status in STATUSES if status != "ok" and (votes["status"] == status).any()]
    # A class may have the name of a status.
    for column, names, rows in (("", task.classes, votes["label"].notna()), ("null:", null, votes["label"].isna())):
        counted = votes.loc[rows, key].assign(column=label_or_status[rows])
        counts = counted.groupby([*key, "column"]).size().unstack(fill_value=0)
        counts = counts.reindex(index=summary.index, columns=list(names), fill_value=0)
        summary = summary.join(counts.add_prefix(column).astype(int))
    true = votes["item_id"].map(gold)
    checked = votes[key].assign(wrong=votes["label"] != true)[votes["label"].notna() & true.notna()]
    return summary.join(checked.groupby(key)["wrong"].mean().rename("noise")).reset_index()


def _rated(
    labels: pd.Series, votes: pd.DataFrame, annotations: pd.DataFrame, gold: pd.Series, task: Task
) -> pd.DataFrame:
    """The raters to compare: every annotator on each view, the aggregated label where there are several, and gold."""
    rated = rater_agreement.ratings(pd.concat([votes, annotations]), task.classes, whole_item=WHOLE_ITEM)
    several = len(votes[["annotator", "view"]].drop_duplicates()) > 1
    for name, column, is_rater in (("aggregated", labels, several), ("gold", gold, True)):
        if is_rater:
            free_name = name if name not in rated else f"{name} (silvertune)"
            rated[free_name] = rater_agreement.codes(column.reindex(rated.index), task.classes)
    return rated


def _prevalence(
    decisions: pd.DataFrame, true: pd.Series, predictions: pd.DataFrame, gold: pd.Series, task: Task
) -> pd.DataFrame:
    """Class shares of the pool's labels before and after the filter, its gold, the test items' gold, predictions."""
    columns = {
        "labels": decisions["label"],
        "trained on": decisions["train_label"],
        "gold": true,
        "test gold": gold.reindex(predictions.index),
        "predicted": predictions["label"],
    }
    shares = {name: labels.value_counts(normalize=True).reindex(task.classes) for name, labels in columns.items()}
    table = pd.DataFrame(shares, index=pd.Index(task.classes, name="class"), dtype=float)
    filled = [name for name, labels in columns.items() if labels.notna().any()]
    table[filled] = table[filled].fillna(0.0)
    return table


def _shift(one: pd.Series, other: pd.Series) -> float:
    return float((one - other).abs().sum(skipna=False) / 2)


def _rankings(decisions: pd.DataFrame, true: pd.Series, task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How well each score ranks the wrong labels last, over all labels and over those of each class."""
    rankings, curves = [], []
    scores = {"confidence": decisions["confidence"]}
    scores |= {str(name): decisions[name] for name in decisions.columns if str(name).startswith("score:")}
    has_both = decisions["label"].notna() & true.notna()
    wrong = (decisions["label"] != true).to_numpy()
    for by, score in scores.items():
        if by == "confidence" and (score[has_both].dropna() == 1).all():
            continue
        for of in ("all", *task.classes):
            chosen = has_both & score.notna() & ((decisions["label"] == of) | (of == "all"))
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
            points = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int))
            curves.append(curve.iloc[points].assign(by=by, of=of))
    columns = ["by", "of", "n", "errors", "thresholds", "aurc", "aurc_random", "aurc_best"]
    curve_columns = ["threshold", "coverage", "risk", "by", "of"]
    all_curves = pd.concat(curves) if curves else pd.DataFrame(columns=curve_columns)
    return pd.DataFrame(rankings, columns=columns), all_curves[["by", "of", "threshold", "coverage", "risk"]]


def _reliability(
    confidence: np.ndarray, right: np.ndarray, predictions: pd.DataFrame, gold: pd.Series, task: Task
) -> pd.DataFrame:
    """Bins of confidence: of the labels, and of the predictions' highest probability (as for `test/ece`)."""
    tested = predictions[gold.index.get_indexer(predictions.index) >= 0]
    probs = tested[prob_columns(task.classes)].to_numpy(dtype=float)
    likeliest = np.asarray(task.classes, dtype=object)[probs.argmax(axis=1)]
    parts = {
        "labels": (confidence, right),
        "predictions": (probs.max(axis=1), likeliest == gold.reindex(tested.index).to_numpy()),
    }
    return pd.concat(
        [calibration.reliability(*part).assign(of=name) for name, part in parts.items()], ignore_index=True
    )[["of", "low", "high", "n", "confidence", "accuracy"]]


def tables(quality: Report) -> dict[str, pd.DataFrame]:
    """List the tables of a report that are not empty.

    Args:
        quality: The report.

    Returns:
        Name -> table, with its index as columns.
    """
    filled = {name: table for name, table in vars(quality).items() if isinstance(table, pd.DataFrame) and len(table)}
    return {name: table.reset_index() if table.index.name else table for name, table in filled.items()}
