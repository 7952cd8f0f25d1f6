"""What people answer, wherever they are asked: their answers by item, and the votes that these are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from silvertune import votes
from silvertune.datasets.item_ids import matched
from silvertune.datasets.label_values import Meaning, NoLabel
from silvertune.datasets.values import is_null
from silvertune.errors import UserError
from silvertune.interfaces import Estimate


@dataclass(frozen=True)
class Answer:
    """What one person says of one item.

    Attributes:
        item: The item_id, as it is written where people answer.
        annotator: Who answers, as votes name them.
        label: The class; `NoLabel.ABSTAINED`: the person looked and does not know; `NoLabel.NOTHING`: nothing yet.
        texts: View -> the text that the person sees.
        place: File and row or task, for messages.
    """

    item: str
    annotator: str
    label: Meaning
    texts: Mapping[str, object]
    place: str


Answers = Mapping[str, Mapping[str, str | None]]
"""Item -> annotator -> class, None where the annotator abstains."""


def by_item(
    answers: Sequence[Answer],
    items: pd.DataFrame,
    item_ids: pd.Index | None,
    texts_of: Callable[[str], Mapping[str, object]],
) -> Answers:
    """The answers about some items.

    Args:
        answers: The answers.
        items: The items.
        item_ids: The ids of the dataset, by which answers are matched with items; None: those of `items`.
        texts_of: Item -> the text that people have to see, by view.

    Returns:
        Item -> annotator -> class or None. An item that people are asked about, and nobody has answered yet, has no
        annotators; one that they are not asked about is not there.

    Raises:
        UserError: An answer is about an item that the dataset does not have, or was given to another text; or somebody
            answers twice.
    """
    matches = matched([answer.item for answer in answers], items.index if item_ids is None else item_ids)
    labels: dict[str, dict[str, str | None]] = {}
    places: dict[tuple[str, str], str] = {}
    for answer in answers:
        item, who = matches.get(answer.item), answer.annotator
        if item is None and item_ids is not None and answer.label is not NoLabel.NOTHING:
            raise UserError(
                f"{answer.place}: the dataset has no item {answer.item!r} (its ids are such as {str(item_ids[0])!r}); "
                "want answers about these data, with the item_id as it was written out"
            )
        if item is None or item not in items.index:
            continue
        if (item, who) in places:
            raise UserError(
                f"{answer.place}: annotator {who} answers item {item!r} again, first in {places[item, who]}; want one "
                "answer by each annotator: delete the other, or the file that is out of date"
            )
        places[item, who] = answer.place
        labels_of_item = labels.setdefault(item, {})
        if answer.label is not NoLabel.NOTHING:
            _check_texts(answer, item, texts_of(item))
            labels_of_item[who] = answer.label if isinstance(answer.label, str) else None
    return labels


def _check_texts(answer: Answer, item: str, texts: Mapping[str, object]) -> None:
    """Raise UserError where a person saw another text than the item has."""
    for view, text in texts.items():
        if view in answer.texts and _words(answer.texts[view]) != _words(text):
            raise UserError(
                f"{answer.place}: the answer was given to another {view} of item {item!r} than the data have; want "
                f"answers about these data, with the {view} as it was written out"
            )


def _words(text: object) -> list[str]:
    """What a spreadsheet or a tool leaves of a text: its words, but not its kinds of space and line ends."""
    return [] if is_null(text) else str(text).split()


def unanswered(answers: Answers, item_ids: Iterable[str]) -> list[str]:
    """The items that nobody has answered."""
    return [item for item in item_ids if not answers.get(item)]


def estimate(answers: Answers, item_ids: Iterable[str], annotator: str, cost_usd: float) -> dict[str, Estimate]:
    """What is to be answered at most: each item that has no answer yet, once.

    Args:
        answers: The answers that there are.
        item_ids: The items to ask about.
        annotator: Who is asked.
        cost_usd: What one answer costs, dollars.
    """
    n_unanswered = len(unanswered(answers, item_ids))
    return {annotator: Estimate(calls=float(n_unanswered), dollars=n_unanswered * cost_usd)}


def table(answers: Answers, item_ids: Iterable[str], classes: Sequence[str], cost_usd: float) -> pd.DataFrame:
    """The answers as votes.

    Args:
        answers: The answers.
        item_ids: Which items, in the order of the votes.
        classes: The task's classes.
        cost_usd: What one answer costs, dollars.

    Returns:
        A votes table (`silvertune.votes`), one vote an item and annotator, annotators by name.
    """
    rows = [
        {"item_id": item, "annotator": annotator, "view": votes.WHOLE_ITEM, "label": label, "cost_usd": cost_usd}
        for item in item_ids
        for annotator, label in sorted(answers[item].items())
    ]
    return votes.table(rows, classes)
