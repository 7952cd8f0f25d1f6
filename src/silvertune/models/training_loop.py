"""The training loop of the encoder student."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from silvertune import progress_bar
from silvertune.errors import UserError
from silvertune.models.encoder_predictor import EncoderPredictor
from silvertune.votes import one_hot, prob_columns

if TYPE_CHECKING:
    import torch

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
CHUNK = 16
"""Batches' worth of shuffled examples that are sorted by length together."""


@dataclass(frozen=True)
class Examples:
    """One a view of an item. target: (n, classes), rows sum to 1. weight: (n,)."""

    texts: list[str]
    target: np.ndarray
    weight: np.ndarray


def examples(items: pd.DataFrame, predictor: EncoderPredictor, *, soft: bool = False) -> Examples:
    """The views of `items` with their labels; with `soft`, with the `prob:<class>` that an item has instead.

    A label that is not among the predictor's classes is left out (a class may be missing in training).
    """
    texts, target, weight = [], [], []
    onehot = one_hot(items["label"], predictor.classes).astype(float)
    columns = prob_columns(predictor.classes)
    if soft and set(columns) <= set(items.columns):
        given = items[columns].to_numpy(dtype=float)
        total = given.sum(axis=1, keepdims=True)
        onehot = np.where(np.isfinite(total) & (total > 0), given / np.where(total > 0, total, 1), onehot)
    for view in predictor.views:
        there = items[view].notna().to_numpy() & (onehot.sum(axis=1) > 0)
        texts += items[view][there].tolist()
        target.append(onehot[there])
        weight.append(items["weight"].to_numpy(dtype=float)[there])
    return Examples(texts, np.concatenate(target), np.concatenate(weight))


def tune(
    predictor: EncoderPredictor,
    learned: Examples,
    held_out: Examples | None,
    *,
    learning_rate: float,
    weight_decay: float,
    epochs: int,
    patience: int,
    batch_size: int,
    class_weight: str | None,
) -> list[dict[str, float]]:
    """Tune the predictor's network in place (settings: see `EncoderClassifier`), in the order of torch's generator.

    Returns one dict an epoch: `loss`, and `validation_loss` and `validation_auprc` where `held_out` is given;
    the weights are then those of the best epoch. Raises UserError if the loss is not finite.
    """
    import torch

    network = predictor.network
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay)
    inputs = predictor.inputs(learned.texts)
    importance = _importance(learned, class_weight)
    steps_in_all = epochs * math.ceil(len(learned.texts) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(steps_in_all))
    history: list[dict[str, float]] = []
    best: tuple[float, float] = (-np.inf, -np.inf)
    kept: list[torch.Tensor] = []
    for epoch in range(epochs):
        total = 0.0
        with inputs.network(), _dropping(network):
            steps = _shuffled(inputs.batches, len(learned.texts), batch_size)
            shown = f"tuning on {len(learned.texts)} texts, epoch {epoch + 1} of at most {epochs}"
            for rows in progress_bar.over(steps, shown):
                loss = _loss(predictor.forward(inputs, rows), learned.target[rows], importance[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(rows)
        if not math.isfinite(total):
            raise UserError(
                f"model.learning_rate={learning_rate}: the loss was {total} in epoch {epoch + 1}; want a lower rate"
            )
        history.append({"loss": total / len(learned.texts)})
        if held_out is None or not held_out.texts:
            continue
        history[-1] |= _validated(predictor, held_out, class_weight)
        score = (history[-1].get("validation_auprc", -np.inf), -history[-1]["validation_loss"])
        if score > best:
            best, since, kept = score, 0, [weight.detach().clone() for weight in weights]
        else:
            since += 1
            if since >= patience:
                break
    with torch.no_grad():
        for weight, value in zip(weights, kept, strict=False):
            weight.copy_(value)
    return history


@contextmanager
def _dropping(network: Any) -> Iterator[None]:
    """The adapters' dropout is on inside."""
    own = [module for name, module in network.named_modules() if ".lora_dropout." in name]
    for module in own:
        module.train()
    try:
        yield
    finally:
        for module in own:
            module.eval()


def _shuffled(batches: Any, count: int, size: int) -> list[np.ndarray]:
    """Batches of like length in random order; which texts are together changes with every epoch."""
    import torch

    order = torch.randperm(count).numpy()
    made = [
        batch for start in range(0, count, size * CHUNK) for batch in batches(order[start : start + size * CHUNK], size)
    ]
    return [made[place] for place in torch.randperm(len(made)).tolist()]


def _importance(these: Examples, class_weight: str | None) -> np.ndarray:
    """A weight an example, 1 on average; balanced: the (unweighted) counts of the classes are evened out."""
    weight = these.weight.copy()
    if class_weight == "balanced":
        share = these.target.mean(axis=0)
        weight *= (these.target / np.where(share > 0, share * len(share), 1)).sum(axis=1)
    return weight / weight.mean() if weight.sum() > 0 else weight


def _loss(logits: "torch.Tensor", target: np.ndarray, importance: np.ndarray) -> "torch.Tensor":
    import torch

    log_probs = torch.log_softmax(logits.float(), dim=-1)
    wanted = torch.from_numpy(target).to(log_probs)
    by_example = -(wanted * log_probs).sum(dim=-1)
    return (by_example * torch.from_numpy(importance).to(log_probs)).mean()


def _rate(steps: int) -> Any:
    """Up in the first tenth of the steps, then down to 0."""
    warm = max(WARM_UP * steps, 1)
    return lambda step: min((step + 1) / warm, max(steps - step, 0) / max(steps - warm, 1), 1.0)


def _validated(predictor: EncoderPredictor, held_out: Examples, class_weight: str | None) -> dict[str, float]:
    """The loss, and the macro average over classes of the average precision, one class against the rest."""
    import torch
    from sklearn.metrics import average_precision_score

    logits = torch.from_numpy(predictor.logits(held_out.texts))
    found = {"validation_loss": float(_loss(logits, held_out.target, _importance(held_out, class_weight)))}
    hard = held_out.target.argmax(axis=1)
    if len(set(hard)) == len(predictor.classes):
        scores = logits.softmax(dim=-1).numpy()
        by_class = [
            average_precision_score(hard == number, scores[:, number], sample_weight=held_out.weight)
            for number in range(len(predictor.classes))
        ]
        found["validation_auprc"] = float(np.mean(by_class))
    return found
