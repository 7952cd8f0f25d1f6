"""A digest of the labels that a run trains on: two runs with the same one were tuned on the same labels."""

import hashlib
import json

import pandas as pd


def digest(decisions: pd.DataFrame) -> str:
    """Make a digest of the labels that a run trains on.

    Args:
        decisions: One row an item and fold, indexed by item_id: `train_label`, `weight`, `fold`.

    Returns:
        SHA-256 of fold, item, label and weight of each, sorted; hexadecimal.
    """
    content = hashlib.sha256()
    rows = decisions[["fold", "train_label", "weight"]].rename_axis("item_id").reset_index()
    for fold, pool in rows[rows["train_label"].notna()].groupby("fold"):
        by_item = pool.sort_values("item_id")
        for row in zip(by_item["item_id"], by_item["train_label"], by_item["weight"].astype(float), strict=True):
            content.update(f"{json.dumps([fold, *row])}\n".encode())
    return content.hexdigest()
