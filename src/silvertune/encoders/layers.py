"""Running only the lower, or only the upper, layers of a transformer from the hub."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def layers_of(model: Any) -> tuple[str, nn.ModuleList]:
    """Find a transformer's layers.

    Args:
        model: A network of transformers, with or without a head.

    Returns:
        The dotted name of the list of layers, and the list, the first layer first.

    Raises:
        LookupError: The network has no list with an entry for each layer, as ALBERT, whose layers share their weights.
    """
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise LookupError(f"{type(model).__name__} has no list of its {count} layers")


class _ReachedError(Exception):
    """Carries the output of the layer that was wanted out of a forward pass."""


def position_limit(model: Any) -> int | None:
    """The most tokens that a network with learned positions reads; None where it has no table of positions."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in ("position_embeddings", "wpe"):
            # RoBERTa and its like count positions from the one after padding.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def hidden_states(model: Any, layer: int, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run the lowest layers alone.

    Args:
        model: A network of transformers.
        layer: How many of the first layers run, from 1.
        inputs: What the network takes: `input_ids` and `attention_mask`, (batch, tokens); a decoder also takes
            `position_ids` and `past_key_values`, which then hold these layers' keys and values.

    Returns:
        The output of the last of these layers, (batch, tokens, width).

    Raises:
        LookupError: The network has no list of its layers, or did not run that layer.
    """

    def stop(module: nn.Module, arguments: object, output: Any) -> None:
        raise _ReachedError(output if isinstance(output, torch.Tensor) else output[0])

    hook = layers_of(model)[1][layer - 1].register_forward_hook(stop)
    try:
        model(**inputs)
    except _ReachedError as reached:
        states: torch.Tensor = reached.args[0]
        return states
    finally:
        hook.remove()
    raise LookupError(f"{type(model).__name__} did not run its layer {layer}")


@contextmanager
def only_above(model: Any, layer: int) -> Iterator[None]:
    """Inside, `model(inputs_embeds=states, attention_mask=...)` starts from the output of the first layers.

    Heads that classify read the first token only, so the last layer computes no other token's output, key or value
    where its attention is of BERT's form. Callers make sure that the results are the whole network's.

    Args:
        model: A network of transformers with a head.
        layer: How many of the first layers do not run.

    Raises:
        LookupError: The network has no list of its layers.
    """
    base: Any = model.base_model
    name, layers = layers_of(model)
    parent, _, attribute = name.rpartition(".")
    last: Any = layers[-1]
    embeddings = base.embeddings
    attention = getattr(last, "attention", None)
    like_bert = layer < len(layers) and all(
        hasattr(getattr(attention, "self", None), part) for part in ("query", "key", "value", "attention_head_size")
    )
    base.embeddings = _States()
    setattr(model.get_submodule(parent), attribute, layers[layer:])
    if like_bert:
        last.attention = _FirstTokenAttention(attention)
    try:
        yield
    finally:
        base.embeddings = embeddings
        setattr(model.get_submodule(parent), attribute, layers)
        if like_bert:
            last.attention = attention


@contextmanager
def given_below(model: Any, states: Sequence[torch.Tensor], layer: int) -> Iterator[None]:
    """Inside, a decoder goes on from the output of its first layers, which do not run.

    The network is called as ever: its masks, positions and the keys and values of the layers above are its own. The
    layers that do not run write placeholders of width 1 into the cache, so that it counts what was read.

    Args:
        model: A causal language model of transformers.
        states: The output of these layers, (batch, tokens, width), for each call of the network in turn.
        layer: How many of the first layers do not run, from 1.

    Raises:
        LookupError: The network has no list of its layers.
    """
    layers = layers_of(model)[1]
    in_tuple = _returns_tuple(model, layers[0])
    waiting = iter(states)
    try:
        for number, module in enumerate(layers[:layer]):
            module.forward = _instead(number, waiting if number == layer - 1 else None, in_tuple)
        yield
    finally:
        for module in layers[:layer]:
            module.__dict__.pop("forward", None)


def _instead(number: int, waiting: Iterator[torch.Tensor] | None, in_tuple: bool) -> Callable[..., Any]:
    """What a layer does that does not run: it passes on what it gets, or the states that wait."""

    def forward(hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        from transformers import Cache

        cache = next((value for value in (*arguments, *named.values()) if isinstance(value, Cache)), None)
        if cache is not None:
            placeholder = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            cache.update(placeholder, placeholder, number)
        output = hidden_states if waiting is None else next(waiting).to(hidden_states)
        return (output,) if in_tuple else output

    return forward


def _returns_tuple(model: Any, first_layer: nn.Module) -> bool:
    """Whether the network's layers give a tuple, as many did before transformers 5."""

    def stop(module: nn.Module, arguments: object, output: Any) -> None:
        raise _ReachedError(isinstance(output, tuple))

    hook = first_layer.register_forward_hook(stop)
    try:
        with torch.no_grad():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    except _ReachedError as reached:
        return bool(reached.args[0])
    finally:
        hook.remove()
    raise LookupError(f"{type(model).__name__} did not run its first layer")


