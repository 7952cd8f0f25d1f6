"""A tuned Gemini model, asked as a labeler asks: its answers are paid for, and found again in the answer store."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune import progress_bar
from silvertune.errors import UserError
from silvertune.llms import asking
from silvertune.llms.gemini import Gemini
from silvertune.llms.interface import Limits, Price
from silvertune.llms.outcomes import Outcome, Outcomes
from silvertune.llms.prompts import Example, Prompt
from silvertune.llms.questions import Round, StorePlace
from silvertune.models import saved

PROBABILITIES = ("words", "votes", "told")
"""What stands for a probability; see `silvertune.models.GeminiTuned`."""
_LOADER = "silvertune.models.gemini_predictor.load"


@dataclass(frozen=True)
class GeminiPredictor:
    """Asks the tuned model about each view of each item.

    Attributes:
        classes: The task's.
        prompts: View -> the question about it.
        llm: The endpoint of the tuned model.
        probabilities: See `silvertune.models.GeminiTuned`.
        repeats: How often each text is asked about.
        store: Where the answer store is.
        cache: Folder of the answer store, unless `store` names another.
        budget_usd: The most that may ever be paid for the answers in the store; None: no limit.
        tuning_figures: What was counted while it was tuned.
        tuning_alarms: What looks wrong with its tuning.
        base_model: The model that was tuned.
    """

    classes: Sequence[str]
    prompts: Mapping[str, Prompt]
    llm: Gemini
    probabilities: str
    repeats: int
    store: StorePlace
    cache: Path
    budget_usd: float | None
    tuning_figures: Mapping[str, float] = field(default_factory=dict)
    tuning_alarms: Sequence[str] = ()
    base_model: str = ""
    answered: dict[str, tuple[str, float]] = field(default_factory=dict, compare=False)
    """Key of each question that was needed so far -> the answer's status, and dollars."""

    packages = ("aiohttp", "google-auth", "google-genai", "SQLAlchemy")

    @property
    def views(self) -> Sequence[str]:
        """The views that it was tuned on."""
        return tuple(self.prompts)

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Ask about every view that an item has.

        Args:
            items: Items with the views.

        Returns:
            Class probabilities as `probabilities` says, indexed by (item_id, view). A view whose answers hold no label
            has no row; `alarms` counts them.

        Raises:
            UserError: Some request got no answer, the budget is used up, or the model tells no probabilities though it
                should. What was answered is kept.
        """
        rounds = [
            Round.of("tuned", self.llm.identity(), prompt, repeat, items[view].tolist())
            for view, prompt in self.prompts.items()
            for repeat in range(self.repeats)
        ]
        outcomes = self._outcomes(rounds)
        self._refuse_unanswered(outcomes)
        self.answered.update({key: (outcome.status, outcome.cost_usd) for key, outcome in outcomes.items()})
        class_of = {word: name for name, word in next(iter(self.prompts.values())).words.items()}
        places, rows = [], []
        for view in self.prompts:
            keys_of_items = zip(*(round_.keys for round_ in rounds if round_.prompt.view == view), strict=True)
            for item, keys in zip(items.index, keys_of_items, strict=True):
                answers = [outcomes[key] for key in keys if key is not None and outcomes[key].word is not None]
                if answers:
                    places.append((item, view))
                    rows.append(self._distribution(answers, class_of))
        index = pd.MultiIndex.from_tuples(places, names=["item_id", "view"]) if places else _NOWHERE
        return pd.DataFrame(np.array(rows).reshape(-1, len(self.classes)), index=index, columns=list(self.classes))

    def _outcomes(self, rounds: Sequence[Round]) -> Outcomes:
        """The outcome of each question: the stored ones, and those that are asked for now."""
        texts_of_rounds = [(round_, round_.text_by_key()) for round_ in rounds]
        with closing(self._opened()) as store:
            outcomes: Outcomes = store.read([key for _, texts in texts_of_rounds for key in texts])
        missing = {
            key: round_.question(key, texts[key], self.llm)
            for round_, texts in texts_of_rounds
            for key in outcomes.lacking(texts)
        }
        if missing:
            with _named(), progress_bar.shown("asking the tuned model", len(missing)) as done:
                dollars = 0.0

                def on_progress(outcome: Outcome) -> None:
                    nonlocal dollars
                    dollars += outcome.cost_usd
                    done(f"${dollars:.2f}")

                n_labelled = outcomes.statuses()["ok"]
                answered = asking.ask_all(
                    self.llm, list(missing.values()), self._opened(), on_progress, outcomes.models(), n_labelled
                )
            outcomes.update(answered)
        return outcomes

    def _opened(self) -> Any:
        return self.store.open(self.cache, self.budget_usd)

    def _refuse_unanswered(self, outcomes: Outcomes) -> None:
        """A request that got no answer is no prediction: the same command asks it again."""
        number = outcomes.statuses()["api_error"]
        if number:
            reason = next(outcome.raw for outcome in outcomes.values() if outcome.status == "api_error")
            raise UserError(
                f"model: {number} of {len(outcomes)} questions to the tuned model {self.llm.model} got no answer "
                f"({reason[:200]}); what was answered is kept, and the same command asks the rest"
            )

    def _distribution(self, answers: Sequence[Outcome], class_of: Mapping[str, str]) -> list[float]:
        """The probability of each class, from the answers about one text."""
        if self.probabilities == "told":
            told = answers[0].probs
            if told is None:
                raise UserError(
                    f"model.probabilities=told: the tuned model {self.llm.model} tells no probabilities (Gemini 3 and "
                    "later do not); want model.probabilities=votes with model.repeats, or words"
                )
            probs = {class_of[word]: value for word, value in told.items()}
            return [probs.get(name, 0.0) for name in self.classes]
        counts = Counter(class_of[str(answer.word)] for answer in answers)
        return [counts[name] / len(answers) for name in self.classes]

    @property
    def ran_on(self) -> dict[str, str]:
        """What the figures depend on: the base model, and what stands for a probability."""
        meaning = {
            "words": "0 or 1, by the answered word",
            "votes": f"shares of {self.repeats} answers",
            "told": "as the model tells them",
        }
        return {"base_model": self.base_model, "probabilities": meaning[self.probabilities]}

    @property
    def figures(self) -> dict[str, float]:
        """What was counted while it was tuned, and what its answers cost, also where an earlier run paid for them."""
        dollars = sum(cost for _, cost in self.answered.values())
        return {**self.tuning_figures, "predictions": float(len(self.answered)), "predictions_usd": dollars}

    @property
    def alarms(self) -> list[str]:
        """What looks wrong with its tuning and answers, and which metrics mean little."""
        lines = list(self.tuning_alarms)
        without = Counter(status for status, _ in self.answered.values() if status != "ok")
        if without:
            counts = ", ".join(f"{number} {status}" for status, number in sorted(without.items()))
            lines.append(
                f"{sum(without.values())} of {len(self.answered)} answers of the tuned model hold no label ({counts})"
            )
        if self.probabilities != "told":
            values = "0 or 1" if self.probabilities == "words" else f"shares of {self.repeats} answers"
            lines.append(
                f"model.probabilities={self.probabilities}: probabilities are {values}, as the tuned model tells none: "
                "AUROC, AUPRC, Brier, ECE and chosen thresholds say little more than the labels do"
            )
        return lines

    def save(self, path: Path) -> None:
        """Write what `load` needs to the new folder `path`: the tuned model itself stays at Google."""
        about = {
            "classes": list(self.classes),
            "prompts": {
                view: {**dataclasses.asdict(prompt), "words": dict(prompt.words)}
                for view, prompt in self.prompts.items()
            },
            "llm": dataclasses.asdict(self.llm),
            "probabilities": self.probabilities,
            "repeats": self.repeats,
            "store": dataclasses.asdict(self.store),
            "cache": str(self.cache),
            "base_model": self.base_model,
        }
        with saved.new_folder(path, _LOADER, about):
            pass


_NOWHERE = pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"])


def load(folder: Path) -> GeminiPredictor:
    """Load what `GeminiPredictor.save` wrote.

    Its answers are kept in the answer store of the run where that is on this machine, else in the temporary folder.
    """
    about = saved.read(folder)
    llm, cache = dict(about["llm"]), Path(about["cache"])
    llm |= {"price": Price(**llm["price"]), "limits": Limits(**llm["limits"])}
    return GeminiPredictor(
        classes=tuple(about["classes"]),
        prompts={view: _prompt(content) for view, content in about["prompts"].items()},
        llm=Gemini(**llm),
        probabilities=about["probabilities"],
        repeats=about["repeats"],
        store=StorePlace(**about["store"]),
        cache=cache if cache.is_dir() else Path(tempfile.gettempdir()) / "silvertune",
        budget_usd=None,
        base_model=about["base_model"],
    )


def _prompt(content: Mapping[str, Any]) -> Prompt:
    examples = tuple(Example(**example) for example in content["examples"])
    return Prompt(**{**content, "fields": tuple(content["fields"]), "examples": examples})


@contextmanager
def _named() -> Iterator[None]:
    """Puts this model's settings into the keys of a message: an LLM does not know whom it serves."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("labeler.llm.<name>", "model.llm").replace("labeler.budget_usd", "model.budget_usd")
        raise type(error)(text) from None
