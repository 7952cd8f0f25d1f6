"""Texts of items as the prompts that a causal language model reads, each within a number of tokens."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from silvertune.errors import UserError
from silvertune.llms import answer_scores, truncation, untrusted_text
from silvertune.llms.prompts import Prompt
from silvertune.llms.shared_beginnings import SPECIMENS, alike
from silvertune.models.prompt_states import Tokens


@dataclass(frozen=True)
class PromptReader:
    """Renders prompts as labelling does, and cuts items' texts so that they fit.

    Attributes:
        tokenizer: Of the model.
        prompts: View -> the question about it.
        max_tokens: Longest prompt.
        is_cut: Whether each text that was read so far was cut, by the hash of its view and the text.
    """

    tokenizer: Any
    prompts: Mapping[str, Prompt]
    max_tokens: int
    is_cut: dict[int, bool] = field(default_factory=dict)

    def read(self, view: str, texts: Sequence[str]) -> list[str]:
        """The prompt of each text of a view, up to the place where the label's word comes.

        A text is cut where its prompt would have more than `max_tokens` tokens; the question, the examples and the
        beginning of the answer never are.

        Raises:
            UserError: The prompt of an empty text has more tokens than that.
        """
        prompts = []
        for text in texts:
            prompt, is_cut = self._rendered(view, text)
            self.is_cut[hash((view, text))] = is_cut
            prompts.append(prompt)
        return prompts

    def tokens(self, prompt: str) -> Tokens:
        """The token ids of what `read` gave."""
        return tuple(answer_scores.prompt_tokens(prompt, self.tokenizer))

    def endings(self, classes: Sequence[str]) -> tuple[Tokens, ...]:
        """The token ids of each class's word and the closing quote."""
        words = next(iter(self.prompts.values())).words
        return tuple(map(tuple, answer_scores.endings([words[name] for name in classes], self.tokenizer)))

    def prefixes(self) -> tuple[Tokens, ...]:
        """The token ids that the prompts of each view begin with, whatever the text is."""
        prefixes = []
        for view in self.prompts:
            specimens = [self.tokens(self._rendered(view, text)[0]) for text in SPECIMENS]
            prefixes.append(alike(specimens))
        return tuple(prefixes)

    def alarms(self) -> list[str]:
        """How many texts were cut, if any."""
        cut = sum(self.is_cut.values())
        if not cut:
            return []
        return [
            f"{cut} of {len(self.is_cut)} texts were cut, so that their prompts have no more than "
            f"model.max_tokens={self.max_tokens} tokens"
        ]

    def _rendered(self, view: str, text: str) -> tuple[str, bool]:
        """The prompt about a text, and whether the text is cut in it."""

        def rendered(most: int) -> tuple[str, int]:
            request = dataclasses.replace(self.prompts[view], max_item_tokens=most).request(text)
            prompt = answer_scores.prompt(request, self.tokenizer)
            return prompt, len(self.tokens(prompt))

        text_tokens = truncation.tokens(untrusted_text.cleaned(text))
        prompt, most = truncation.longest(rendered, text_tokens, self.max_tokens)
        if prompt is None:
            raise UserError(
                f"model.max_tokens={self.max_tokens}: the prompt for view {view!r} has {rendered(0)[1]} tokens without "
                f"any text of an item; want more, up to what the model reads, or a shorter task.prompts.{view}"
            )
        return prompt, most < text_tokens
