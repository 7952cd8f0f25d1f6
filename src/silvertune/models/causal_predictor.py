"""A tuned causal language model: what it predicts, how its prompts are run, how it is saved and loaded."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.encoders.batches import of_like_length
from silvertune.encoders.hidden_states import key_of
from silvertune.errors import UserError
from silvertune.llms import answer_scores
from silvertune.llms.pretrained import Pretrained
from silvertune.llms.prompts import Example, Prompt
from silvertune.llms.shared_beginnings import is_windowed
from silvertune.models import fast_path, memory, saved
from silvertune.models.encoder_predictor import peft_without_warnings
from silvertune.models.prompt_reader import PromptReader
from silvertune.models.prompt_states import PromptStates, StatesOfPrompts, Tokens, longest_prefix

PACKAGES = ("huggingface-hub", "jinja2", "peft", "safetensors", "torch", "transformers")
TOLERANCE = {"float32": 0.05, "bfloat16": 0.25, "float16": 0.1}
"""Precision of the weights -> largest difference of scores between kept states and the whole network, and after
loading."""
STATE_TOLERANCE = {"float32": 0.02, "bfloat16": 0.1, "float16": 0.04}
"""The same for the last hidden state that the label is read from, as a share of its length."""


@dataclass(frozen=True)
class CausalPredictor:
    """A causal language model with tuned adapters, and the prompts that it was tuned on.

    Attributes:
        base: The files of the model that the adapters are on.
        reader: Makes prompts of texts.
        classes: In the order of the scores.
        network: The network with the adapters in it, on the device where it runs.
        wrapper: PEFT's, around `network`.
        dtype: Of the weights: float32, bfloat16 or float16.
        quantization: `nf4`, or None.
        frozen: How many of the lowest layers' output is read from `cache`; 0 runs the whole network.
        cache: Folder of hidden states, or None.
        cache_gb: See `silvertune.models.prompt_states.PromptStates`.
        batch_size: Examples a step; prediction takes four times as many.
        checkpointing: Whether activations are computed again in the backward pass instead of being kept.
        ran_on: What it was tuned on: `device`, `precision`, `bfloat16_units`, `threads`.
        history: One dict an epoch: `loss`, and with a validation set `validation_loss` and `validation_auprc`.
        sample: Some prompts, on which a saved predictor is compared with this one.
    """

    base: Pretrained
    reader: PromptReader
    classes: tuple[str, ...]
    network: Any
    wrapper: Any
    dtype: str
    quantization: str | None
    frozen: int
    cache: Path | None
    cache_gb: float
    batch_size: int
    checkpointing: bool = False
    ran_on: Mapping[str, str] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)

    @property
    def views(self) -> tuple[str, ...]:
        """The views that it reads."""
        return tuple(self.reader.prompts)

    @property
    def alarms(self) -> list[str]:
        """How many texts were cut, if any."""
        return self.reader.alarms()

    @property
    def base_model(self) -> str:
        """The language model that it was tuned from: hub id, folder, file or packages."""
        return self.base.name

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions that it needs where it is served; its base may be in some of its own."""
        packages_of_base = self.base.package or ()
        gguf = ("gguf",) if self.base.is_gguf else ()
        of_base = (packages_of_base,) if isinstance(packages_of_base, str) else packages_of_base
        return (*PACKAGES, *gguf, *of_base)

    @cached_property
    def endings(self) -> tuple[Tokens, ...]:
        """The tokens of each class's word and the closing quote."""
        return self.reader.endings(self.classes)

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Class probabilities, indexed by (item_id, view); views that an item lacks are left out."""
        from scipy.special import softmax

        texts, pairs = [], []
        for view in self.views:
            present = items[view].dropna()
            pairs += [(item, view) for item in present.index]
            texts += self.read(view, [str(text) for text in present])
        if not pairs:
            return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"]))
        index = pd.MultiIndex.from_tuples(pairs, names=["item_id", "view"])
        return pd.DataFrame(softmax(self.logits(texts), axis=1), index=index, columns=list(self.classes))

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Scores of the classes' words after each prompt, (len(texts), classes) float64."""
        import torch

        inputs, parts = self.inputs(texts), 1
        scores = np.empty((len(texts), len(self.classes)))
        with torch.inference_mode(), inputs.network():
            for rows in inputs.batches(np.arange(len(texts)), 4 * self.batch_size):
                of_parts, parts = memory.in_parts(lambda part, _: self.forward(inputs, part).cpu(), rows, parts)
                scores[rows] = torch.cat(of_parts).numpy()
        return scores

    def read(self, view: str, texts: Sequence[str]) -> list[str]:
        """The prompts about the texts of a view: see `PromptReader.read`."""
        return self.reader.read(view, texts)

    def inputs(self, texts: Sequence[str]) -> "Inputs":
        """What `read` gave, ready to be run: as kept states where there are any, else as tokens."""
        tokens = [self.reader.tokens(text) for text in texts]
        if not self.frozen or self.cache is None:
            return Inputs(self, tokens)
        return Inputs(self, tokens, self._prompt_states.of(tokens))

    def forward(self, inputs: "Inputs", rows: np.ndarray) -> Any:
        """Scores (len(rows), classes) as a tensor. Inside `inputs.network()`."""
        import torch

        groups = self._by_prefix(inputs, rows)
        if len(groups) == 1:
            return self._scores(inputs, rows, *groups)
        scores = [self._scores(inputs, rows[places], prefix) for prefix, places in groups.items()]
        return torch.cat(scores)[np.argsort(np.concatenate(list(groups.values())))]

    def _by_prefix(self, inputs: "Inputs", rows: np.ndarray) -> dict[Tokens, np.ndarray]:
        """The places of the prompts that begin alike, by what is read once for all of them; empty: nothing is."""
        if self.checkpointing or is_windowed(self.network):
            return {(): np.arange(len(rows))}
        prefixes = [longest_prefix(inputs.tokens[row], self._prefixes) for row in rows]
        return {
            prefix: np.array([place for place, other in enumerate(prefixes) if other == prefix])
            for prefix in dict.fromkeys(prefixes)
        }

    def _scores(self, inputs: "Inputs", rows: np.ndarray, prefix: Tokens) -> Any:
        """Scores of prompts that all begin with a prefix."""
        prompts = [inputs.tokens[row] for row in rows]
        with inputs.given(rows, len(prefix)):
            begun = answer_scores.begin(self.network, prefix, len(rows)) if prefix else (0, None)
            return answer_scores.scores(self.network, prompts, self.endings, cache=not self.checkpointing, begun=begun)

    def compare_fast_path(self, texts: Sequence[str]) -> None:
        """Compare what kept states give with what the whole network gives, on the four shortest prompts.

        Raises:
            UserError: The last hidden state, or the scores, differ by more than half precision explains.
        """
        if not self.frozen or not texts:
            return
        shortest = fast_path.shortest(texts)
        fast_path.compare(
            lambda: self._states_and_scores(shortest),
            lambda: dataclasses.replace(self, frozen=0)._states_and_scores(shortest),
            tolerance=TOLERANCE[self.dtype],
            state_tolerance=STATE_TOLERANCE[self.dtype],
            network=f"{type(self.network).__name__} of {self.base.setting}",
            kept=self.cache,
        )

    @cached_property
    def _prompt_states(self) -> PromptStates:
        """Raises ValueError without a cache."""
        if self.cache is None:
            raise ValueError("no folder for hidden states")
        name = f"{key_of(_content(self.base, self.network))[:16]}-{self.quantization or self.dtype}"
        return PromptStates(self.network, self.frozen, self.endings, self._prefixes, self.cache, name, self.cache_gb)

    @cached_property
    def _prefixes(self) -> tuple[Tokens, ...]:
        return self.reader.prefixes()

    def _states_and_scores(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The last hidden state of each prompt's last token, and the scores; one prompt a step."""
        import torch

        states: list[Any] = []
        head = self.network.get_output_embeddings()
        inputs = self.inputs(texts)
        hook = head.register_forward_pre_hook(lambda module, arguments: states.append(arguments[0][0, -1]))
        try:
            with torch.inference_mode(), inputs.network():
                scores, of_prompts = [], []
                for row in np.arange(len(texts))[:, None]:
                    states.clear()
                    scores.append(self.forward(inputs, row)[0])
                    is_begun = any(self._by_prefix(inputs, row))
                    of_prompts.append(states[1 if is_begun else 0])
        finally:
            hook.remove()
        return torch.stack(of_prompts).float().cpu().numpy(), torch.stack(scores).cpu().numpy()

    # ------------------------------------------------------------------------------------------ saved and loaded

    def save(self, path: Path) -> None:
        """Write the predictor to the new folder `path`, load it again and compare; nothing is left if that fails.

        The adapters are in PEFT's own format; the tokenizer and the prompts are beside them. The base is named: the
        absolute path of its folder or file, its hub id, or its packages.

        Raises:
            UserError: The disk is full.
            RuntimeError: What was saved predicts otherwise.
        """
        from safetensors import SafetensorError

        local = self.base.model is not None and Path(self.base.model).exists()
        base = dataclasses.replace(self.base, model=str(Path(str(self.base.model)).absolute())) if local else self.base
        meta = {
            "classes": list(self.classes),
            "prompts": {view: dataclasses.asdict(prompt) for view, prompt in self.reader.prompts.items()},
            "base": dataclasses.asdict(base),
            "base_content": _content(self.base, self.network),
            "adapter": True,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "max_tokens": self.reader.max_tokens,
            "batch_size": self.batch_size,
        }
        with saved.new_folder(path, f"{__name__}.load", meta) as folder:
            try:  # False: no look at the hub for the base's vocabulary
                self.wrapper.save_pretrained(folder, save_embedding_layers=False)
            except SafetensorError as error:  # what it makes of a full disk
                raise OSError(str(error)) from error
            self.reader.tokenizer.save_pretrained(folder)
            without_states = dataclasses.replace(self, frozen=0, checkpointing=False)
            difference = np.abs(load(folder).logits(self.sample) - without_states.logits(self.sample)).max(initial=0.0)
            if not difference < TOLERANCE[self.dtype]:
                raise RuntimeError(f"the saved model's scores differ from the tuned one's by {difference:.3f}")


def load(folder: Path, base: Path | None = None) -> CausalPredictor:
    """Load the predictor saved in `folder`, onto a GPU if there is one, else in float32.

    Args:
        folder: Written by `CausalPredictor.save`.
        base: Where the adapter's base is now, a folder or a GGUF file; None is where it was.

    Raises:
        UserError: The adapter's base is not on this machine, or is not the one that it was tuned on.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    meta = saved.read(folder)
    pretrained = Pretrained(**{**meta["base"], "key": "model"})
    if base is not None:
        pretrained = dataclasses.replace(pretrained, model=str(base), gguf_file=None, package=None)
    has_gpu = torch.cuda.is_available()
    dtype = meta["dtype"] if has_gpu else "float32"
    quantization = meta["quantization"] if has_gpu else None
    advice = "set labeler.base to the folder or file of the base that it was tuned on"
    try:
        network = pretrained.network(dtype, **quantized(quantization, dtype))
        content = _content(pretrained, network)
    except UserError as error:
        raise UserError(f"{folder}: its base is not on this machine ({error}); {advice}") from None
    if content != meta["base_content"]:
        raise UserError(
            f"{folder}: was tuned on {pretrained.setting} with the content {meta['base_content'][:12]}..., and what is "
            f"there now has {content[:12]}...; {advice}"
        )
    if has_gpu and quantization is None:
        network = network.to("cuda")
    network = network.requires_grad_(False)
    with peft_without_warnings():
        wrapper = PeftModel.from_pretrained(network, str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    prompts = {view: _prompt(settings) for view, settings in meta["prompts"].items()}
    return CausalPredictor(
        base=pretrained,
        reader=PromptReader(tokenizer, prompts, meta["max_tokens"]),
        classes=tuple(meta["classes"]),
        network=network,
        wrapper=wrapper,
        dtype=dtype,
        quantization=quantization,
        frozen=0,
        cache=None,
        cache_gb=0.0,
        batch_size=meta["batch_size"],
    )


def _content(base: Pretrained, network: Any) -> str:
    """What a base is known by: the digest of its files, or a hub's model, its revision and the commit that it is of."""
    commit = getattr(network.config, "_commit_hash", None)
    return base.identity() + (f"#{commit}" if commit else "")


def _prompt(settings: Mapping[str, Any]) -> Prompt:
    """A prompt as JSON has it."""
    examples = tuple(Example(**example) for example in settings["examples"])
    return Prompt(**{**settings, "fields": tuple(settings["fields"]), "examples": examples})


def quantized(quantization: str | None, dtype: str) -> dict[str, Any]:
    """What transformers takes to load weights of four bits, which stay on the GPU; nothing without quantization.

    Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3: NormalFloat with double
    quantization.
    """
    if quantization is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": config, "device_map": {"": "cuda"}}


# ---------------------------------------------------------------------------------------------- how prompts are run


@dataclass(frozen=True)
class Inputs:
    """Prompts on their way into a predictor's network.

    Attributes:
        predictor: Its network reads them.
        tokens: Of each prompt.
        states: Of its frozen layers; None where the whole network runs.
    """

    predictor: CausalPredictor
    tokens: Sequence[Tokens]
    states: StatesOfPrompts | None = None

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """The network as these inputs need it: its last layer computes what is read and no more."""
        from silvertune.encoders.layers import last_tokens_only

        with contextlib.ExitStack() as stack:
            if self.states is not None:
                count = max(map(len, self.predictor.endings))
                stack.enter_context(last_tokens_only(self.predictor.network, count))
            yield

    @contextlib.contextmanager
    def given(self, rows: np.ndarray, begun: int) -> Iterator[None]:
        """Inside, the network goes on from the states of the prompts `rows`, where there are states.

        begun: How many of their first tokens are read in a call of their own.
        """
        from silvertune.encoders.layers import given_below

        with contextlib.ExitStack() as stack:
            if self.states is not None:
                states = self.states.of(rows, cache=not self.predictor.checkpointing, begun=begun)
                stack.enter_context(given_below(self.predictor.network, states, self.predictor.frozen))
            yield

    def batches(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """`rows` in batches of like length, so that little is padded."""
        return of_like_length(rows, (len(self.tokens[row]) for row in rows), size)
