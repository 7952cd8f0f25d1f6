"""Six non-experts that do not exist: labels made from gold by a noise process, and named as simulated."""

import hashlib
import math

import pandas as pd

from silvertune import votes
from silvertune.errors import UserError, check_number, check_whole_number
from silvertune.interfaces import Estimate
from silvertune.schema import Task

SKILL = (0.7, 0.85, 1.0, 1.0, 1.15, 1.3)
"""How often each of the six errs, as multiples of the panel's mean error rate."""


class SimulatedPanel:
    """A panel of six simulated non-experts, made from gold by a noise process.

    The process:

    1. *Confusable* items are all positives and a fixed random share of the others. In the paper people only see
       tables that a base model calls positive, so its figures are about those; on the rest (a list of
       abbreviations, say) people do not err. Without `task.positive` all items are confusable.
    2. On a confusable item each annotator independently says "do not know" with `do_not_know`, or errs
       (any other class alike) with their own rate. The mean rate e solves (1 - e)^2 + e^2 = pairwise_agreement:
       two people agree if both are right or, of two classes, both wrong.
    3. One annotator, drawn at random, labels each item; where they do not know, an expert (gold) answers.
       The first `shared` confusable items are labelled by all six, one after the other; the first
       annotation counts, the others show how far people agree.

    Errors are independent of the item's text, which those of real people are not: it makes them easier to learn
    around. Every draw depends on `seed`, annotator and item alone, so any subset of items gets the same votes.

    Source: Kumar et al. 2024, section 4.

    Args:
        task: The classes.
        gold: Class by item_id, from which the labels are made.
        pairwise_agreement: Of two non-experts on confusable items, 0.5-1 (paper: 81.2%).
        confusable: Share of the negatives that look positive, 0-1 (paper: its base model calls 10% of the
            negatives of its test set positive).
        do_not_know: Share of answers that are "do not know", 0-1 (not in the paper).
        shared: How many confusable items all six label (paper: sets of 50).
        seed: Of all draws.

    Raises:
        UserError: There is no gold, or a setting is out of its range.
    """

    def __init__(
        self,
        task: Task,
        gold: pd.Series,
        *,
        pairwise_agreement: float,
        confusable: float,
        do_not_know: float,
        shared: int,
        seed: int,
    ) -> None:
        if gold.empty:
            raise UserError("labeler=simulated_panel: its votes are made from gold, and dataset.gold has none")
        for key, value, low in (
            ("pairwise_agreement", pairwise_agreement, 0.5),
            ("confusable", confusable, 0.0),
            ("do_not_know", do_not_know, 0.0),
        ):
            check_number(f"labeler.{key}", value, low, 1)
        check_whole_number("labeler.shared", shared, 0)
        self.task, self.gold, self.seed, self.first_only = task, gold, seed, True
        self.confusable, self.do_not_know = confusable, do_not_know
        hard = [item for item in gold.index if self._is_confusable(item)]
        # By a hash, so that which items are shared does not depend on the file's order; of all items, so that
        # it does not depend on which of them are asked about.
        self.by_all = frozenset(sorted(hard, key=lambda item: self._draw("shared", item))[:shared])
        self.error = (1 - math.sqrt(2 * pairwise_agreement - 1)) / 2

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """The panel's votes (`silvertune.votes`) on the items that have gold; the others get none."""
        items_with_gold = [item for item in items.index if item in self.gold.index]
        rows: list[dict[str, object]] = []
        for item in items_with_gold:
            start = int(self._draw("who", item) * len(SKILL))
            panel = [(start + k) % len(SKILL) for k in range(len(SKILL) if item in self.by_all else 1)]
            for person in panel:
                label = self._answer(person, item, self._is_confusable(item))
                rows.append(_row(item, f"simulated_non_expert/{person + 1}", label))
                if label is None:
                    rows.append(_row(item, "simulated_expert", self.gold[item]))
        table = votes.table(rows, self.task.classes)
        return table.drop_duplicates(["item_id", "annotator"]).reset_index(drop=True)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """Nobody is asked: nothing is spent."""
        return {}

    def _is_confusable(self, item: str) -> bool:
        if self.task.positive is None or self.gold[item] == self.task.positive:
            return True
        return self._draw("confusable", item) < self.confusable

    def _answer(self, person: int, item: str, hard: bool) -> str | None:
        right = str(self.gold[item])
        if not hard:
            return right
        if self._draw("knows", person, item) < self.do_not_know:
            return None
        if self._draw("errs", person, item) >= self.error * SKILL[person]:
            return right
        others = [name for name in self.task.classes if name != right]
        return others[int(self._draw("which", person, item) * len(others))]

    def _draw(self, *names: object) -> float:
        """A uniform number in [0, 1) that depends on the seed and on `names` alone."""
        text = "\x1f".join(map(str, (self.seed, *names)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56


def _row(item: str, annotator: str, label: str | None) -> dict[str, object]:
    return {"item_id": item, "annotator": annotator, "view": votes.WHOLE_ITEM, "label": label}
