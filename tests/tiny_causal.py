"""A tiny random causal language model on disk, with a tokenizer made on the spot, and students tuned on it."""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests import tiny

from silvertune.llms import prompts
from silvertune.models.causal_lora import CausalLora
from silvertune.schema import Task

TASK = Task(
    name="goods",
    classes=["tea", "oil", "ore"],
    descriptions={"tea": ["leaves"], "oil": ["barrels"], "ore": ["mines"]},
)
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
SIGNAL = 4.0
"""How much stronger the words of a topic are than what they stand among."""
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**SMALL, "num_key_value_heads": 1}),
    "qwen": ("Qwen2Config", {**SMALL, "num_key_value_heads": 1}),
    "gemma": ("Gemma3TextConfig", {**SMALL, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 64,
                                   "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 2}),
}  # fmt: skip
"""Name -> its configuration's class in transformers, and a small network's settings."""


def save_tokenizer(folder: Path, template: str | None = TEMPLATE) -> Any:
    """Byte pairs of prompts' own words, so that a prompt is short; saved to `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    (shown,) = prompts.of(TASK, ["text"], reason=False, confidence=False, examples={}, max_item_tokens=100)
    words = [turn.content for turn in shown.request("a text").messages] + [" ".join(topic) for topic in tiny.TOPICS]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        words * 3,
        trainers.BpeTrainer(vocab_size=900, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", chat_template=template)
    tokenizer.save_pretrained(folder)
    return tokenizer


def causal_lm(folder: Path, family: str = "llama", *, seed: int = 0, **settings: Any) -> Path:
    """Save a random network of a family to `folder`; it is made once a process, and copied."""
    return shutil.copytree(_made_causal_lm(family, seed, json.dumps(settings)).name, folder, dirs_exist_ok=True)


@cache
def _made_causal_lm(family: str, seed: int, settings_json: str) -> "tempfile.TemporaryDirectory[str]":
    import torch
    import transformers

    folder = tempfile.TemporaryDirectory()
    tokenizer, settings = save_tokenizer(Path(folder.name)), json.loads(settings_json)
    name, small = FAMILIES[family]
    usual = {"vocab_size": len(tokenizer), "initializer_range": 0.2, "max_position_embeddings": 512}
    config = getattr(transformers, name)(**(usual | small | {"eos_token_id": 3, "bos_token_id": 3} | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for topic in tiny.TOPICS:
                ids = {
                    token
                    for word in topic
                    for form in (word, f" {word}")
                    for token in tokenizer(form, add_special_tokens=False)["input_ids"]
                }
                network.get_input_embeddings().weight[sorted(ids)] += SIGNAL * torch.randn(network.config.hidden_size)
        network.save_pretrained(folder.name)
    return folder


def student(folder: Path, cache: Path, name: str = "causal_lora", **settings: Any) -> CausalLora:
    """The shipped student `name`, with the network in `folder`, and quick to learn."""
    shipped = tiny.shipped_model(name)
    quick = {
        "task": TASK,
        "cache": cache,
        "model": str(folder),
        "max_tokens": 300,
        "learning_rate": 0.02,
        "batch_size": 8,
        "class_weight": None,
        "device": "cpu",
    }
    return CausalLora(**({key: value for key, value in shipped.items() if key != "_target_"} | quick | settings))
