"""The training loop of students that are neural networks, whatever they read and however they score a class."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from silvertune import progress_bar
from silvertune.errors import UserError
from silvertune.items import chosen_views
from silvertune.models import memory, several_devices
from silvertune.votes import one_hot, prob_columns

if TYPE_CHECKING:
    import torch

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
CHUNK = 16
"""Batches' worth of shuffled examples that are sorted by length together."""


class Inputs(Protocol):
    """Texts, ready to be run."""

    def network(self) -> AbstractContextManager[None]:
        """The network as these inputs need it, inside."""
        ...

    def batches(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """`rows` in batches of like length, so that little is padded."""
        ...


class Tunable(Protocol):
    """A predictor whose network can be tuned."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of its outputs."""
        ...

    @property
    def views(self) -> tuple[str, ...]:
        """The views that it reads."""
        ...

    @property
    def network(self) -> Any:
        """The weights that require gradients are tuned."""
        ...

    def read(self, view: str, texts: Sequence[str]) -> list[str]:
        """What it makes of the texts of a view before it runs them."""
        ...

    def inputs(self, texts: Sequence[str]) -> Any:
        """`Inputs` of what `read` gave."""
        ...

    def forward(self, inputs: Any, rows: np.ndarray) -> Any:
        """A score for each class, (len(rows), classes), as a tensor; their softmax are the probabilities."""
        ...

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """The scores of what `read` gave, without gradients."""
        ...

    def compare_fast_path(self, texts: Sequence[str]) -> None:
        """Raises UserError where kept states do not give what the whole network gives."""
        ...

    @property
    def history(self) -> list[dict[str, float]]:
        """One dict an epoch."""
        ...

    @property
    def sample(self) -> list[str]:
        """Some of the texts, on which a saved predictor is compared with this one."""
        ...


@dataclass(frozen=True)
class Examples:
    """What is learned from, one example a view of an item.

    Attributes:
        texts: n texts, as the predictor reads them.
        target: (n, classes); each row is a distribution and sums to 1.
        weight: (n,), from 0.
    """

    texts: list[str]
    target: np.ndarray
    weight: np.ndarray


def learnable(train: pd.DataFrame, views: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the views to read and the classes to tell apart.

    Args:
        train: Items with their views and `label`.
        views: The views that the model's setting names; None is all.

    Returns:
        The views, and the classes in alphabetical order.

    Raises:
        UserError: A view is unknown or has no text, or the labels are of less than two classes.
    """
    chosen = chosen_views(train, views, "model.views")
    for view in chosen:
        if len(train) and not train[view].dropna().str.strip().any():
            raise UserError(
                f"model: view {view!r} can't be learned from: it is empty in all {len(train)} items; choose other "
                "views with model.views"
            )
    classes = sorted(train["label"].unique())
    if len(classes) < 2:
        raise UserError(
            f"model: every label is {classes[0]!r}; tuning needs at least two classes"
            if classes
            else "model: there is no label to tune on"
        )
    return tuple(chosen), tuple(classes)


def examples(items: pd.DataFrame, predictor: Tunable, *, soft: bool = False) -> Examples:
    """Make the examples of some items.

    Args:
        items: Views, `label`, `weight`, and with `soft` perhaps `prob:<class>` columns; indexed by item_id.
        predictor: Its views are read, and its classes are the columns of the target.
        soft: Whether an item's `prob:<class>` columns are its target where they are a distribution.

    Returns:
        An example for each view of each item. An item whose label is none of the predictor's classes is left out
        (a class may be missing in training).
    """
    texts, target, weight = [], [], []
    target_by_item = one_hot(items["label"], predictor.classes).astype(float)
    columns = prob_columns(predictor.classes)
    if soft and set(columns) <= set(items.columns):
        probs = items[columns].to_numpy(dtype=float)
        total = probs.sum(axis=1, keepdims=True)
        is_distribution = np.isfinite(total) & (total > 0)
        target_by_item = np.where(is_distribution, probs / np.where(total > 0, total, 1), target_by_item)
    for view in predictor.views:
        usable = items[view].notna().to_numpy() & (target_by_item.sum(axis=1) > 0)
        texts += predictor.read(view, items[view][usable].tolist())
        target.append(target_by_item[usable])
        weight.append(items["weight"].to_numpy(dtype=float)[usable])
    return Examples(texts, np.concatenate(target), np.concatenate(weight))


def tune(
    predictor: Tunable,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    *,
    soft_labels: bool,
    learning_rate: float,
    weight_decay: float,
    epochs: int,
    patience: int,
    batch_size: int,
    class_weight: str | None,
    accumulation: int = 1,
) -> None:
    """Tune the predictor's network in place, in the order of torch's random generator.

    In one of several processes that tune together (`silvertune.models.several_devices`), it takes the steps of all.

    The predictor's `history` gets one dict an epoch: `loss`, and where there is a validation set `validation_loss` and,
    unless a class is missing in it, `validation_auprc`. With a validation set the weights are those of the best epoch:
    the one of the highest AUPRC, of the lowest loss where no AUPRC is known. An epoch whose validation loss is not
    finite is never the best.

    Args:
        predictor: Its network is tuned; `history` and `sample` are filled.
        train: Items to learn from, as `examples` takes them.
        validation: Items that choose the epoch, perhaps none.
        soft_labels: See `silvertune.models.EncoderClassifier`, as for all settings below.
        learning_rate: Of AdamW, at its highest.
        weight_decay: Of AdamW.
        epochs: The highest number of epochs.
        patience: The number of epochs without a better one after which tuning ends.
        batch_size: Examples a step.
        class_weight: `balanced` or None.
        accumulation: The number of parts that a batch is run in, one after the other, which takes less memory and gives
            the same. Where memory does not do, it is doubled.

    Raises:
        UserError: Kept states do not give what the network gives; the loss, or the validation loss of every epoch, is
            not finite; or the memory does not do for one example.
    """
    import torch

    training = examples(train, predictor, soft=soft_labels)
    held_out = examples(validation, predictor) if len(validation) else None
    predictor.compare_fast_path(training.texts)
    predictor.sample.extend(training.texts[:4])
    network = predictor.network
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay)
    inputs: Inputs = predictor.inputs(training.texts)
    importance = _importance(training, class_weight)
    total_steps = epochs * math.ceil(len(training.texts) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(total_steps))
    history = predictor.history
    best_score: tuple[float, float] = (-np.inf, -np.inf)
    best_weights: list[torch.Tensor] = []
    epochs_since_best, parts, group = 0, accumulation, several_devices.group()
    if group.rank:
        torch.manual_seed(torch.initial_seed() + group.rank)  # other texts, so another dropout; the first one shuffles

    def with_gradients(rows: np.ndarray, share: float) -> float:
        loss = _loss(predictor.forward(inputs, rows), training.target[rows], importance[rows]) * share
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    for epoch in range(epochs):
        total = 0.0
        with inputs.network(), _with_dropout(network):
            steps = group.of_first(lambda: _shuffled(inputs, len(training.texts), batch_size))
            shown = f"tuning on {len(training.texts)} texts, epoch {epoch + 1} of at most {epochs}"
            for rows in progress_bar.over(steps, shown):
                share = group.share(rows)
                losses, parts = memory.in_parts(with_gradients, share, parts, before=optimizer.zero_grad)
                loss = group.add_up(weights, sum(losses), len(share) / len(rows))
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                total += loss * len(rows)
        if not math.isfinite(total):
            raise UserError(
                f"model.learning_rate={learning_rate}: the loss was {total} in epoch {epoch + 1}; want a lower rate"
            )
        history.append({"loss": total / len(training.texts)})
        if held_out is None or not held_out.texts:
            continue
        history[-1] |= group.of_first(lambda: _validated(predictor, held_out, class_weight))
        score = (history[-1].get("validation_auprc", -np.inf), -history[-1]["validation_loss"])
        if math.isfinite(score[1]) and score > best_score:
            best_score, best_weights = score, [weight.detach().clone() for weight in weights]
            epochs_since_best = 0
        else:
            epochs_since_best += 1
            if epochs_since_best >= patience:
                break
    if "validation_loss" in history[-1] and not best_weights:
        raise UserError(
            f"model.learning_rate={learning_rate}: the validation loss was {history[-1]['validation_loss']} in every "
            f"epoch up to {len(history)}; want a lower rate"
        )
    if best_weights:
        _put(best_weights, weights)


def take_over(
    predictor: Tunable, train: pd.DataFrame, tuned: "Sequence[torch.Tensor]", history: Sequence[dict[str, float]]
) -> None:
    """Make a predictor what `tune` made of it in another process.

    Args:
        predictor: As it was before.
        train: The items that it was tuned on, whose texts it reads.
        tuned: The weights that were tuned.
        history: What `tune` put into its history.
    """
    predictor.sample.extend(examples(train, predictor).texts[:4])
    predictor.history.extend(history)
    _put(tuned, [weight for weight in predictor.network.parameters() if weight.requires_grad])


def _put(values: "Sequence[torch.Tensor]", weights: "Sequence[torch.Tensor]") -> None:
    import torch

    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


@contextmanager
def _with_dropout(network: Any) -> Iterator[None]:
    """The adapters' dropout is on inside."""
    dropouts = [module for name, module in network.named_modules() if ".lora_dropout." in name]
    for module in dropouts:
        module.train()
    try:
        yield
    finally:
        for module in dropouts:
            module.eval()


def _shuffled(inputs: Inputs, count: int, size: int) -> list[np.ndarray]:
    """Batches of like length in random order; which texts are together changes with every epoch."""
    import torch

    order = torch.randperm(count).numpy()
    chunks = [order[start : start + size * CHUNK] for start in range(0, count, size * CHUNK)]
    batches = [batch for chunk in chunks for batch in inputs.batches(chunk, size)]
    return [batches[place] for place in torch.randperm(len(batches)).tolist()]


def _importance(examples: Examples, class_weight: str | None) -> np.ndarray:
    """A weight an example, 1 on average; balanced: the (unweighted) counts of the classes are evened out."""
    weight = examples.weight.copy()
    if class_weight == "balanced":
        share = examples.target.mean(axis=0)
        weight *= (examples.target / np.where(share > 0, share * len(share), 1)).sum(axis=1)
    return weight / weight.mean() if weight.sum() > 0 else weight


def _loss(logits: "torch.Tensor", target: np.ndarray, importance: np.ndarray) -> "torch.Tensor":
    """The mean over examples of the weighted cross-entropy."""
    import torch

    log_probs = torch.log_softmax(logits.float(), dim=-1)
    by_example = -(torch.from_numpy(target).to(log_probs) * log_probs).sum(dim=-1)
    return (by_example * torch.from_numpy(importance).to(log_probs)).mean()


def _rate(steps: int) -> Callable[[int], float]:
    """The learning rate's factor at a step: up in the first tenth of the steps, then down to 0."""
    warm = max(WARM_UP * steps, 1)
    return lambda step: min((step + 1) / warm, max(steps - step, 0) / max(steps - warm, 1), 1.0)


def _validated(predictor: Tunable, validation: Examples, class_weight: str | None) -> dict[str, float]:
    """The loss, and the macro average over classes of the average precision, one class against the rest."""
    import torch
    from sklearn.metrics import average_precision_score

    logits = torch.from_numpy(predictor.logits(validation.texts))
    loss = float(_loss(logits, validation.target, _importance(validation, class_weight)))
    true_class = validation.target.argmax(axis=1)
    if not math.isfinite(loss) or len(set(true_class)) < len(predictor.classes):
        return {"validation_loss": loss}
    scores = logits.softmax(dim=-1).numpy()
    by_class = [
        average_precision_score(true_class == number, scores[:, number], sample_weight=validation.weight)
        for number in range(len(predictor.classes))
    ]
    return {"validation_loss": loss, "validation_auprc": float(np.mean(by_class))}
