"""Marks: what a person may want to look at among the items of a run, such as those whose label was dropped.

| mark | the items that have it |
| --- | --- |
| dropped | the filter drops their label |
| kept | the filter keeps their label |
| doubted | kept, and at least one of disagree, unsure, student_differs |
| disagree | the labeler's votes on them name different classes |
| unsure | the confidence of their kept label is among the lowest tenth, and below the highest |
| student_differs | a student that was not trained on them predicts another class than their label |
| wrong | their label differs from gold |
| wrong_and_confident | wrong, with a confidence of at least the median of all labels |
| trained_on_wrong | the label that a student was trained on, also if a fallback gave it, differs from gold |
| dropped_though_right | dropped, and their label is that of gold |
| prediction_wrong | the predicted class differs from gold |
| from_fallback | the fallback gave their label |
| no_label | the votes on them came to no label |

Each fold has a training pool of its own: an item has a mark if it has it in at least one of them.
"""

import numpy as np
import pandas as pd

LOWEST = 0.1
"""The share of the kept labels whose confidence is called low."""
MARKS = (
    "dropped", "kept", "doubted", "disagree", "unsure", "student_differs", "wrong", "wrong_and_confident",
    "trained_on_wrong", "dropped_though_right", "prediction_wrong", "from_fallback", "no_label",
)  # fmt: skip


def of_items(
    item_ids: pd.Index, decisions: pd.DataFrame, votes: pd.DataFrame, predictions: pd.DataFrame, gold: pd.Series
) -> pd.DataFrame:
    """Mark items.

    Args:
        item_ids: The ids of the items to mark. What is low or high is relative to all labels of the run.
        decisions: One row an item and fold, indexed by item_id: `label`, `confidence`, `keep`, `train_label`, `source`.
        votes: All votes of the run, with `stage`.
        predictions: `label` of the test items, indexed by item_id; may be empty.
        gold: The gold class, by item_id.

    Returns:
        A column of bool for each of `MARKS`, indexed like `item_ids`.
    """
    confidence = decisions["confidence"].where(decisions["label"].notna())
    kept_confidence = confidence.where(decisions["keep"])
    low = kept_confidence.quantile(LOWEST) if kept_confidence.notna().any() else np.nan
    highest, median = kept_confidence.max(), confidence.median()

    # Ids are looked up once: they are texts, and there may be a million of them.
    places = item_ids.get_indexer(decisions.index)
    is_asked = places >= 0
    of_item, confidence, places = decisions[is_asked], confidence[is_asked], places[is_asked]
    label, keep = of_item["label"], of_item["keep"].astype(bool)
    tested, tested_gold = _of(_labels(predictions), item_ids), _of(gold, item_ids)
    predicted, true = (pd.Series(one.to_numpy()[places], of_item.index) for one in (tested, tested_gold))
    wrong = label.notna() & true.notna() & (label != true)
    trained = of_item["train_label"]
    rows = {
        "dropped": label.notna() & ~keep,
        "kept": keep,
        "unsure": keep & (confidence <= low) & (confidence < highest),
        "student_differs": keep & predicted.notna() & (predicted != label),
        "wrong": wrong,
        # Where no label has a confidence, every wrong one is shown.
        "wrong_and_confident": wrong & ~(confidence < median),
        "trained_on_wrong": trained.notna() & true.notna() & (trained != true),
        "dropped_though_right": label.notna() & ~keep & (label == true),
        "from_fallback": of_item["source"] == "fallback",
        "no_label": label.isna(),
    }
    marked = {name: _at(places[is_marked.to_numpy(dtype=bool)], len(item_ids)) for name, is_marked in rows.items()}
    cast = votes[(votes["stage"] == "labeler") & votes["label"].notna()]
    voted = item_ids.get_indexer(pd.Index(cast["item_id"]))
    n_classes = cast["label"].groupby(voted).nunique()
    marked["disagree"] = _at(n_classes.index[(n_classes > 1) & (n_classes.index >= 0)].to_numpy(), len(item_ids))
    marked["prediction_wrong"] = (tested.notna() & tested_gold.notna() & (tested != tested_gold)).to_numpy(dtype=bool)
    doubts = marked["disagree"] | marked["unsure"] | marked["student_differs"]
    marked["doubted"] = marked["kept"] & doubts
    return pd.DataFrame(marked, index=item_ids)[list(MARKS)]


def _at(places: np.ndarray, n_items: int) -> np.ndarray:
    """True at these places."""
    flags = np.zeros(n_items, dtype=bool)
    flags[places] = True
    return flags


def _labels(predictions: pd.DataFrame) -> pd.Series:
    return predictions["label"] if "label" in predictions else pd.Series(dtype=object)


def _of(values: pd.Series, index: pd.Index) -> pd.Series:
    """The value of each item as objects; None where there is none."""
    values = values[values.index.isin(index)]
    return values[~values.index.duplicated()].astype(object).reindex(index)
