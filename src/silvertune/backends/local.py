"""Tuning in this process."""

from collections.abc import Iterator, Sequence
from typing import Any

from silvertune.errors import UserError
from silvertune.interfaces import CheckResult, Estimate, TrainingSet, Tuned


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
        """Tune the model on each set when its result is read: one set at a time.

        Yields:
            The tuned models, in the order of the sets.
        """
        for training_set in sets:
            yield Tuned(model.fit(training_set.train, training_set.validation, training_set.seed))
