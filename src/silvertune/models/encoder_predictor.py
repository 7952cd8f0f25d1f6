"""A tuned encoder: what it predicts, how its texts are run, how it is saved and loaded."""

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.encoders.encoder import WEIGHTS, Encoder, verified
from silvertune.errors import UserError
from silvertune.models import saved

TOLERANCE = 0.05
"""Largest difference of logits between half-precision states and the whole network, and after loading."""


@dataclass(frozen=True)
class EncoderPredictor:
    """A tuned network with what it needs to read texts.

    classes: in the order of the network's outputs. wrapper: PEFT's, around `network`; None without adapters.
    frozen: the lowest layers whose output is read from `cache`; 0 runs the whole network.
    history: one dict an epoch: `loss`, and with a validation set `validation_loss` and `validation_auprc`.
    sample: some texts, on which a saved predictor is compared with this one.
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
    history: list[dict[str, float]] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)

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
        found = np.empty((len(texts), len(self.classes)))
        with torch.inference_mode(), inputs.network():
            for rows in inputs.batches(np.arange(len(texts)), 4 * self.batch_size):
                found[rows] = self.forward(inputs, rows).float().cpu().numpy()
        return found

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
        """UserError if kept states do not give what the whole network gives."""
        if not self.frozen:
            return
        few = sorted(set(texts), key=lambda text: (len(text), text))[:4]
        exact = dataclasses.replace(self, bfloat16=False)
        try:
            difference = np.abs(exact.logits(few) - dataclasses.replace(exact, frozen=0).logits(few)).max()
            told = f"log-odds differ by {difference:.2f}"
        except (LookupError, AttributeError, TypeError, RuntimeError) as error:
            difference, told = np.inf, f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if not difference < TOLERANCE:
            raise UserError(
                f"model.cached=true: the upper layers of {type(self.network).__name__} can't be run by themselves "
                f"({told}); want model.cached=false"
            )

    # ------------------------------------------------------------------------------------------ saved and loaded

    def save(self, path: Path) -> None:
        """Write the predictor to the new folder `path`, load it again and compare; nothing is left if that fails.

        With LoRA in PEFT's own format, head included; else in transformers' own.
        """
        from safetensors import SafetensorError

        meta = {
            "classes": list(self.classes),
            "views": list(self.views),
            "encoder": {**dataclasses.asdict(self.encoder), "sha256": self.encoder.verify()},
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


def load(folder: Path) -> EncoderPredictor:
    """The predictor saved in `folder`, on the CPU.

    Raises UserError if an adapter's base is not on this machine, or is not the one that it was tuned on.
    """
    from transformers import AutoModelForSequenceClassification

    meta = saved.read(folder)
    settings = meta["encoder"]
    path = settings["path"] if settings["path"] is not None and Path(settings["path"]).is_dir() else None
    encoder = Encoder(**{**settings, "path": path})
    wrapper = None
    if meta["adapter"]:
        from peft import PeftModel

        found = verified(encoder.folder() / WEIGHTS, None)
        if found != settings["sha256"]:
            raise UserError(
                f"{folder}: was tuned on {encoder.name} with weights {settings['sha256'][:12]}..., and those in "
                f"{encoder.folder()} are {found[:12]}...: give it the base that it was tuned on"
            )
        network = new_network(encoder, meta["classes"])
        with peft_without_warnings():
            wrapper = PeftModel.from_pretrained(network, str(folder)).eval()
    else:
        encoder = dataclasses.replace(
            encoder, path=str(folder), sha256=None
        )  # its tokenizer is there; no base is needed
        network = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
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


@contextlib.contextmanager
def peft_without_warnings() -> Iterator[None]:
    """PEFT asks transformers for something by an old name, which users can do nothing about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def new_network(encoder: Encoder, classes: Sequence[str]) -> Any:
    """The encoder's network in eval mode, with a new head drawn from torch's global generator."""
    network = copy.deepcopy(_pretrained(encoder.folder(), len(classes)))
    network.config._name_or_path = network.name_or_path = encoder.name
    network.config.id2label = dict(enumerate(classes))
    network.config.label2id = {name: number for number, name in enumerate(classes)}
    for child in network.children():
        if child is not network.base_model:
            child.apply(network._init_weights)
    return network


@lru_cache(maxsize=2)
def _pretrained(folder: Path, classes: int) -> Any:
    """What is drawn while the network is loaded (its head, and weights that the folder lacks) comes from a seed of
    its own: a process loads once, and its first fit must draw what any later one would."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=classes, local_files_only=True
        ).eval()


# ------------------------------------------------------------------------------------------------ how texts are run


@dataclass(frozen=True)
class Inputs:
    """Texts on their way into a predictor's network, as `states` of its frozen layers or as `tokens`."""

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

    def batches(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """`rows` in batches of like length, so that little is padded."""
        order = rows[np.argsort([len(self.rows[row]) for row in rows], kind="stable")]
        return [order[start : start + size] for start in range(0, len(order), size)]

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """What the network takes: the texts `rows`, padded to the longest of them."""
        import torch

        some = [self.rows[row] for row in rows]
        lengths = np.array([len(each) for each in some])
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        if self.states is None:
            padded = np.full(mask.shape, self.padding, dtype=np.int64)
        else:
            padded = np.zeros((*mask.shape, some[0].shape[1]), dtype=np.float32)
        padded[mask] = np.concatenate(some)
        device = self.predictor.network.device
        name = "input_ids" if self.states is None else "inputs_embeds"
        return {
            name: torch.from_numpy(padded).to(device),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(device),
        }
