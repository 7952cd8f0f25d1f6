import pandas as pd

from silvertune.schema import Task
from silvertune.votes import none_if_null


def unanimous(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The label that all votes of an item give; no label where they differ. Confidence: 1."""
    with_label = votes[votes["label"].notna()]
    by_item = with_label.groupby("item_id")["label"]
    ids = pd.Index(votes["item_id"].unique(), name="item_id", dtype=object)
    label = by_item.first().where(by_item.nunique() == 1).reindex(ids)
    return pd.DataFrame(
        {
            "label": none_if_null(label),
            "confidence": label.notna().astype(float).where(label.notna()),
            "n_votes": by_item.size().reindex(ids, fill_value=0).astype(int),
        }
    )
