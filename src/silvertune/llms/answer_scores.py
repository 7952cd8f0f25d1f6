"""How likely a causal language model's answers are: the prompt it reads, and the score of each word that may follow.

Labelling and tuning both go through here, so that what is tuned is what predicts. The answer is begun for the model, up
to the label's word, and each word's log probability there is taken: the mean over its tokens and the closing quote, so
that longer words are not at a disadvantage. The probabilities of the words are the softmax of these scores.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from silvertune.errors import UserError
from silvertune.llms.interface import Request

if TYPE_CHECKING:
    import torch

OPENING = '{"label": "'
"""The beginning of the answer, after which the label's word comes."""


def prompt(request: Request, tokenizer: Any) -> str:
    """The text that a model reads, up to the place where the label's word comes.

    Args:
        request: What is asked.
        tokenizer: Its chat template puts the turns together; without one, blank lines stand between them.
    """
    turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    if tokenizer.chat_template is None:
        return "\n\n".join(turn["content"] for turn in turns) + "\n\n" + OPENING
    return _templated(turns, tokenizer) + OPENING


def prompt_tokens(text: str, tokenizer: Any) -> list[int]:
    """The token ids of what `prompt` gave."""
    special = tokenizer.chat_template is None  # a template writes the special tokens itself
    ids: list[int] = tokenizer(text, add_special_tokens=special)["input_ids"]
    # A tokenizer that ends what it reads with a mark of its own would end the answer before it began.
    return ids[:-1] if special and ids and ids[-1] == tokenizer.eos_token_id else ids


def endings(words: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """The token ids of each word and the closing quote.

    Raises:
        UserError: A word has no tokens of its own, or two words have the same: they can't be told apart.
    """
    quote = tokenizer('"', add_special_tokens=False)["input_ids"]
    word_by_tokens: dict[tuple[int, ...], str] = {}
    for word in words:
        tokens = tuple(tokenizer(f'{word}"', add_special_tokens=False)["input_ids"])
        if not tokens or list(tokens) == quote:
            raise UserError(
                f"task.answers: the model's tokenizer makes nothing of the word {word!r}; want another word for it"
            )
        if (other := word_by_tokens.setdefault(tokens, word)) != word:
            raise UserError(
                f"task.answers: {other!r} and {word!r} are the same tokens to the model's tokenizer; want words that "
                "it tells apart"
            )
    return [list(tokens) for tokens in word_by_tokens]


def scores(
    network: Any,
    prompts: Sequence[Sequence[int]],
    endings: Sequence[Sequence[int]],
    *,
    cache: bool = True,
    begun: tuple[int, Any] = (0, None),
) -> "torch.Tensor":
    """The score of each ending after each prompt; gradients flow where they are on.

    Args:
        network: A causal language model of transformers.
        prompts: Token ids of each prompt, none empty.
        endings: Token ids of each ending, none empty.
        cache: Read a prompt once for all endings, and keep its keys and values; else read it once for each ending,
            which is what gradient checkpointing needs.
        begun: How many of the first tokens of each prompt the network has read, and their keys and values in a cache
            for all rows, which is filled further. A network with windows then takes prompts of one length only.

    Returns:
        Mean log probability per token, (prompts, endings) float32. The same in any batch but for rounding.
    """
    return _after_one_reading(network, prompts, endings, *begun) if cache else _in_rows(network, prompts, endings)


def _after_one_reading(
    network: Any, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[int]], begun: int, read_before: Any
) -> "torch.Tensor":
    import torch

    many, width = len(endings), max(map(len, endings))
    ids, is_read = left_padded([prompt[begun:] for prompt in prompts], network.device)
    mask = torch.cat([is_read.new_ones(len(prompts), begun), is_read], dim=1)
    ends, is_token = right_padded(endings, network.device)
    read = network(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask)[:, begun:],
        past_key_values=read_before,
        use_cache=begun > 0 or width > 1,
        **only_last(network, 1),
    )
    by_token = read.logits[:, -1].float().log_softmax(-1)[:, ends[:, 0]][..., None]
    if width > 1:
        inputs = continued(mask, endings, read.past_key_values)
        rest = network(**inputs).logits.float().log_softmax(-1)
        next_tokens = ends[:, 1:].repeat(len(prompts), 1)[..., None]
        further = rest.gather(-1, next_tokens)[..., 0].view(len(prompts), many, width - 1)
        by_token = torch.cat([by_token, further], dim=-1)
    means: torch.Tensor = (by_token * is_token).sum(-1) / is_token.sum(-1)
    return means


