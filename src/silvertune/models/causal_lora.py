"""A causal language model, tuned by LoRA on the answers to the questions that an LLM labels with.

What is tuned is what predicts: the score of each answer's words after the prompt (`silvertune.llms.answer_scores`), and
cross-entropy over these scores. So weights, soft labels and early stopping are as for any other student.

The layers below those that are tuned are frozen: what they make of a prompt is read from disk
(`silvertune.models.prompt_states`) instead of being computed in every epoch, fold, arm and seed.
"""

import copy
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from silvertune.errors import UserError, check_choice, check_number, check_whole_number
from silvertune.llms import answer_scores, prompts
from silvertune.llms.pretrained import Pretrained, deciding_files
from silvertune.llms.prompts import Prompt
from silvertune.models import hardware, several_devices, training_loop
from silvertune.models.causal_predictor import CausalPredictor, quantized
from silvertune.models.encoder_predictor import peft_without_warnings
from silvertune.models.prompt_reader import PromptReader
from silvertune.schema import Task

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class CausalLora:
    """What to tune; `fit` tunes it. Every view of an item is an example with the item's label and weight.

    Attributes:
        task: Its `prompts`, `answers` and `examples` (filled by the run).
        cache: Folder for hidden states of the frozen layers (filled by the run).
        model: Hub id, folder, or path of a `.gguf` file; null where `package` has the file.
        revision: Of the hub's model, best a commit; null: what is there.
        gguf_file: The name of a GGUF file in the hub's repository or the folder `model`, or null.
        package: Installed registry packages that carry the parts of a GGUF file, or null.
        sha256: Of the GGUF file, hex; null trusts what is there.
        views: The views to read; null is all.
        prompt: The name of the question, where the task has several for a view; else null.
        max_tokens: Longest prompt. An item's text is cut where its prompt would be longer, never anything else.
        layers: How many of the top layers are tuned; null is all.
        target_modules: Linear modules of the tuned layers that get adapters; null is all of them.
        rank: LoRA's, from 1. Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
        alpha: LoRA's; updates are scaled by alpha / rank.
        dropout: Of the adapters, from 0, below 1.
        learning_rate: AdamW's; it rises over the first tenth of the steps and falls to 0.
        weight_decay: AdamW's.
        epochs: At most.
        patience: See `silvertune.models.EncoderClassifier`.
        batch_size: Examples a step.
        accumulation: The number of parts that a batch is run in, one after the other, to save memory.
        class_weight: `balanced` (each class has the same weight in all) or null.
        soft_labels: Learn from the labels' distributions (`prob:<class>` columns) where they have one.
        validation_fraction: Share of the training groups set aside by the run, for early stopping and thresholds.
        cached: Read the frozen layers' output from disk. The same within
            `silvertune.models.causal_predictor.TOLERANCE`, which is checked in every fit.
        cache_gb: Hidden states beyond this size on disk are not kept but computed again each time.
        gradient_checkpointing: Compute activations again in the backward pass: less memory, more time.
        dtype: Of the weights: `float32`, `bfloat16` or `float16`. Adapters are in float32.
        quantization: `nf4` (four bits, on a GPU) or null.
        device: Of torch; null is a GPU if there is one, else the CPU.
        devices: How many GPUs share every batch, each with the whole model; without a GPU, how many processes.

    Raises:
        UserError: A setting is out of range, the model can't be loaded or tuned as asked, the task's words can't be
            told apart by its tokenizer, a prompt is longer than it reads, or this machine lacks the device.
    """

    task: Task
    cache: Path
    model: str | None
    revision: str | None
    gguf_file: str | None
    package: str | Sequence[str] | None
    sha256: str | None
    views: Sequence[str] | None
    prompt: str | None
    max_tokens: int
    layers: int | None
    target_modules: Sequence[str] | None
    rank: int
    alpha: float
    dropout: float
    learning_rate: float
    weight_decay: float
    epochs: int
    patience: int
    batch_size: int
    accumulation: int
    class_weight: str | None
    soft_labels: bool
    validation_fraction: float
    cached: bool
    cache_gb: float
    gradient_checkpointing: bool
    dtype: str
    quantization: str | None
    device: str | None
    devices: int

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"cache_gb"})

    def __post_init__(self) -> None:
        check_choice("model.dtype", self.dtype, PRECISIONS)
        for key, value, choice in (
            ("quantization", self.quantization, "nf4"),
            ("class_weight", self.class_weight, "balanced"),
        ):
            if value not in (None, choice):
                raise UserError(f"model.{key}={value}: want {choice} or null")
        if isinstance(self.target_modules, str):
            raise UserError(
                f"model.target_modules={self.target_modules}: want a list of names, such as [q_proj, v_proj]"
            )
        for key in ("epochs", "batch_size", "accumulation", "rank", "max_tokens", "devices"):
            check_whole_number(f"model.{key}", vars(self)[key], 1)
        check_number("model.validation_fraction", self.validation_fraction, most=1, below=True)
        check_number("model.dropout", self.dropout, most=1, below=True)
        check_number("model.cache_gb", self.cache_gb)
        device = hardware.device(self.device)
        several_devices.check(self.devices, device, self.device)
        if self.quantization is not None and device.type != "cuda":
            raise UserError(
                f"model.quantization={self.quantization}: needs a GPU, and this would run on {device}; want null"
            )
        if self.quantization is not None and self.pretrained.is_gguf:
            raise UserError(
                f"model.quantization={self.quantization}: {self.pretrained.setting} has few bits a weight already, and "
                "transformers turns them into plain numbers; want null"
            )
        if self.quantization is not None and importlib.util.find_spec("bitsandbytes") is None:
            raise UserError(
                f"model.quantization={self.quantization}: needs bitsandbytes; run: pip install bitsandbytes"
            )
        self._check()

    @staticmethod
    def files_in_identity(folder: Path) -> list[Path]:
        """The files in the folder `model` that can change a result."""
        return deciding_files(folder)

    @property
    def pretrained(self) -> Pretrained:
        """The files of the model that is tuned."""
        package = self.package if self.package is None or isinstance(self.package, str) else tuple(self.package)
        return Pretrained(self.model, self.revision, self.gguf_file, package, self.sha256, "model")

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> CausalPredictor:
        """Tune adapters.

        Args:
            train: Items with `label` and `weight`, and perhaps `prob:<class>` columns for soft labels.
            validation: The like, perhaps empty, for early stopping.
            seed: Decides the adapters, the order of the examples and the dropout.

        Returns:
            The tuned predictor.

        Raises:
            UserError: There is nothing, or one class, to learn, a view has no text, tuning diverges, or the memory does
                not do for one example.
        """
        import torch

        views, classes = training_loop.learnable(train, self.views)
        device = hardware.device(self.device)
        if self.devices > 1:
            _pretrained.cache_clear()  # its memory is theirs
            weights, history = several_devices.tune(self, train, validation, seed)
        base = _pretrained(self.pretrained, self.pretrained.identity(), self.dtype, self.quantization, device)
        # Everything random comes from the seed, and nothing outside of this fit notices.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            network, wrapper = self._with_adapters(_sharing_weights(base))
            predictor = CausalPredictor(
                base=self.pretrained,
                reader=PromptReader(self.pretrained.tokenizer(), self._prompts(views), self.max_tokens),
                classes=classes,
                network=network,
                wrapper=wrapper,
                dtype=self.dtype,
                quantization=self.quantization,
                frozen=self._frozen_layers(network) if self.cached else 0,
                cache=self.cache,
                cache_gb=self.cache_gb,
                batch_size=self.batch_size,
                checkpointing=self.gradient_checkpointing,
                ran_on=hardware.ran_on(device, self.quantization or self.dtype),
            )
            if self.devices > 1:
                training_loop.take_over(predictor, train, weights, history)
                return predictor
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
                accumulation=self.accumulation,
            )
        return predictor

    def _prompts(self, views: Sequence[str]) -> dict[str, Prompt]:
        """View -> the question about it."""
        return prompts.of_student(
            self.task, views, max_item_tokens=self.max_tokens, name=self.prompt, key="model.prompt"
        )

    def _check(self) -> None:
        """Raises UserError if the model can't be tuned as asked; looks at no weights, and once a process."""
        key = repr((self, self.pretrained.identity()))
        if key in _CHECKED:
            return
        import torch
        from transformers import AutoModelForCausalLM

        config, tokenizer, setting = self.pretrained.config(), self.pretrained.tokenizer(), self.pretrained.setting
        try:
            with torch.device("meta"):
                network = AutoModelForCausalLM.from_config(config).requires_grad_(False)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise UserError(f"{setting}: is no causal language model ({str(error).splitlines()[0]})") from None
        with torch.random.fork_rng(devices=[]):
            self._with_adapters(network)
        endings = answer_scores.endings(list(prompts.words_of(self.task).values()), tokenizer)
        context, answer = getattr(config, "max_position_embeddings", None), max(map(len, endings))
        if context is not None and self.max_tokens + answer > context:
            raise UserError(
                f"model.max_tokens={self.max_tokens}: {setting} reads {context} tokens, and the longest answer has "
                f"{answer}; want a whole number up to {context - answer}"
            )
        # What the views are is known when there are data; a task without prompts asks about each view alike.
        reader = PromptReader(
            tokenizer, self._prompts(self.views or list(self.task.prompts) or ["text"]), self.max_tokens
        )
        for view in reader.prompts:
            reader.read(view, [""])
        _CHECKED.add(key)

    def _frozen_layers(self, network: Any) -> int:
        """How many of the lowest layers never change."""
        from silvertune.encoders.layers import layers_of

        return 0 if self.layers is None else len(layers_of(network)[1]) - self.layers

    def _with_adapters(self, network: Any) -> tuple[Any, Any]:
        """The network with new adapters in it, drawn from torch's global generator, and PEFT's wrapper of it."""
        import torch
        from peft import LoraConfig, TaskType, get_peft_model
        from transformers.pytorch_utils import Conv1D

        from silvertune.encoders.layers import layers_of

        setting = self.pretrained.setting
        try:
            list_name, layers = layers_of(network)
        except LookupError as error:
            raise UserError(f"{setting}: {error}; want another model") from None
        if self.layers is not None and not 1 <= self.layers <= len(layers):
            raise UserError(f"model.layers={self.layers}: {setting} has {len(layers)} layers; want 1 to that, or null")
        linear = {
            name.rpartition(".")[2]
            for name, module in layers[-1].named_modules()
            if isinstance(module, torch.nn.Linear | Conv1D)
        }
        targets = sorted(linear) if self.target_modules is None else list(self.target_modules)
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            layers_to_transform=list(range(self._frozen_layers(network), len(layers))),
            layers_pattern=list_name.rpartition(".")[2],
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in layers[-1].modules()),
        )
        try:
            with peft_without_warnings():
                wrapper = get_peft_model(network, config).eval()
        except ValueError as error:
            raise UserError(f"model.target_modules={targets}: {setting}: {str(error).splitlines()[0]}") from None
        if self.gradient_checkpointing:
            self._checkpoint(network)
        return network, wrapper

    def _checkpoint(self, network: Any) -> None:
        """Layers compute their activations again in the backward pass; dropouts stay off."""
        from silvertune.encoders.layers import layers_of

        try:
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            raise UserError(
                f"model.gradient_checkpointing=true: {self.pretrained.setting}: {str(error).splitlines()[0]}"
            ) from None
        for layer in layers_of(network)[1]:
            layer.training = True  # of the layer, not of what is in it


_CHECKED: set[str] = set()
"""Settings whose model this process has checked."""


@lru_cache(maxsize=1)
def _pretrained(pretrained: Pretrained, content: str, dtype: str, quantization: str | None, device: Any) -> Any:
    """The network as its files have it; the content is an argument so that files that change are loaded anew."""
    network = pretrained.network(dtype, **quantized(quantization, dtype)).requires_grad_(False)
    return network if quantization else network.to(device)


def _sharing_weights(network: Any) -> Any:
    """A copy whose modules are its own and whose weights are the network's: they are frozen, adapters come beside."""
    return copy.deepcopy(network, {id(weight): weight for weight in network.parameters()})
