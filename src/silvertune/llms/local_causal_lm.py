"""A causal language model on this machine, which scores the words of the answers instead of writing one."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from silvertune.errors import UserError
from silvertune.interfaces import CheckResult
from silvertune.llms import answer_scores
from silvertune.llms.interface import Answer, Ask, Limits, Message, Price, RejectedError, Request, UnusableError
from silvertune.llms.pretrained import Pretrained, deciding_files
from silvertune.llms.shared_beginnings import Beginning, SharedBeginnings, is_windowed

_KEY = "labeler.llm.<name>"
NOTHING = ("", "N/A", "[MASK]")
"""Texts that say nothing."""


@dataclass(frozen=True)
class LocalCausalLM:
    """A causal language model of transformers.

    The probabilities are exact (`silvertune.llms.answer_scores`), and the same in any batch but for rounding.

    Attributes:
        model: Hub id, folder, or path of a `.gguf` file; null where `package` has the file.
        revision: Of the hub's model, best a commit; null: what is there.
        gguf_file: The name of a GGUF file in the hub's repository or the folder `model`, or null.
        package: Installed registry packages that carry the parts of a GGUF file, or null.
        sha256: Of the GGUF file, hex; null trusts what is there.
        device: Null is a GPU where there is one.
        dtype: Of the weights while computing, such as float32 or bfloat16.
        batch_size: Prompts scored together.
        calibrated: Take off each word's score what it has where nothing is judged: after the same instructions and
            examples, its mean over the texts `NOTHING`. Models that are small, or not tuned to follow instructions,
            favour one word, such as the last example's. Source: Zhao et al. 2021, "Calibrate before use: improving
            few-shot performance of language models", section 5.
    """

    model: str | None
    revision: str | None
    device: str | None
    dtype: str
    batch_size: int
    gguf_file: str | None = None
    package: str | Sequence[str] | None = None
    sha256: str | None = None
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.package is not None and not isinstance(self.package, str):
            object.__setattr__(self, "package", tuple(self.package))

    @staticmethod
    def files_in_identity(folder: Path) -> list[Path]:
        """The files in the folder `model` that can change an answer."""
        return deciding_files(folder)

    @property
    def pretrained(self) -> Pretrained:
        """Its files."""
        return Pretrained(self.model, self.revision, self.gguf_file, self.package, self.sha256, _KEY)

    @property
    def price(self) -> Price:
        """Nobody is paid."""
        return Price(0.0, 0.0)

    @property
    def max_tokens(self) -> int:
        """Nothing is written."""
        return 0

    @property
    def limits(self) -> Limits:
        """Two batches at a time: one is scored while the next is gathered."""
        endless = 10.0 * 365 * 86400
        return Limits(2 * self.batch_size, None, None, endless, 0, endless, 1.0, 1.0)

    def identity(self) -> dict[str, Any]:
        """What can change its answers: the weights and how they are computed with."""
        identity = {"llm": "local_causal_lm", "model": self.pretrained.identity(), "dtype": self.dtype}
        return identity | ({"calibrated": True} if self.calibrated else {})

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        """The model in memory. Raises UnusableError where it can't be loaded."""
        scorer = _scorer(self.pretrained, self.device, self.dtype, self.calibrated)
        waiting: list[tuple[Request, asyncio.Future[Answer]]] = []
        wake = asyncio.Event()

        async def score() -> None:
            while True:
                await wake.wait()
                await asyncio.sleep(0)  # let those who are about to ask do so
                batch = waiting[: self.batch_size]
                del waiting[: self.batch_size]
                if not waiting:
                    wake.clear()
                try:
                    answers = await asyncio.to_thread(scorer.answers, [request for request, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(_failure(error))
                else:
                    for (_, future), answer in zip(batch, answers, strict=True):
                        if not future.done():
                            future.set_result(answer)

        async def ask(request: Request) -> Answer:
            if request.fields != ("label",):
                raise UnusableError(
                    f"{_KEY}: scores the words of the answers and writes nothing; want reason and confidence false"
                )
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            waiting.append((request, future))
            wake.set()
            return await future

        worker = asyncio.create_task(score())
        try:
            yield ask
        finally:
            worker.cancel()

    def check(self) -> list[CheckResult]:
        """Whether the model can be loaded."""
        try:
            _scorer(self.pretrained, self.device, self.dtype, self.calibrated)
        except UserError as error:
            return [CheckResult(f"model {self.pretrained.name}", False, str(error))]
        return [CheckResult(f"model {self.pretrained.name} loads", True)]


def _failure(error: Exception) -> Exception:
    if isinstance(error, UserError):
        return UnusableError(str(error))
    if "out of memory" in str(error).lower():
        return UnusableError(f"{_KEY}.batch_size: out of memory; want a smaller one, or labeler.max_item_tokens")
    return RejectedError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


class _Scorer:
    """A loaded model with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, name: str, *, calibrated: bool = False) -> None:
        self.model, self.tokenizer, self.name, self.calibrated = model, tokenizer, name, calibrated
        self.scores_of_nothing: dict[tuple[Message, ...], dict[str, float]] = {}
        self.longest = getattr(model.config, "max_position_embeddings", None) or 10**9
        self.beginnings = SharedBeginnings(model, tokenizer)

    def answers(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer to each request, scored in one batch."""
        prompts = [
            answer_scores.prompt_tokens(answer_scores.prompt(request, self.tokenizer), self.tokenizer)
            for request in requests
        ]
        words = list(dict.fromkeys(word for request in requests for word in request.words))
        endings = answer_scores.endings(words, self.tokenizer)
        room = self.longest - max(map(len, endings))
        fitting = [place for place, ids in enumerate(prompts) if len(ids) <= room]
        score_by_place = self._scores([(place, requests[place], prompts[place]) for place in fitting], endings)
        answers = [Answer("prompt longer than the model reads", "length", self.name, len(ids), 0) for ids in prompts]
        for place, row in score_by_place.items():
            request = requests[place]
            score_by_word = {word: row[words.index(word)] for word in request.words}
            if self.calibrated:
                of_nothing = self._scores_of_nothing(request)
                score_by_word = {word: score - of_nothing[word] for word, score in score_by_word.items()}
            best = max(score_by_word, key=lambda word: score_by_word[word])
            answers[place] = Answer(
                json.dumps({"label": best}), "stop", self.name, len(prompts[place]), 0, probs=_softmax(score_by_word)
            )
        return answers

    def _scores_of_nothing(self, request: Request) -> dict[str, float]:
        """The mean score of each word where the last turn says nothing; once for the turns before it."""
        turns = request.messages[:-1]
        if turns not in self.scores_of_nothing:
            endings = answer_scores.endings(request.words, self.tokenizer)
            asked = [replace(request, messages=(*turns, Message("user", text))) for text in NOTHING]
            prompts = [
                answer_scores.prompt_tokens(answer_scores.prompt(one, self.tokenizer), self.tokenizer) for one in asked
            ]
            rows = self._scores(
                [(place, asked[place], prompt) for place, prompt in enumerate(prompts)], endings
            ).values()
            means = [sum(scores) / len(NOTHING) for scores in zip(*rows, strict=True)]
            self.scores_of_nothing[turns] = dict(zip(request.words, means, strict=True))
        return self.scores_of_nothing[turns]

    def _scores(
        self, asked: Sequence[tuple[int, Request, list[int]]], endings: list[list[int]]
    ) -> dict[int, list[float]]:
        """The score of each ending, by place; asked: place, request and prompt. What prompts share is read once."""
        import torch

        groups: dict[tuple[int, int], list[tuple[int, list[int], Beginning | None]]] = {}
        for place, request, prompt in asked:
            beginning = self.beginnings.of(request, prompt)
            of_one_length = beginning is not None and is_windowed(self.model)
            key = (id(beginning), len(prompt) if of_one_length else 0)
            groups.setdefault(key, []).append((place, prompt, beginning))
        score_by_place: dict[int, list[float]] = {}
        with torch.inference_mode():
            for group in groups.values():
                beginning = group[0][2]
                begun = (0, None) if beginning is None else (len(beginning.tokens), beginning.repeated(len(group)))
                rows = answer_scores.scores(self.model, [prompt for _, prompt, _ in group], endings, begun=begun)
                score_by_place |= dict(zip([place for place, _, _ in group], rows.tolist(), strict=True))
        return score_by_place


def _softmax(scores: dict[str, float]) -> dict[str, float]:
    import math

    highest = max(scores.values())
    odds = {word: math.exp(value - highest) for word, value in scores.items()}
    return {word: value / sum(odds.values()) for word, value in odds.items()}


@lru_cache(maxsize=1)
def _scorer(pretrained: Pretrained, device: str | None, dtype: str, calibrated: bool) -> _Scorer:
    import torch

    try:
        network, tokenizer = pretrained.network(dtype), pretrained.tokenizer()
    except UserError as error:
        raise UnusableError(str(error)) from None
    network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return _Scorer(network, tokenizer, pretrained.name, calibrated=calibrated)