@contextmanager
def last_tokens_only(model: Any, count: int) -> Iterator[None]:
    """Inside, the feed-forward part of a decoder's last layer runs for the last tokens of each text alone.

    The others' output is read by nobody where their logits are not. Only a part that is called `mlp` and returns a
    tensor is spared, as Llama, Qwen, Gemma, Mistral, Phi and GPT-2 have it; other networks run as ever.

    Args:
        model: A causal language model of transformers.
        count: How many of the last tokens have their logits read.
    """
    spared = dict(layers_of(model)[1][-1].named_children()).get("mlp")
    if spared is None:
        yield
        return
    run = spared.forward

    def forward(hidden_states: torch.Tensor) -> Any:
        output = run(hidden_states[:, -count:].contiguous())
        if not isinstance(output, torch.Tensor):
            return run(hidden_states)
        return functional.pad(output, (0, 0, hidden_states.shape[1] - output.shape[1], 0))

    spared.forward = forward
    try:
        yield
    finally:
        spared.__dict__.pop("forward", None)


class _States(nn.Module):
    """In place of the embeddings: returns the states that it gets."""

    def forward(self, *tensors: Any, inputs_embeds: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        # DistilBERT passes them by position.
        states: torch.Tensor = next(
            tensor for tensor in (inputs_embeds, *tensors) if tensor is not None and tensor.is_floating_point()
        )
        return states


class _FirstTokenAttention(nn.Module):
    """A BERT-like attention block whose output is that of the first token: (batch, 1, width).

    No other token gets a key or a value: its key times the query is its state times the query through the transposed
    key matrix, and the weighted mean of the values is the value of the weighted mean of the states. The key's bias adds
    the same to all scores of a head, so it drops out of the softmax.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: object
    ) -> tuple[torch.Tensor, None]:
        block, first = self.attention.self, hidden_states[:, :1]
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        scale = block.attention_head_size**-0.5

        def heads(projected: torch.Tensor) -> torch.Tensor:
            return projected.view(*projected.shape[:-1], -1, block.attention_head_size)

        query = heads(block.query(first))
        if _drops(block.key) or _drops(block.value):  # at random, so each token needs a key and a value
            key, value = heads(block.key(hidden_states)), heads(block.value(hidden_states))
            context = functional.scaled_dot_product_attention(
                query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, scale=scale
            ).transpose(1, 2)
        else:
            identity = torch.eye(hidden_states.shape[-1], dtype=hidden_states.dtype, device=hidden_states.device)
            key_matrix = heads(block.key(identity) - block.key(torch.zeros_like(identity[:1])))  # with its adapters
            query = torch.einsum("bthd,whd->bthw", query, key_matrix)
            states = hidden_states[:, None]
            pooled = functional.scaled_dot_product_attention(query, states, states, attn_mask=mask, scale=scale)
            # The value block of each head, of the states that this head has pooled.
            context = heads(block.value(pooled)).diagonal(dim1=2, dim2=3).mT
        return self.attention.output(context.flatten(2), first), None


def _drops(module: nn.Module) -> bool:
    """Whether the module sets inputs to 0 at random."""
    return any(isinstance(part, nn.Dropout) and part.training and part.p > 0 for part in module.modules())