def continued(mask: "torch.Tensor", endings: Sequence[Sequence[int]], read_before: Any) -> dict[str, Any]:
    """What a network takes to go on from prompts that it has read, with each ending but for its last token.

    Args:
        mask: Attention mask of the prompts, (prompts, tokens), 0 where they are padded.
        endings: Token ids of each ending, some of them more than one token long.
        read_before: Keys and values of the prompts, which are repeated in place for each ending.

    Returns:
        The network's inputs, a row for each prompt and ending, padded on the right.
    """
    import torch

    ends, is_token = right_padded([ending[:-1] for ending in endings], mask.device)
    read_before.batch_repeat_interleave(len(endings))
    after = torch.cat([mask.repeat_interleave(len(endings), 0), is_token.repeat(len(mask), 1)], dim=1)
    return {
        "input_ids": ends.repeat(len(mask), 1),
        "attention_mask": after,
        "position_ids": positions(after)[:, mask.shape[1] :],
        "past_key_values": read_before,
        "use_cache": True,
    }


def _in_rows(network: Any, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[int]]) -> "torch.Tensor":
    import torch

    ids, mask = left_padded([[*tokens, *ending[:-1]] for tokens in prompts for ending in endings], network.device)
    width = max(map(len, endings))
    read = network(
        input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False, **only_last(network, width)
    )
    log_probs = read.logits[:, -width:].float().log_softmax(-1).unflatten(0, (len(prompts), len(endings)))
    means = []
    for number, ending in enumerate(endings):
        following = torch.tensor(ending, device=network.device).expand(len(prompts), -1)[..., None]
        means.append(log_probs[:, number, -len(ending) :].gather(-1, following)[..., 0].mean(-1))
    return torch.stack(means, dim=1)


def left_padded(rows: Sequence[Sequence[int]], device: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    """Token ids, each row ending in the last place, and their attention mask; both (rows, longest)."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def begin(network: Any, beginning: Sequence[int], rows: int) -> tuple[int, Any]:
    """Read what some prompts begin with, once for all of them; gradients flow where they are on.

    Returns:
        What `scores` takes as `begun` for so many prompts.
    """
    ids, mask = left_padded([beginning], network.device)
    read = network(
        input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=True, **only_last(network, 1)
    )
    read.past_key_values.batch_repeat_interleave(rows)
    return len(beginning), read.past_key_values


def positions(mask: "torch.Tensor") -> "torch.Tensor":
    """The place of each token in its text, from 0, whatever is padded before it."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def right_padded(rows: Sequence[Sequence[int]], device: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    """Token ids, each row beginning in the first place, and which are tokens; both (rows, longest)."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([list(row) + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def only_last(network: Any, count: int) -> dict[str, int]:
    """Has the network compute logits of the last tokens alone, where it can: a vocabulary is larger than a layer."""
    return {"logits_to_keep": count} if "logits_to_keep" in _parameter_names(type(network).forward) else {}


@lru_cache(maxsize=8)
def _parameter_names(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _templated(turns: list[dict[str, str]], tokenizer: Any) -> str:
    import jinja2

    render = partial(tokenizer.apply_chat_template, add_generation_prompt=True, tokenize=False)
    try:
        return str(render(turns))
    except jinja2.TemplateError:  # some templates know no system turn
        first = {"role": "user", "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
        return str(render([first, *turns[2:]]))
