from collections.abc import Mapping

import pandas as pd

from silvertune import votes
from silvertune.interfaces import Estimate
from silvertune.schema import Task


class KeywordLabeler:
    """Votes for the first class one of whose words stands in the text view; abstains where none does."""

    def __init__(self, task: Task, *, words: Mapping[str, list[str]]) -> None:
        self.task = task
        self.words = words

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """One vote an item."""
        rows = [
            {"item_id": item, "annotator": "keywords", "view": "text", "label": self._class_of(text or "")}
            for item, text in items["text"].items()
        ]
        return votes.table(rows, self.task.classes)

    def _class_of(self, text: str) -> str | None:
        return next((name for name, words in self.words.items() if any(word in text.lower() for word in words)), None)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """Nobody is asked."""
        return {}
