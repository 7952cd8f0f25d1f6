"""Tuning in this process.

Arms often train on the same labels: a filter that drops none gives what no filter gives. The models that a process
tuned last are kept, so that it does not tune twice on the same rows.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import pandas as pd

from silvertune.errors import UserError
from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet, Tuned

KEPT = 20
"""Tuned models that a process keeps, all of the same settings: those of some folds and arms."""


class Local:
    """Runs the model's own `fit(train, validation, seed)`, one training set after the other."""

    def check(self, model: Any) -> None:
        """Look whether the model has a `fit`.

        Raises:
            UserError: It has none.
        """
        if not callable(getattr(model, "fit", None)):
            raise UserError(
                f"backend=local can't tune model {type(model).__name__}: it has no fit(train, validation, seed); "
                "choose a model that is tuned on this machine, such as model=tfidf_logreg"
            )

    def probe(self, model: Any) -> list[CheckResult]:
        """One result: there is nothing to reach."""
        return [CheckResult("tunes in this process", True)]

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate:
        """Tuning here costs no dollars."""
        return Estimate(calls=float(len(sets)))

    def tune(self, model: Any, sets: Sequence[TrainingSet]) -> Iterator[Tuned]:
        """Tune the model on each set when its result is read: one set at a time, and on no rows twice.

        Yields:
            The tuned models, in the order of the sets.
        """
        again = 0
        for training_set in sets:
            content = _content(model, training_set)
            predictor = _LAST_TUNED.get(content)
            if predictor is None:
                predictor = model.fit(training_set.train, training_set.validation, training_set.seed)
                _LAST_TUNED.keep(content, predictor)
            else:
                again += 1
            yield Tuned(predictor)
        if again:
            print(
                f"silvertune: {again} of {len(sets)} models were tuned on the same labels before, in this process, and "
                "are used again",
                file=sys.stderr,
            )


@dataclass
class _LastTuned:
    """The models that this process tuned last, by their settings and by what they were tuned on."""

    settings: str = ""
    by_content: dict[str, Predictor] = field(default_factory=dict)

    def get(self, content: tuple[str, str] | None) -> Predictor | None:
        """The model of this content (of `_content`), if it is kept."""
        if content is None or content[0] != self.settings:
            return None
        return self.by_content.get(content[1])

    def keep(self, content: tuple[str, str] | None, predictor: Predictor) -> None:
        """Keep a model, and let go of the oldest where there are too many; without a content none is kept."""
        if content is None:
            return
        settings, digest = content
        if settings != self.settings:  # the networks of two bases may not fit into memory together
            self.settings, self.by_content = settings, {}
        while len(self.by_content) >= KEPT:
            del self.by_content[next(iter(self.by_content))]
        self.by_content[digest] = predictor


_LAST_TUNED = _LastTuned()


def _content(model: Any, training_set: TrainingSet) -> tuple[str, str] | None:
    """What decides a tuned model: its settings, and a digest of rows and seed; None where that can't be told.

    A model that is no dataclass may have settings that it does not show. `TrainingSet.key` is the same for values that
    are alike and is read by rows, which for a million of them takes as long as tuning; this is read by columns.
    """
    if not is_dataclass(model):
        return None
    digest = hashlib.sha256(str(training_set.seed).encode())
    try:
        for rows in (training_set.train, training_set.validation):
            digest.update(repr([len(rows), *map(str, rows.columns)]).encode())
            digest.update(pd.util.hash_pandas_object(rows.index).to_numpy().tobytes())
            for name in rows.columns:
                digest.update(pd.util.hash_pandas_object(rows[name], index=False).to_numpy().tobytes())
    except TypeError:  # a column of lists, say
        return None
    return f"{model!r}\n{training_set.settings}", digest.hexdigest()
