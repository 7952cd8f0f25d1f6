"""A causal language model made on the spot, whose weights are set by hand, so that what it says is known.

It answers as it is asked to, and says YES the likelier, the more letters X it has read: one layer of attention that
looks at everything alike counts them; otherwise each token decides alone which is next.
"""

from pathlib import Path
from typing import Any

WIDTH, HEADS, LAST = 320, 5, 319
"""LAST: the one dimension of the model that counts the Xs; the others are one a token."""
BEGIN, END, USER, ASSISTANT = "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"
OPEN, CLOSE = '{"label": "', '"}'
SPECIAL = (BEGIN, END, USER, ASSISTANT)
WHOLE = (OPEN, "YES", "NO", CLOSE)
TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def vocabulary() -> list[str]:
    """Every byte, in the letters of GPT-2, then whole pieces of answers, then marks."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*sorted(ByteLevel.alphabet()), *WHOLE, *SPECIAL]


def save(folder: Path) -> Path:
    """The model and its tokenizer, in transformers' format."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = vocabulary()
    ids = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WHOLE])
    tokenizer.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=END, chat_template=TEMPLATE
    )
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=1, num_attention_heads=HEADS,
        max_position_embeddings=4096, tie_word_embeddings=False, rms_norm_eps=1e-6, bos_token_id=ids[BEGIN],
        eos_token_id=ids[END], pad_token_id=ids[END],
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
        model.model.embed_tokens.weight.fill_diagonal_(1.0)
        attention = model.model.layers[0].self_attn
        attention.v_proj.weight[LAST, ids["X"]] = 1.0
        attention.o_proj.weight[LAST, LAST] = 1.0
        head = model.lm_head.weight
        follows = {ASSISTANT: OPEN, "YES": CLOSE, "NO": CLOSE, CLOSE: END}
        for one, other in follows.items():
            head[ids[other], ids[one]] = 10.0
        head[ids["YES"], ids[OPEN]] = 0.4
        head[ids["NO"], ids[OPEN]] = 0.6
        head[ids["YES"], LAST] = 1.0  # 5% of Xs make up for the difference
    model.save_pretrained(folder)
    return folder


def write_gguf(folder: Path, path: Path) -> None:
    """Write what `save` left in a folder for llama.cpp; needs gguf."""
    import json
    import struct

    import gguf
    import numpy as np

    content = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    words = [None] * len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    for word, place in json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].items():
        words[place] = word
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    kinds = dict.fromkeys(SPECIAL, gguf.TokenType.CONTROL) | dict.fromkeys(WHOLE, gguf.TokenType.USER_DEFINED)
    writer.add_token_types([kinds.get(word, gguf.TokenType.NORMAL) for word in words])
    writer.add_token_merges(["N O"])  # it wants one; NO is one token anyway
    writer.add_bos_token_id(words.index(BEGIN))
    writer.add_eos_token_id(words.index(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    names = {
        "model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm",
        "model.layers.0.input_layernorm": "blk.0.attn_norm",
        "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
        "model.layers.0.self_attn.q_proj": "blk.0.attn_q", "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
        "model.layers.0.self_attn.v_proj": "blk.0.attn_v", "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
        "model.layers.0.mlp.gate_proj": "blk.0.ffn_gate", "model.layers.0.mlp.up_proj": "blk.0.ffn_up",
        "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
    }  # fmt: skip
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(content[8 + size + begin : 8 + size + end], dtype=np.float32).reshape(entry["shape"])
        writer.add_tensor(f"{names[name.removesuffix('.weight')]}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
