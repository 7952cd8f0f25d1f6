from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from silvertune.errors import UserError
from silvertune.interfaces import CheckResult, Estimate, TrainingSet, Tuned


class Processes:
    """Tunes on several training sets at a time, each in a process of its own.

    Args:
        workers: Processes at a time.
    """

    not_in_identity = frozenset({"workers"})

    def __init__(self, *, workers: int) -> None:
        self.workers = workers

    def check(self, model: Any) -> None:
        """Raises UserError where the model has no `fit`."""
        if not callable(getattr(model, "fit", None)):
            raise UserError(f"backend=processes can't tune model {type(model).__name__}: it has no fit")

    def probe(self, model: Any) -> list[CheckResult]:
        """Nothing has to be reached."""
        return [CheckResult(f"tunes in {self.workers} processes", True)]

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate:
        """Nothing is paid for."""
        return Estimate(calls=float(len(sets)))

    def tune(self, model: Any, sets: Sequence[TrainingSet]) -> Iterator[Tuned]:
        """Tune on all sets at once, and hand on the results in their order."""
        with ProcessPoolExecutor(self.workers) as pool:
            fits = [pool.submit(model.fit, each.train, each.validation, each.seed) for each in sets]
            yield from (Tuned(fit.result()) for fit in fits)
