"""A zero-shot labeler: each view goes to the class whose description it is most like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune import votes
from silvertune.encoders.encoder import Encoder
from silvertune.errors import UserError, check_number
from silvertune.interfaces import Estimate
from silvertune.items import chosen_views
from silvertune.schema import Task


class ZeroShot:
    """Labels each view by the cosine similarity of its embedding to the task's class descriptions.

    A class has the similarity of its nearest description. The label is the class with the highest; no threshold is
    chosen on anything. Source: zero-shot text classification by embedding, Yin et al. 2019, "Benchmarking zero-shot
    text classification: datasets, evaluation and entailment approach", section 4.

    Args:
        task: Its `descriptions` have at least one sentence a class.
        cache: Folder where embeddings are kept.
        encoder: Embeds the texts.
        views: The views to vote on; null is all.
        temperature: Above 0. `prob:<class>` is the softmax of similarity / temperature, and the confidence is that of
            the label. It orders the items; **it is not calibrated**, and thresholds on it mean nothing by themselves.

    Raises:
        UserError: A class has no description, the temperature is not above 0, or the encoder can't be loaded.
    """

    def __init__(
        self,
        task: Task,
        cache: Path,
        *,
        encoder: Encoder,
        views: Sequence[str] | None,
        temperature: float,
    ) -> None:
        if missing := [name for name in task.classes if not task.descriptions.get(name)]:
            raise UserError(
                f"labeler=zero_shot: task.descriptions has no sentence for {', '.join(missing)}: say in one or "
                f"more what belongs to each class of task {task.name!r}"
            )
        check_number("labeler.temperature", temperature, above=True)
        encoder.check()
        self.task, self.cache, self.encoder = task, cache, encoder
        self.views, self.temperature = views, temperature

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """Vote on items.

        Args:
            items: Indexed by item_id, a column a view (`silvertune.items`).

        Returns:
            One vote a view of each item; a view that the item lacks gets an abstention (`silvertune.votes`).
        """
        chosen = chosen_views(items, self.views, "labeler.views")
        pairs: list[tuple[str, str, Any]] = [(i, view, items.at[i, view]) for i in items.index for view in chosen]
        texts = list(dict.fromkeys(text for _, _, text in pairs if text is not None))
        descriptions = [(name, text) for name in self.task.classes for text in self.task.descriptions[name]]
        vectors = self.encoder.embed(texts, self.cache, queries=[text for _, text in descriptions])
        by_description = vectors[: len(texts)] @ vectors[len(texts) :].T
        class_number = np.array([self.task.classes.index(name) for name, _ in descriptions])
        by_class = [by_description[:, class_number == k].max(axis=1) for k in range(len(self.task.classes))]
        similarity = np.stack(by_class, axis=1)
        odds = np.exp((similarity - similarity.max(axis=1, keepdims=True)) / self.temperature)
        probs_by_text = dict(zip(texts, odds / odds.sum(axis=1, keepdims=True), strict=True))
        rows: list[dict[str, object]] = []
        for item, view, text in pairs:
            row: dict[str, object] = {"item_id": item, "annotator": "zero_shot", "view": view, "label": None}
            if text is not None:
                probs = probs_by_text[text]
                best = int(probs.argmax())
                row |= {"label": self.task.classes[best], "confidence": float(probs[best])}
                row |= dict(zip(votes.prob_columns(self.task.classes), map(float, probs), strict=True))
            rows.append(row)
        return votes.table(rows, self.task.classes, probs=True)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """The encoder reads each text once; see `silvertune.interfaces.Labeler`."""
        texts = [text for view in chosen_views(items, self.views, "labeler.views") for text in items[view].dropna()]
        stored = self.encoder.stored(texts, self.cache)
        return {"zero_shot": Estimate(calls=float(len(texts)), stored=float(stored))}
