import pandas as pd


def short_text(items: pd.DataFrame, labels: pd.DataFrame, *, longest: int) -> pd.Series:
    """Keep labels of items whose text view is short.

    Args:
        items: The training pool.
        labels: Their labels.
        longest: Characters that a text may have.

    Returns:
        True for the labels to keep, indexed by item_id.
    """
    return items["text"].str.len().fillna(0) <= longest
