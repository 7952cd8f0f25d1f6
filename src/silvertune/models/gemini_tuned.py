"""A Gemini model, tuned by Google on the answers to the questions that an LLM labels with (`backend=vertex`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from silvertune.errors import UserError, check_choice, check_number, check_whole_number
from silvertune.interfaces import TrainingSet
from silvertune.items import chosen_views
from silvertune.llms import prompts
from silvertune.llms.gemini import Gemini
from silvertune.llms.prompts import Prompt
from silvertune.llms.questions import StorePlace
from silvertune.models import gemini_examples
from silvertune.models.gemini_predictor import PROBABILITIES, GeminiPredictor
from silvertune.schema import Task

ADAPTER_SIZES = (1, 2, 4, 8, 16)
"""Source: cloud.google.com, "About supervised fine-tuning for Gemini models", read in November 2026."""


@dataclass(frozen=True)
class GeminiTuned:
    """What to tune, and how the tuned model is asked. Every view of an item is an example.

    Attributes:
        task: Its `prompts`, `answers` and `examples` (filled by the run).
        cache: Folder of the answer store, unless `store` names another (filled by the run).
        base_model: The Gemini model that is tuned.
        views: The views to read; null is all.
        prompt: The name of the question, where the task has several for a view; else null.
        max_item_tokens: Longer texts are cut (`silvertune.llms.truncation`); questions and answers never are.
        epochs: How often the examples are gone through, from 1. Each is paid for.
        adapter_size: Rank of the adapter: 1, 2, 4, 8 or 16.
        learning_rate_multiplier: Of Google's own learning rate for the model, above 0.
        weights: What becomes of items of different weights, which Gemini's tuning does not know: `refuse` them, or
            `repeat` examples in proportion to their weights. Items of weight 0 are left out.
        most_copies: So often stands an example of the greatest weight where examples are repeated, from 1.
        soft_labels: Imitate distributions (`prob:<class>`) by examples with each class's answer; needs weights=repeat.
        seed: What becomes of the run's seed, which Gemini's tuning does not take: `order`, it decides the order of the
            examples; `refuse`, only seed 0 is taken.
        validation_fraction: Share of the training groups set aside by the run, 0-1: Google reports the loss on them,
            and thresholds are chosen on them.
        llm: How the tuned model is asked; its `model` is the base model until there is a tuned one.
        probabilities: What the model's probabilities are: `words`, 1 for the class that is answered and 0 for others;
            `votes`, shares of `repeats` answers; `told`, what the model tells (Gemini 2.5 and earlier do, with
            llm.top_logprobs).
        repeats: How often each text is asked about; 1 unless probabilities are votes.
        store: Where the answer store is.
        budget_usd: The most that may ever be paid for the answers in the store; null: no limit.

    Raises:
        UserError: A setting is out of range, or two do not fit together.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"store", "budget_usd"})
    not_in_tuning: ClassVar[frozenset[str]] = frozenset({"llm", "probabilities", "repeats", "validation_fraction"})

    task: Task
    cache: Path
    base_model: str
    views: Sequence[str] | None
    prompt: str | None
    max_item_tokens: int
    epochs: int
    adapter_size: int
    learning_rate_multiplier: float
    weights: str
    most_copies: int
    soft_labels: bool
    seed: str
    validation_fraction: float
    llm: Gemini
    probabilities: str
    repeats: int
    store: StorePlace
    budget_usd: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.base_model, str) or not re.fullmatch(r"[\w./@-]+", self.base_model):
            raise UserError(
                f"model.base_model={self.base_model}: want the name of a model, such as gemini-3.5-flash-lite"
            )
        check_whole_number("model.max_item_tokens", self.max_item_tokens, 50)
        check_whole_number("model.epochs", self.epochs, 1)
        if self.adapter_size not in ADAPTER_SIZES:
            raise UserError(f"model.adapter_size={self.adapter_size}: want 1, 2, 4, 8 or 16")
        check_number("model.learning_rate_multiplier", self.learning_rate_multiplier, above=True)
        check_choice("model.weights", self.weights, ("refuse", "repeat"))
        check_whole_number("model.most_copies", self.most_copies, 1)
        check_choice("model.seed", self.seed, ("order", "refuse"))
        check_choice("model.probabilities", self.probabilities, PROBABILITIES)
        check_whole_number("model.repeats", self.repeats, 1)
        if self.soft_labels and self.weights != "repeat":
            raise UserError(
                "model.soft_labels=true: Gemini's tuning knows no soft labels; model.weights=repeat imitates them"
            )
        if self.repeats > 1 and self.probabilities != "votes":
            raise UserError(
                f"model.repeats={self.repeats}: want 1 with model.probabilities={self.probabilities}, or "
                "model.probabilities=votes"
            )
        if self.probabilities == "votes" and (self.repeats < 2 or self.llm.temperature == 0):
            raise UserError(
                f"model.probabilities=votes: needs model.repeats above 1 (it is {self.repeats}) and a "
                f"model.llm.temperature above 0 (it is {self.llm.temperature})"
            )
        if self.probabilities == "told" and self.llm.top_logprobs is None:
            raise UserError("model.probabilities=told: needs model.llm.top_logprobs, such as 5")
        if self.budget_usd is not None and (self.llm.price.input is None or self.llm.price.output is None):
            raise UserError(f"model.budget_usd={self.budget_usd}: needs model.llm.price, dollars per million tokens")
        prompts.words_of(self.task)
        if self.views or self.task.prompts:
            self.prompts(self.views or list(self.task.prompts))

    def prompts(self, views: Sequence[str]) -> dict[str, Prompt]:
        """View -> the question about it. Raises UserError where a view has several and `prompt` names none of them."""
        return prompts.of_student(
            self.task, views, max_item_tokens=self.max_item_tokens, name=self.prompt, key="model.prompt"
        )

    def examples(self, training_set: TrainingSet) -> tuple[list[bytes], list[bytes]]:
        """The lines of the training file and of the validation file, which has none where nothing validates.

        Raises:
            UserError: A view is missing, weights differ that can't be sent, or the seed is refused.
        """
        if self.seed == "refuse" and training_set.seed != 0:
            raise UserError(
                f"model.seed=refuse: Gemini's tuning takes no seed, and the run's is {training_set.seed}: want seed=0, "
                "or model.seed=order"
            )
        views = chosen_views(training_set.train, self.views, "model.views")
        questions, classes = self.prompts(views), list(self.task.classes)
        copies = gemini_examples.Copies(self.weights, self.soft_labels, self.most_copies)
        once = gemini_examples.Copies("refuse", False, 1)
        held_out = training_set.validation
        return (
            gemini_examples.lines(training_set.train, questions, copies, classes, training_set.seed),
            gemini_examples.lines(held_out.assign(weight=1.0), questions, once, classes, None) if len(held_out) else [],
        )

    def bytes_at_most(self, training_set: TrainingSet) -> int:
        """The size of the largest training file that any weights and labels of the set's rows can give."""
        words = prompts.words_of(self.task)
        label = max(words, key=lambda name: len(words[name].encode()))
        rows = training_set.train.assign(label=label, weight=1.0)
        once = gemini_examples.Copies("refuse", False, 1)
        size = sum(map(len, gemini_examples.lines(rows, self.prompts(self.views_of(training_set)), once, [], None)))
        rounding = len(words) if self.soft_labels else 0
        return size * (self.most_copies + rounding if self.weights == "repeat" else 1)

    def predictor(
        self, endpoint: str, views: Sequence[str], *, figures: Mapping[str, float], alarms: Sequence[str]
    ) -> GeminiPredictor:
        """What asks the tuned model.

        Args:
            endpoint: Its name: `projects/…/locations/…/endpoints/…`.
            views: The views that it was tuned on.
            figures: What was counted while it was tuned.
            alarms: What looks wrong with its tuning.
        """
        match = re.fullmatch(r"projects/([^/]+)/locations/([^/]+)/endpoints/[^/]+", endpoint)
        if match is None:
            raise UserError(f"model: {endpoint!r} is no endpoint of a tuned model")
        return GeminiPredictor(
            classes=tuple(self.task.classes),
            prompts=self.prompts(views),
            llm=replace(self.llm, model=endpoint, project=match[1], location=match[2]),
            probabilities=self.probabilities,
            repeats=self.repeats,
            store=self.store,
            cache=self.cache,
            budget_usd=self.budget_usd,
            tuning_figures=figures,
            tuning_alarms=tuple(alarms),
            base_model=self.base_model,
        )

    def views_of(self, training_set: TrainingSet) -> list[str]:
        """The views that it is tuned on."""
        return chosen_views(training_set.train, self.views, "model.views")

    def tokens_of_a_question(self, rows: pd.DataFrame) -> float:
        """About how many tokens the question about one view of an item has, on average."""
        total, number = 0.0, 0
        for view, prompt in self.prompts(chosen_views(rows, self.views, "model.views")).items():
            for text in rows[view].dropna().iloc[:200]:
                request = prompt.request(text)
                total += sum(len(turn.content.encode()) for turn in request.messages) / 3
                number += 1
        return total / max(number, 1)
