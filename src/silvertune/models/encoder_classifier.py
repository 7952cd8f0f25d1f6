"""The tuned student: a transformer encoder with a classification head, tuned by LoRA, whole, or the head alone.

The layers below those that are tuned are frozen: for a text they give the same whatever is tuned on top, so their
output is read from disk (`silvertune.encoders.encoder`) instead of being computed in every epoch, fold, arm and seed.
The network stays in eval mode, but for the adapters' dropout: that of the frozen weights would only slow tuning down.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune.encoders.encoder import Encoder
from silvertune.errors import UserError, check_choice, check_number, check_whole_number
from silvertune.models import hardware
from silvertune.models.encoder_predictor import EncoderPredictor, new_network, peft_without_warnings

TUNINGS = ("lora", "full", "head")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class EncoderClassifier:
    """What to tune; `fit` tunes it. Every view of an item is an example with the item's label and weight.

    Attributes:
        cache: Folder for hidden states of the frozen layers (filled by the run).
        encoder: The network and its text length.
        views: The views to read; null is all.
        tuning: `lora`, `full` (all weights of the tuned layers) or `head` (the head alone).
            Source of LoRA: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
        layers: How many of the top layers are tuned; null is all, with `full` the embeddings too. Unused by `head`.
        head: The modules that make up the head, tuned whole.
        rank: LoRA's, from 1.
        alpha: LoRA's; updates are scaled by alpha / rank.
        target_modules: Modules of the tuned layers that get adapters.
        dropout: Of the adapters, from 0, below 1.
        learning_rate: AdamW's; it rises over the first tenth of the steps and falls to 0.
        weight_decay: AdamW's.
        epochs: At most.
        patience: Tuning ends when that many epochs have not raised the macro-averaged AUPRC on the validation set (its
            loss where a class is missing there), and the best epoch's weights are kept; without a validation set the
            last epoch's are.
        batch_size: Examples a step.
        class_weight: `balanced` (each class has the same weight in all) or null.
        soft_labels: Learn from the labels' distributions (`prob:<class>` columns) where they have one.
        validation_fraction: Share of the training groups set aside by the run, for early stopping and thresholds.
        cached: Read the frozen layers' output from disk. The same within
            `silvertune.models.encoder_predictor.TOLERANCE`, which is checked in every fit.
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 where the hardware multiplies it.
        device: Of torch; null is a GPU if there is one, else the CPU.

    Raises:
        UserError: A setting is out of range, the encoder can't be loaded, its network can't be tuned as asked, or this
            machine lacks the device.
    """

    cache: Path
    encoder: Encoder
    views: Sequence[str] | None
    tuning: str
    layers: int | None
    head: Sequence[str]
    rank: int
    alpha: float
    target_modules: Sequence[str]
    dropout: float
    learning_rate: float
    weight_decay: float
    epochs: int
    patience: int
    batch_size: int
    class_weight: str | None
    soft_labels: bool
    validation_fraction: float
    cached: bool
    precision: str
    device: str | None

    def __post_init__(self) -> None:
        check_choice("model.tuning", self.tuning, TUNINGS)
        check_choice("model.precision", self.precision, PRECISIONS)
        if isinstance(self.target_modules, str):
            raise UserError(f"model.target_modules={self.target_modules}: want a list of names, such as [query, value]")
        if self.class_weight not in (None, "balanced"):
            raise UserError(f"model.class_weight={self.class_weight}: want balanced or null")
        for key, number in (("epochs", self.epochs), ("batch_size", self.batch_size), ("rank", self.rank)):
            check_whole_number(f"model.{key}", number, 1)
        check_number("model.validation_fraction", self.validation_fraction, most=1, below=True)
        check_number("model.dropout", self.dropout, most=1, below=True)
        check_number("model.learning_rate", self.learning_rate)
        check_number("model.weight_decay", self.weight_decay)
        self.encoder.check(embeds=False)
        hardware.device(self.device)
        self._check_network()

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> EncoderPredictor:
        """Tune a network.

        Args:
            train: Items with `label` and `weight`, and perhaps `prob:<class>` columns for soft labels.
            validation: The like, perhaps empty, for early stopping.
            seed: Decides the new head, the adapters, the order of the examples and the dropout.

        Returns:
            The tuned predictor.

        Raises:
            UserError: There is nothing, or one class, to learn, a view has no text, or tuning diverges.
        """
        import torch

        from silvertune.models import training_loop

        views, classes = training_loop.learnable(train, self.views)
        device = hardware.device(self.device)
        bfloat16 = self.precision == "bfloat16" or (self.precision == "auto" and hardware.has_bfloat16(device))
        # Everything random comes from the seed, and nothing outside of this fit notices.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            network, wrapper = self._network(classes)
            frozen = self._frozen_layers(network) if self.cached else 0
            predictor = EncoderPredictor(
                encoder=self.encoder,
                classes=classes,
                views=views,
                network=network.to(device),
                wrapper=wrapper,
                frozen=frozen,
                cache=self.cache,
                bfloat16=bfloat16,
                batch_size=self.batch_size,
                ran_on=hardware.ran_on(device, "bfloat16" if bfloat16 else "float32"),
            )
            training_loop.tune(
                predictor,
                train,
                validation,
                soft_labels=self.soft_labels,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                epochs=self.epochs,
                patience=self.patience,
                batch_size=self.batch_size,
                class_weight=self.class_weight,
            )
        return predictor

    def _check_network(self) -> None:
        """Raises UserError if the network can't be tuned as asked; once a process for the same settings."""
        import torch

        key = repr((self, self.encoder.content_key()))
        if key in _CHECKED:
            return
        classes = ("0", "1")
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
            network, wrapper = self._network(classes)
            if self.cached:
                EncoderPredictor(
                    encoder=self.encoder,
                    classes=classes,
                    views=(),
                    network=network,
                    wrapper=wrapper,
                    frozen=self._frozen_layers(network),
                    cache=Path(folder),
                    bfloat16=False,
                    batch_size=self.batch_size,
                ).compare_fast_path(["a", "a text of several words"])
        _CHECKED.add(key)

    def _frozen_layers(self, network: Any) -> int:
        """How many of the lowest layers never change."""
        count: int = network.config.num_hidden_layers
        return count if self.tuning == "head" else 0 if self.layers is None else count - self.layers

    def _network(self, classes: Sequence[str]) -> tuple[Any, Any]:
        """The network with a new head and, with LoRA, adapters in it; and PEFT's wrapper of it, if any."""
        network = new_network(self.encoder, classes)
        list_name, count = self._layer_list(network)
        modules = dict(network.named_modules())
        heads = [path for path in modules if path.rpartition(".")[2] in self.head]
        if lacking := [part for part in self.head if not any(path.rpartition(".")[2] == part for path in heads)]:
            outside = sorted({path for path, module in network.named_children() if module is not network.base_model})
            raise UserError(
                f"model.head={list(self.head)}: {type(network).__name__} of {self.encoder.setting} has no module "
                f"{lacking[0]!r}; want its classification head, such as {outside}"
            )
        if self.tuning == "lora":
            from peft import LoraConfig, TaskType, get_peft_model

            targets = list(self.target_modules)
            config = LoraConfig(
                task_type=TaskType.SEQ_CLS,
                r=self.rank,
                lora_alpha=self.alpha,  # type: ignore[arg-type]
                lora_dropout=self.dropout,
                target_modules=targets,
                layers_to_transform=list(range(self._frozen_layers(network), count)) if list_name else None,
                layers_pattern=list_name.rpartition(".")[2] if list_name else None,
                modules_to_save=list(self.head),
            )
            try:
                with peft_without_warnings():
                    wrapper = get_peft_model(network, config).eval()
            except ValueError as error:
                raise UserError(
                    f"model.target_modules={targets}: {self.encoder.setting}: {str(error).splitlines()[0]}"
                ) from None
            return network, wrapper
        tuned = [*heads, *(f"{list_name}.{i}" for i in range(self._frozen_layers(network), count))]
        everything = self.tuning == "full" and self.layers is None
        for path, weight in network.named_parameters():
            weight.requires_grad = everything or any(path.startswith(f"{part}.") for part in tuned)
        return network, None

    def _layer_list(self, network: Any) -> tuple[str | None, int]:
        """The name of the list of layers and its length; None and 0 where layers share weights and none is needed."""
        from silvertune.encoders.layers import layers_of

        try:
            name, layers = layers_of(network)
        except LookupError as error:
            if self.tuning != "head" and self.layers is not None:
                key, want = f"model.layers={self.layers}", "model.layers=null and model.cached=false"
            elif self.tuning == "head" and self.cached:
                key, want = "model.cached=true", "model.cached=false"
            else:
                return None, 0
            raise UserError(f"{key}: {self.encoder.setting}: {error}; want {want}") from None
        if self.layers is not None and not 1 <= self.layers <= len(layers):
            raise UserError(
                f"model.layers={self.layers}: {self.encoder.setting} has {len(layers)} layers; want 1 to that"
            )
        return name, len(layers)


_CHECKED: set[str] = set()
"""Settings whose network this process has checked."""
