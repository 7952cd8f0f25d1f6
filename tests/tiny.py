"""A tiny random transformer on disk, and students tuned on it: everything that a real one does, in milliseconds."""

import itertools
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tests import made

from silvertune.encoders.encoder import Encoder
from silvertune.models.encoder_classifier import EncoderClassifier

CONF = Path(__file__).resolve().parents[1] / "conf"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOPICS = [
    *made.WORDS.values(),
    ("leaf", "hot", "cup", "brew"),
    ("black", "barrel", "crude", "well", "price"),
    ("iron", "deep", "mine", "rail"),
]
"""Words that this network finds alike."""


def bert(folder: Path, *, seed: int = 0, layers: int = 3) -> Path:
    """Save a random BERT of hidden size 32, with a WordPiece vocabulary of `TOPICS` and letters, to `folder`.

    It is made once a process, and copied.
    """
    return shutil.copytree(_made_bert(seed, layers).name, folder, dirs_exist_ok=True)


@cache
def _made_bert(seed: int, layers: int) -> "tempfile.TemporaryDirectory[str]":
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tempfile.TemporaryDirectory()
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    marks = list("[](){}\"',.;:!?-✓•")
    entries = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *marks, *itertools.chain(*TOPICS)]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(folder.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
        model = BertModel(config)
        with torch.no_grad():
            for words in TOPICS:
                model.embeddings.word_embeddings.weight[[vocabulary[word] for word in words]] += torch.randn(32)
        model.save_pretrained(folder.name)
    return folder


def encoder(folder: Path, **settings: Any) -> Encoder:
    """The network in `folder` as an encoder whose texts end at 24 tokens."""
    usual: dict[str, Any] = {
        "name": "tiny/bert",
        "path": str(folder),
        "package": None,
        "sha256": None,
        "max_tokens": 24,
        "batch_size": 4,
        "kept_layer": None,
        "cache_gb": 1.0,
    }
    return Encoder(**(usual | settings))


def shipped_model(name: str) -> dict[str, Any]:
    """What conf/model/<name>.yaml says, over the one that it is made from."""
    content: dict[str, Any] = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    bases = [base for base in content.pop("defaults", []) if base != "_self_"]
    return {key: value for base in bases for key, value in shipped_model(base).items()} | content


def student(folder: Path, cache: Path, name: str = "minilm_lora", **settings: Any) -> EncoderClassifier:
    """The shipped student `name`, with the network in `folder`, and quick to learn in float32."""
    shipped = shipped_model(name)
    rate, epochs = {"minilm_full": (0.003, 3), "minilm_linear_head": (0.05, 6)}.get(name, (0.01, 3))
    quick = {
        "cache": cache,
        "encoder": encoder(folder),
        "learning_rate": rate,
        "epochs": epochs,
        "batch_size": 8,
        "class_weight": None,
        "precision": "float32",
        "device": "cpu",
    }
    return EncoderClassifier(**({key: value for key, value in shipped.items() if key != "_target_"} | quick | settings))
