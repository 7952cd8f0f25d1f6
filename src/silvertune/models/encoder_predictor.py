"""A tuned encoder: what it predicts, how its texts are run, how it is saved and loaded."""

import contextlib
import copy
import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.encoders import checkpoint
from silvertune.encoders.batches import TOKENS_AT_ONCE, of_like_length
from silvertune.encoders.encoder import Encoder
from silvertune.errors import UserError
from silvertune.models import fast_path, saved

PACKAGES = ("huggingface-hub", "peft", "safetensors", "torch", "transformers")
TOLERANCE = 0.05
"""Largest difference of logits between half-precision states and the whole network, and after loading."""
STATE_TOLERANCE = 0.02
"""Largest distance of the first token's last hidden state on kept states from the whole network's, as a share of its
length. Half precision alone makes about 0.001."""


@dataclass(frozen=True)
class EncoderPredictor:
    """A tuned network with what it needs to read texts.

    Attributes:
        encoder: Reads the texts.
        classes: In the order of the network's outputs.
        views: The views that it reads.
        network: The network with its head, on the device where it runs.
        wrapper: PEFT's, around `network`; None without adapters.
        frozen: How many of the lowest layers' output is read from `cache`; 0 runs the whole network.
        cache: Folder of hidden states, or None.
        bfloat16: Whether matrices are multiplied in bfloat16.
        batch_size: Examples a step; prediction takes up to four times as many.
        ran_on: What it was tuned on: `device`, `precision`, `bfloat16_units`, `threads`.
        history: One dict an epoch: `loss`, and with a validation set `validation_loss` and `validation_auprc`.
        sample: Some texts, on which a saved predictor is compared with this one.
    """

    encoder: Encoder
    classes: tuple[str, ...]
    views: tuple[str, ...]
    network: Any
    wrapper: Any
    frozen: int
    cache: Path | None
    bfloat16: bool
    batch_size: int
    ran_on: Mapping[str, str] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions that it needs where it is served; the base of an adapter may be in one of its own."""
        in_package = self.wrapper is not None and self.encoder.package is not None and self.encoder.path is None
        return (*PACKAGES, str(self.encoder.package)) if in_package else PACKAGES

    @property
    def base_model(self) -> str:
        """The encoder that it was tuned from: its folder or its hub id."""
        return self.encoder.path or self.encoder.name

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Class probabilities, indexed by (item_id, view); views that an item lacks are left out."""
        from scipy.special import softmax

        pairs = [(item, view) for view in self.views for item in items.index[items[view].notna()]]
        if not pairs:
            return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["item_id", "view"]))
        logits = self.logits([str(items.at[item, view]) for item, view in pairs])
        index = pd.MultiIndex.from_tuples(pairs, names=["item_id", "view"])
        return pd.DataFrame(softmax(logits, axis=1), index=index, columns=list(self.classes))

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """(len(texts), classes) float64."""
        import torch

        inputs = self.inputs(texts)
        logits = np.empty((len(texts), len(self.classes)))
        with torch.inference_mode(), inputs.network():
            for rows in inputs.batches(np.arange(len(texts)), 4 * self.batch_size, self._most_tokens):
                logits[rows] = self.forward(inputs, rows).float().cpu().numpy()
        return logits

    @property
    def _most_tokens(self) -> float:
        """Of a batch that is predicted. A GPU is the faster the more it gets."""
        return TOKENS_AT_ONCE if self.network.device.type == "cpu" else math.inf

    def read(self, view: str, texts: Sequence[str]) -> list[str]:
        """The texts themselves: it reads every view alike."""
        return list(texts)

    def inputs(self, texts: Sequence[str]) -> "Inputs":
        """`texts`, ready to be run: as hidden states from the cache where there are any, else as tokens."""
        if self.frozen and self.cache is not None:
            return Inputs(self, states=self.encoder.states(texts, self.frozen, self.cache))
        return Inputs(self, tokens=self.encoder.tokens(texts), padding=self.encoder.tokenizer().pad_token_id or 0)

    def forward(self, inputs: "Inputs", rows: np.ndarray) -> Any:
        """Logits (len(rows), classes) as a tensor. Inside `inputs.network()`."""
        import torch

        with torch.autocast(self.network.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            return self.network(**inputs.batch(rows)).logits

    def compare_fast_path(self, texts: Sequence[str]) -> None:
        """Compare what kept states give with what the whole network gives, on the four shortest texts.

        Raises:
            UserError: The first token's last hidden state, or the logits, differ by more than half precision explains.
        """
        if not self.frozen or not texts:
            return
        shortest = fast_path.shortest(texts)
        above = dataclasses.replace(self, bfloat16=False)
        fast_path.compare(
            lambda: above._states_and_logits(shortest),
            lambda: dataclasses.replace(above, frozen=0)._states_and_logits(shortest),
            tolerance=TOLERANCE,
            state_tolerance=STATE_TOLERANCE,
            network=f"{type(self.network).__name__} of {self.encoder.setting}",
            kept=self.cache,
        )

    def _states_and_logits(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The last layer's output of each text's first token, which the head reads, and the logits; one text a step."""
        import torch

        states: list[Any] = []
        hook = self.network.base_model.register_forward_hook(
            lambda module, arguments, output: states.append(output.last_hidden_state[0, 0])
        )
        inputs = self.inputs(texts)
        try:
            with torch.inference_mode(), inputs.network():
                logits = [self.forward(inputs, np.array([row]))[0] for row in range(len(texts))]
        finally:
            hook.remove()
        return torch.stack(states).float().cpu().numpy(), torch.stack(logits).float().cpu().numpy()

    # ------------------------------------------------------------------------------------------ saved and loaded

    def save(self, path: Path) -> None:
        """Write the predictor to the new folder `path`, load it again and compare; nothing is left if that fails.

        With LoRA it is in PEFT's own format, head included, and names the base that it was tuned on: the absolute path
        of the encoder's folder where the encoder was chosen by `path`, else its hub id. Without, it is in
        transformers' own format and needs no base.

        Raises:
            UserError: The disk is full.
            RuntimeError: What was saved predicts otherwise.
        """
        from safetensors import SafetensorError

        meta = {
            "classes": list(self.classes),
            "views": list(self.views),
            "encoder": {
                **dataclasses.asdict(self.encoder),
                "path": None if self.encoder.path is None else str(Path(self.encoder.path).absolute()),
                "sha256": self.encoder.verify(),
            },
            "encoder_content": self.encoder.content_key(),
            "adapter": self.wrapper is not None,
            "batch_size": self.batch_size,
        }
        with saved.new_folder(path, f"{__name__}.load", meta) as folder:
            try:
                if self.wrapper is None:
                    self.network.save_pretrained(folder)
                else:  # False: no look at the hub for the base's vocabulary
                    self.wrapper.save_pretrained(folder, save_embedding_layers=False)
            except SafetensorError as error:  # what it makes of a full disk
                raise OSError(str(error)) from error
            self.encoder.tokenizer().save_pretrained(folder)
            exact = dataclasses.replace(self, bfloat16=False, frozen=0)
            difference = np.abs(load(folder).logits(self.sample) - exact.logits(self.sample)).max(initial=0.0)
            if not difference < TOLERANCE:
                raise RuntimeError(f"the saved model's logits differ from the tuned one's by {difference:.3f}")


def load(folder: Path, base: Path | None = None) -> EncoderPredictor:
    """Load the predictor saved in `folder`, on the CPU.

    Args:
        folder: Written by `EncoderPredictor.save`, of this version or of 0.1.
        base: Where the folder of an adapter's base is now; None is where it was, the hub's cache, or the package.

    Raises:
        UserError: An adapter's base is not on this machine, or is not the one that it was tuned on.
    """
    meta = saved.read(folder)
    settings = meta["encoder"]
    encoder = Encoder(**{**settings, "path": settings["path"] if base is None else str(base), "sha256": None})
    wrapper = None
    if meta["adapter"]:
        from peft import PeftModel

        encoder = _base(folder, encoder, settings["sha256"], meta.get("encoder_content"))
        network = new_network(encoder, meta["classes"])
        with peft_without_warnings():
            wrapper = PeftModel.from_pretrained(network, str(folder)).eval()
    else:  # its tokenizer is there
        encoder = dataclasses.replace(encoder, path=str(folder))
        network = checkpoint.load_network("AutoModelForSequenceClassification", folder, str(folder), new_head=False)
    return EncoderPredictor(
        encoder=encoder,
        classes=tuple(meta["classes"]),
        views=tuple(meta["views"]),
        network=network,
        wrapper=wrapper,
        frozen=0,
        cache=None,
        bfloat16=False,
        batch_size=meta["batch_size"],
    )


def _base(folder: Path, encoder: Encoder, weights: str, content: str | None) -> Encoder:
    """The encoder that an adapter was tuned on, where it is now.

    weights, content: its `verify()` and `content_key()` when it was tuned; content is None in models of 0.1.
    """
    advice = "set labeler.base to the folder of the base that it was tuned on"
    tuned_on = f"{folder}: was tuned on {encoder.setting} with weights {weights[:12]}..."
    try:
        # A folder that is gone: the hub's cache or the package may have the same weights.
        has_folder = encoder.path is None or Path(encoder.path).is_dir()
        encoder_now = encoder if has_folder else dataclasses.replace(encoder, path=None)
        weights_now, folder_now = encoder_now.verify(), encoder_now.folder()
    except UserError as error:
        raise UserError(f"{tuned_on}, which is not on this machine ({error}); {advice}") from None
    if weights_now != weights and encoder_now is not encoder:
        raise UserError(f"{tuned_on}, which is no longer there; {advice}")
    if weights_now != weights:
        raise UserError(f"{tuned_on}, and those in {folder_now} are {weights_now[:12]}...; {advice}")
    if content is not None and encoder_now.content_key() != content:
        raise UserError(
            f"{tuned_on}, and the tokenizer or {checkpoint.CONFIG} in {folder_now} has changed since; {advice}"
        )
    return dataclasses.replace(encoder_now, sha256=weights)


@contextlib.contextmanager
def peft_without_warnings() -> Iterator[None]:
    """PEFT asks transformers for something by an old name, which users can do nothing about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def new_network(encoder: Encoder, classes: Sequence[str]) -> Any:
    """The encoder's network in eval mode, with a new head drawn from torch's global generator.

    Raises:
        UserError: As `silvertune.encoders.Encoder.check`.
    """
    pretrained = _pretrained(encoder.folder(), encoder.content_key(), encoder.setting, len(classes))
    network = copy.deepcopy(pretrained)
    name = encoder.name if encoder.path is None else str(Path(encoder.path).absolute())
    network.config._name_or_path = network.name_or_path = name
    network.config.id2label = dict(enumerate(classes))
    network.config.label2id = {name: number for number, name in enumerate(classes)}
    if network.config.pad_token_id is None:
        network.config.pad_token_id = encoder.tokenizer().pad_token_id
    for child in network.children():
        if child is not network.base_model:
            child.apply(network._init_weights)
    return network


@lru_cache(maxsize=2)
def _pretrained(folder: Path, content_key: str, setting: str, classes: int) -> Any:
    """The network as the folder has it, for `classes` classes.

    What is drawn while it is loaded (its head, and weights that the folder lacks) comes from a seed of its own: a
    process loads once, and its first fit must draw what any later one would.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return checkpoint.load_network(
            "AutoModelForSequenceClassification", folder, setting, new_head=True, num_labels=classes
        )


# ------------------------------------------------------------------------------------------------ how texts are run


@dataclass(frozen=True)
class Inputs:
    """Texts on their way into a predictor's network, as states of its frozen layers or as tokens.

    Attributes:
        predictor: Its network reads them.
        states: For each text (tokens, width); None where the whole network runs.
        tokens: For each text its token ids, where the whole network runs.
        padding: Token id that fills short rows; 0 for states.
    """

    predictor: EncoderPredictor
    states: Sequence[np.ndarray] | None = None
    tokens: Sequence[Sequence[int]] = ()
    padding: int = 0

    @property
    def rows(self) -> Sequence[Any]:
        return self.tokens if self.states is None else self.states

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """The network as these inputs need it: whole, or only what is above the frozen layers."""
        from silvertune.encoders.layers import only_above

        with contextlib.ExitStack() as stack:
            if self.states is not None:
                stack.enter_context(only_above(self.predictor.network, self.predictor.frozen))
            yield

    def batches(self, rows: np.ndarray, size: int, tokens: float = math.inf) -> list[np.ndarray]:
        """`rows` in batches of like length, so that little is padded; of at most `size` rows and so many tokens."""
        return of_like_length(rows, (len(self.rows[row]) for row in rows), size, tokens)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """What the network takes: the texts `rows`, padded to the longest of them."""
        import torch

        texts = [torch.as_tensor(self.rows[row]) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=self.padding)
        lengths = torch.tensor([len(text) for text in texts])
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        device = self.predictor.network.device
        if self.states is None:
            return {"input_ids": padded.to(device), "attention_mask": mask.to(device)}
        return {"inputs_embeds": padded.to(device).float(), "attention_mask": mask.to(device)}
