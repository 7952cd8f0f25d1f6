"""The LLM labeler: every prompt of every view of every item, asked of one LLM or several, once or repeatedly."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd

from silvertune import progress_bar
from silvertune.errors import UserError, check_whole_number
from silvertune.interfaces import CheckResult, Estimate
from silvertune.items import chosen_views, views_of
from silvertune.labelers import batches
from silvertune.llms import prompts, served_models, truncation
from silvertune.llms.answer_store import AnswerStore
from silvertune.llms.asking import ask_all
from silvertune.llms.interface import LLM, BatchedLLM, LLMTraits
from silvertune.llms.outcomes import Outcome, Outcomes
from silvertune.llms.prompts import Example
from silvertune.llms.questions import Round, StorePlace
from silvertune.schema import Task


@dataclass(frozen=True)
class FewShot:
    """Examples from the data: of each class and view the first `per_class` that `annotator` labelled, among items of
    training groups: those that `dataset.files.train` has. Groups that a fold tests are never shown."""

    annotator: str
    per_class: int


EXTRA = {"raw": object, "signs": object, "model": object, "tokens_in": int, "tokens_out": int}
"""Columns of its votes beside those of every votes table."""
_ABSTAINED = Outcome("abstained", None, None, None, "", None, "", 0, 0, 0.0)


class LLMLabeler:
    """Asks LLMs what they say of each view of each item.

    Beside the columns of every votes table: `raw` (what the LLM said), `signs` (what about the text looked like an
    attempt to steer it, or None), `model` (what the LLM called itself), `tokens_in`, `tokens_out`. `prob:<class>` and
    the confidence are the label's probability where the LLM tells it; else the confidence is what it claims, if asked.
    `cost_usd` is what the answer cost, also where it was paid for by an earlier run.

    Args:
        task: Its `prompts`, `answers` and `examples`.
        cache: Folder of the answer store, unless `store` names another.
        annotations: For `few_shot`: labels that came with the data, and the items of training groups, if any.
        training: For `few_shot`: labels that came with the data, and the items of training groups, if any.
        llm: Name -> LLM. The votes' annotator is that name, with the prompt's (`gpt/strict`) where a view has
            several.
        views: The views to ask about; null is all.
        repeats: How often each LLM is asked the same.
        reason: Have it give a short reason first.
        confidence: Have it say how sure it is.
        max_item_tokens: Longer texts are cut (`silvertune.llms.truncation`).
        budget_usd: See `AnswerStore`.
    """

    not_in_identity = frozenset({"store", "budget_usd"})

    def __init__(
        self,
        task: Task,
        cache: Path,
        annotations: pd.DataFrame,
        training: pd.DataFrame,
        *,
        llm: Mapping[str, LLM],
        views: Sequence[str] | None,
        repeats: int,
        reason: bool,
        confidence: bool,
        few_shot: FewShot | None,
        max_item_tokens: int,
        store: StorePlace,
        budget_usd: float | None,
    ) -> None:
        if not llm:
            raise UserError("labeler.llm={}: names no LLM; want labeler/llm=openai or another")
        check_whole_number("labeler.repeats", repeats, 1)
        check_whole_number("labeler.max_item_tokens", max_item_tokens, 50)
        for name, model in llm.items():
            if budget_usd is not None and (model.price.input is None or model.price.output is None):
                raise UserError(f"labeler.budget_usd={budget_usd}: needs labeler.llm.{name}.price, dollars per million "
                                "tokens; 0 where it costs nothing")  # fmt: skip
            if repeats > 1 and model.identity().get("temperature") == 0:
                raise UserError(
                    f"labeler.repeats={repeats}: every repeat would say the same at labeler.llm.{name}.temperature=0; "
                    "want a temperature above it"
                )
        prompts.words_of(task)
        self.task, self.llm, self.views, self.repeats = task, dict(llm), views, repeats
        self.reason, self.confidence, self.max_item_tokens = reason, confidence, max_item_tokens
        self.examples = _examples(task, few_shot, annotations, training)
        self.store, self.cache, self.budget_usd = store, cache, budget_usd

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """One vote per item, view, prompt, LLM and repeat; a view that the item lacks gets an abstention.

        Raises UserError where it had to stop: an unusable LLM, no budget left. What was answered is in the store.
        """
        rounds, outcomes = self._rounds(items), Outcomes()
        for name, model in self.llm.items():
            texts_of_rounds = [(round_, round_.text_by_key()) for round_ in rounds if round_.llm == name]
            stored = self._stored(texts_of_rounds)
            self._say_what_is_remembered(name, stored.statuses())
            self._say_who_answered(name, stored.models())
            outcomes.update(stored)
            missing = [
                round_.question(key, texts[key], model)
                for round_, texts in texts_of_rounds
                for key in stored.lacking(texts)
            ]
            if missing:
                store = self._open()
                asked = (
                    batches.of(model, self.store.url, self.cache, store, len(missing))
                    if _goes_by_batches(model)
                    else model
                )
                if isinstance(model, BatchedLLM) and not model.batch:
                    batches.say_what_runs_on(name, self.store.url, self.cache)
                with _named(name), _progress(name, len(missing)) as on_progress:
                    n_labelled = stored.statuses()["ok"]
                    outcomes.update(ask_all(asked, missing, store, on_progress, stored.models(), n_labelled))
        return self._votes(items.index, rounds, outcomes)

    def _stored(self, texts_of_rounds: Sequence[tuple[Round, Mapping[str, str]]]) -> Outcomes:
        with closing(self._open()) as store:
            return store.read([key for _, texts in texts_of_rounds for key in texts])

    def _say_what_is_remembered(self, name: str, statuses: Mapping[str, int]) -> None:
        without_label = {status: number for status, number in sorted(statuses.items()) if status != "ok"}
        if without_label:
            counts = ", ".join(f"{number} {status}" for status, number in without_label.items())
            print(
                f"silvertune: {name}: {sum(without_label.values())} answer(s) without a label ({counts}) are "
                "remembered from earlier and not asked again; labeler.store.remember_s=0 asks again, and so does a new "
                "start of a sweep",
                file=sys.stderr,
            )

    def _say_who_answered(self, name: str, models: Iterable[str]) -> None:
        if len(versions := sorted({served_models.version_of(model) for model in models})) > 1:
            print(
                f"silvertune: {name}: the stored answers are of {len(versions)} models, {' and '.join(versions)}: "
                f"labeler.llm.{name}.accept_model={versions[-1]} asks that one everything",
                file=sys.stderr,
            )

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """Annotator -> what labelling `items` would take at most: see `silvertune.interfaces.Labeler`."""
        rounds, estimates = self._rounds(items), {}
        for name, model in self.llm.items():
            texts_of_rounds = [(round_, round_.text_by_key()) for round_ in rounds if round_.llm == name]
            stored = self._stored(texts_of_rounds)
            rest = [
                round_.prompt.request(texts[key]) for round_, texts in texts_of_rounds for key in stored.lacking(texts)
            ]
            sent = float(sum(truncation.tokens(turn.content) for request in rest for turn in request.messages))
            received = float(len(rest) * model.max_tokens)
            limits, calls, price = model.limits, len(rest), model.price
            if _goes_by_batches(model):
                limits, price = replace(limits, requests_per_minute=None, tokens_per_minute=None), price.of_batches()
            minutes = max(calls / (limits.requests_per_minute or float("inf")),
                          (sent + received) / (limits.tokens_per_minute or float("inf")))  # fmt: skip
            estimates[name] = Estimate(
                calls=float(len(stored) + calls), stored=float(len(stored)), tokens=sent + received,
                dollars=price.of(sent, received), seconds=60 * minutes, notes=_notes(name, model, sent, received),
            )  # fmt: skip
        return estimates

    def check(self) -> list[CheckResult]:
        """What of it would not work, for `mode=check`."""
        results = [finding for model in self.llm.values() for finding in model.check()]
        try:
            with closing(self._open()) as store:
                store.spent_usd()
        except UserError as error:
            return [*results, CheckResult("answer store", False, str(error))]
        return [*results, CheckResult("answer store", True)]

    def _open(self) -> AnswerStore:
        return self.store.open(self.cache, self.budget_usd)

    def _rounds(self, items: pd.DataFrame) -> list[Round]:
        built_prompts = prompts.of(
            self.task,
            chosen_views(items, self.views, "labeler.views"),
            reason=self.reason,
            confidence=self.confidence,
            examples=self.examples,
            max_item_tokens=self.max_item_tokens,
        )
        identities = {name: model.identity() for name, model in self.llm.items()}
        return [
            Round.of(name, identity, prompt, repeat, items[prompt.view].tolist())
            for name, identity in identities.items()
            for prompt in built_prompts
            for repeat in range(self.repeats)
        ]

    def _votes(self, item_ids: pd.Index, rounds: Sequence[Round], outcomes: Outcomes) -> pd.DataFrame:
        """The votes on an item stand together, in the order of the rounds."""
        words = {word: name for name, word in prompts.words_of(self.task).items()}
        keys = [key for keys in zip(*(round_.keys for round_ in rounds), strict=True) for key in keys]
        answers, n = outcomes.columns(keys, _ABSTAINED, words), len(item_ids)
        columns: dict[str, tuple[list[Any], Any]] = {
            "item_id": ([str(item) for item in item_ids for _ in rounds], object),
            "annotator": ([round_.annotator for round_ in rounds] * n, object),
            "view": ([round_.prompt.view for round_ in rounds] * n, object),
            "repeat": ([round_.repeat for round_ in rounds] * n, int),
            "label": ([None if word is None else words[word] for word in answers["word"]], object),
            "confidence": (_confidences(answers), float),
            "status": (answers["status"], object),
            "cost_usd": (answers["cost_usd"], float),
            **{f"prob:{name}": (answers[f"prob:{word}"], float) for word, name in words.items()},
            **{name: (answers[name], kind) for name, kind in EXTRA.items()},
        }
        return pd.DataFrame({name: pd.Series(values, dtype=kind) for name, (values, kind) in columns.items()})


def _goes_by_batches(llm: LLM) -> TypeGuard[BatchedLLM]:
    return isinstance(llm, BatchedLLM) and llm.batch


def _notes(name: str, llm: LLM, sent: float, received: float) -> tuple[str, ...]:
    notes = [f"{name}: {note}" for note in LLMTraits.of(llm).notes]
    price = llm.price
    if price.input is None or price.output is None:
        notes.append(f"{name}: labeler.llm.{name}.price is not set: what it costs is not in the dollars")
    elif price.input or price.output:
        singly, by_batches = price.of(sent, received), price.of_batches().of(sent, received)
        choice = f"${by_batches:.2f} by batches (labeler.llm.{name}.batch=true), ${singly:.2f} singly; "
        notes.append(f"{name}: {choice if isinstance(llm, BatchedLLM) else ''}{price.age()}")
        notes.append(f"{name}: an answer that can't be read is asked for once more, which is not in these figures")
    return tuple(notes)


def _confidences(answers: Mapping[str, Sequence[Any]]) -> list[float | None]:
    """The probability of each label; where there is none, what the LLM claims."""
    confidences = list(answers["confidence"])
    for row, word in enumerate(answers["word"]):
        if word is None:
            confidences[row] = None
        elif (prob := answers[f"prob:{word}"][row]) is not None:
            confidences[row] = prob
    return confidences


def _examples(
    task: Task, few_shot: FewShot | None, annotations: pd.DataFrame, training: pd.DataFrame
) -> dict[str, list[Example]]:
    examples_by_view = prompts.examples_of(task)
    if few_shot is None:
        return examples_by_view
    if training.empty:
        raise UserError(
            "labeler.few_shot: examples come from training groups, and here every group is tested by some fold: give "
            "files of their own (dataset.files.train, evaluation=given), or write examples in task.examples"
        )
    annotated = annotations[(annotations["annotator"] == few_shot.annotator) & annotations["label"].notna()]
    labelled = annotated.drop_duplicates("item_id").set_index("item_id")["label"]
    for name in task.classes:
        ids = [item for item in training.index if labelled.get(item) == name]
        if len(ids) < few_shot.per_class:
            raise UserError(
                f"labeler.few_shot.per_class={few_shot.per_class}: {few_shot.annotator!r} gave {name!r} to "
                f"{len(ids)} item(s) of the training groups"
            )
        for view in views_of(training):
            texts = [text for text in training.loc[ids, view] if text is not None][: few_shot.per_class]
            examples_by_view.setdefault(view, []).extend(Example(text, name) for text in texts)
    return examples_by_view


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the name of the LLM into the keys of a message: an LLM does not know it."""
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).replace("labeler.llm.<name>", f"labeler.llm.{name}")) from None


@contextmanager
def _progress(name: str, total: int) -> Iterator[Any]:
    """A bar with rate, dollars, and votes without a label; gone when it is done."""
    dollars, without = 0.0, 0
    with progress_bar.shown(f"asking {name}", total) as done:

        def on_progress(outcome: Outcome) -> None:
            nonlocal dollars, without
            dollars += outcome.cost_usd
            without += outcome.status != "ok"
            done(f"${dollars:.2f}, {without} without a label")

        yield on_progress
