"""A rehearsal: aggregations and filters look at no votes, and say what they have against their settings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd

from silvertune import votes
from silvertune.errors import UserError
from silvertune.evidence import evidence
from silvertune.evidence.computed import Resources
from silvertune.items import Data
from silvertune.schema import Task


@contextmanager
def only_user_errors() -> Iterator[None]:
    """A part of the user's may well fail on nothing, and that is no mistake: only a UserError counts."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        return


def of_filters(
    filters: Sequence[evidence.BoundFilter],
    task: Task,
    data: Data,
    bind: Callable[..., list[evidence.BoundFilter]],
    resources: Resources,
) -> None:
    """Let each filter decide about no items.

    Args:
        filters: The filters of a chain, each asked by itself.
        task: The task.
        data: The data, of which filters may ask what does not depend on votes.
        bind: What binds the filters that another one names.
        resources: What evidence is computed with.

    Raises:
        UserError: A filter refuses its settings.
    """
    nothing = votes.table([], task.classes)
    about = evidence.Evidence(
        items=data.items.iloc[:0],
        votes=nothing,
        labels=pd.DataFrame({"label": [], "confidence": [], "n_votes": []}, index=data.items.index[:0]),
        task=task,
        annotations=nothing,
        item_ids=data.items.index,
        training=data.training_items,
        gold=data.gold.iloc[:0],
        seed=0,
        bind=bind,
        resources=resources,
    )
    for bound in filters:
        with only_user_errors():
            evidence.decide([bound], about)
