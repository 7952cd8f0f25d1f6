"""The folder of a pretrained model: which of its files decide what it computes, and how they are loaded.

A file that transformers does not read counts for nothing: notes, caches and locks may lie beside the weights. Code in
the folder is never run.
"""

import hashlib
import json
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

from silvertune.errors import UserError

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names of weights, in the order in which transformers looks for them; an index names the files of its parts."""
TOKENIZER_FILES = (
    "added_tokens.json",
    "bpe.codes",
    "byte_maps.json",
    "dict.txt",
    "emoji.json",
    "entity_vocab.json",
    "merges.txt",
    "normalizer.json",
    "prophetnet.tokenizer",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "spm_char.model",
    "target.spm",
    "target_vocab.json",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab-src.json",
    "vocab-tgt.json",
    "vocab.json",
    "vocab.txt",
    "word_pronunciation.json",
    "word_shape.json",
)
"""Every file name that a tokenizer of transformers reads."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
"""transformers puts an adapter that lies beside the weights on them."""
COMPILED = "_orig_mod."
"""What torch.compile puts into the names of weights."""


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights that transformers would load from `folder`; empty where there are none."""
    for name in WEIGHTS:
        file = folder / name
        if file.is_file() and name.endswith(".index.json"):
            return [file, *sorted(folder / part for part in _parts(file))]
        if file.is_file():
            return [file]
    return []


def deciding_files(folder: Path) -> list[Path]:
    """The files in `folder` that decide what the model makes of a text: configuration, weights and tokenizer."""
    others = [folder / name for name in (CONFIG, *TOKENIZER_FILES, *ADAPTER_FILES)]
    return [*weight_files(folder), *(file for file in others if file.is_file())]


def digest(files: list[Path]) -> str:
    """SHA-256 of one file; of several, that of their names and digests.

    Raises:
        UserError: A file can't be read, such as a part that an index names and the folder lacks.
    """
    try:
        digests = [_file_digest(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    except OSError as error:
        raise UserError(f"{error.filename}: can't be read: {error.strerror}") from None
    if len(files) == 1:
        return digests[0]
    lines = [f"{file.name} {content}\n" for file, content in sorted(zip(files, digests, strict=True))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load_tokenizer(folder: Path, setting: str) -> Any:
    """The tokenizer in `folder`, which pads with another token where it has none for that.

    Args:
        folder: A model's folder.
        setting: The config key and its value, for messages.

    Raises:
        UserError: It can't be loaded, or has no vocabulary.
    """
    from transformers import AutoTokenizer

    _make_transformers_quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise UserError(f"{setting}: {_reason(error, 'tokenizer', folder)}") from None
    if len(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)) == 0:
        # transformers makes an empty one where the files are missing, to which every word is unknown.
        raise UserError(
            f"{setting}: the tokenizer in {folder} has no vocabulary; want its files, such as tokenizer.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_network(auto_class: str, folder: Path, setting: str, *, new_head: bool, **settings: Any) -> Any:
    """The network in `folder` in eval mode and float32, on the CPU, with its weights from the file.

    Args:
        auto_class: A name in transformers, such as `AutoModel`.
        folder: A model's folder.
        setting: The config key and its value, for messages.
        new_head: Whether a head may be drawn at random where the folder has none, or one of another size.
        **settings: For the network's configuration.

    Raises:
        UserError: It can't be loaded, or another weight is missing or of another size.
    """
    import torch
    import transformers

    _make_transformers_quiet()
    try:
        network, loading_info = getattr(transformers, auto_class).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # a head for other classes: we draw a new one
            **settings,
        )
    except Exception as error:
        raise UserError(f"{setting}: {_reason(error, 'model', folder)}") from None
    not_loaded = {*loading_info["missing_keys"], *(entry[0] for entry in loading_info["mismatched_keys"])}
    if lacking := sorted(name for name in not_loaded if not (new_head and _in_head(name, network))):
        raise UserError(
            f"{setting}: {len(lacking)} of {len(network.state_dict())} weights of {type(network).__name__} are not in "
            f"{folder}, such as {lacking[0]}: {_advice(loading_info['unexpected_keys'])}"
        )
    return network.eval()


def _in_head(name: str, network: Any) -> bool:
    """Whether the weight belongs to a pooler, or lies outside of the pretrained body."""
    prefix = f"{network.base_model_prefix}."
    outside = network is not network.base_model and not name.startswith(prefix)
    return outside or name.removeprefix(prefix).split(".")[0] == "pooler"


def _advice(unexpected_names: Any) -> str:
    if any(COMPILED in name for name in unexpected_names):
        return f"the names there contain {COMPILED!r}, from torch.compile; save the model that was compiled instead"
    return f"want weights of the architecture that its {CONFIG} names"


def _reason(error: Exception, kind: str, folder: Path) -> str:
    """Why a checkpoint, which may be anything, can't be loaded."""
    if isinstance(error, pickle.UnpicklingError):
        return f"the weights in {folder} hold more than numbers, which is never run; want model.safetensors"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("trust_remote_code" in line for line in lines):
        return (
            f"the {kind} in {folder} needs code of its own, which silvertune never runs; want a model whose class "
            "transformers has"
        )
    return f"no {kind} can be loaded from {folder}: {lines[0] if lines else type(error).__name__}"


def _make_transformers_quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _parts(index: Path) -> set[str]:
    try:
        return {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, LookupError, AttributeError):
        raise UserError(f"{index}: is no index of weights; want JSON with a weight_map") from None


@lru_cache(maxsize=256)
def _file_digest(file: Path, modified_ns: int, size: int) -> str:
    """SHA-256 of a file; read again only where its time or size differs."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
