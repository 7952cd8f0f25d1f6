"""The families that `encoder=` offers: a tiny random network of each labels, embeds and is tuned as its yamls say."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from tests import made, tiny
from tests.models.tea_and_oil import ITEMS, training

from silvertune.encoders.encoder import Encoder
from silvertune.labelers.zero_shot import ZeroShot
from silvertune.models import saved
from silvertune.schema import Task

TEXTS = ["green leaf", "barrel price and a longer text about crude", "hot"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bge_small": ("minilm_lora", "BertConfig", {}),
    "e5_small": ("minilm_lora", "BertConfig", {}),
    "deberta_v3": (
        "deberta_lora",
        "DebertaV2Config",
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True,
         "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0},
    ),
    "modernbert": ("modernbert_lora", "ModernBertConfig", {"global_attn_every_n_layers": 2, "local_attention": 8}),
    "xlm_roberta": ("roberta_lora", "XLMRobertaConfig", {}),
}  # fmt: skip
"""Encoder (a shipped yaml, but for the last) -> its student's yaml, its configuration in transformers, and settings."""


def shipped_encoder(name: str) -> dict[str, Any]:
    """What conf/encoder/<name>.yaml says, over the one that it is made from."""
    content: dict[str, Any] = yaml.safe_load((tiny.CONF / "encoder" / f"{name}.yaml").read_text(encoding="utf-8"))
    bases = [base for base in content.pop("defaults", []) if base != "_self_"]
    return {key: value for base in bases for key, value in shipped_encoder(base).items()} | content


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.encoder(tiny.bert(tmp_path_factory.mktemp("tokenizer") / "tiny")).tokenizer()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def encoder(family: str, tokenizer: Any, tmp_path: Path) -> Encoder:
    """A random network of the family, with the pooling and prefixes of its yaml."""
    _, config, settings = FAMILIES[family]
    marks = {f"{kind}_token_id": tokenizer.cls_token_id for kind in ("cls", "bos")}
    marks |= {f"{kind}_token_id": tokenizer.sep_token_id for kind in ("sep", "eos")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = transformers.AutoModel.from_config(
            getattr(transformers, config)(
                **SMALL, **settings, **marks, vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0
            )
        )
    network.save_pretrained(tmp_path / family)
    tokenizer.save_pretrained(tmp_path / family)
    shipped = {} if family == "xlm_roberta" else shipped_encoder(family)
    as_shipped = {key: shipped[key] for key in ("pooling", "text_prefix", "query_prefix") if key in shipped}
    return tiny.encoder(tmp_path / family, kept_layer=2, max_tokens=48, **as_shipped)


def test_every_shipped_encoder_has_a_family() -> None:
    names = {file.stem for file in (tiny.CONF / "encoder").glob("*.yaml")}
    assert names - {"minilm"} == set(FAMILIES) - {"xlm_roberta"}
    for name in names:
        settings = shipped_encoder(name)
        assert set(settings) == {"_target_", *(field.name for field in dataclasses.fields(Encoder))}
        Encoder(**{key: value for key, value in settings.items() if key != "_target_"})


def test_a_family_embeds_and_labels(encoder: Encoder, tmp_path: Path) -> None:
    encoder.check()
    model = transformers.AutoModel.from_pretrained(str(encoder.path)).eval()
    vectors = encoder.embed(TEXTS, tmp_path / "cache", queries=["oil"])
    read = [*(f"{encoder.text_prefix}{text}" for text in TEXTS), f"{encoder.query_prefix}oil"]
    for vector, text in zip(vectors, read, strict=True):
        ids = encoder.tokenizer()(text, truncation=True, max_length=encoder.max_tokens, return_tensors="pt")[
            "input_ids"
        ]
        with torch.inference_mode():
            states = model(input_ids=ids).last_hidden_state[0]
        pooled = (states[0] if encoder.pooling == "cls" else states.mean(0)).numpy()
        np.testing.assert_allclose(vector, pooled / np.linalg.norm(pooled), atol=1e-5)
    items = ITEMS.astype(object).where(ITEMS.notna(), None)
    task = Task(name="t", classes=["tea", "oil"], descriptions={"tea": ["green leaf"], "oil": ["crude barrel"]})
    votes = ZeroShot(task, tmp_path / "cache", encoder=encoder, views=None, temperature=0.05).label(items)
    assert set(votes["label"].dropna()) <= {"tea", "oil"}
    assert votes["label"].notna().sum() == ITEMS[["json", "text"]].notna().to_numpy().sum()


def test_a_family_is_tuned_above_kept_states_and_saved(family: str, encoder: Encoder, tmp_path: Path) -> None:
    name = FAMILIES[family][0]
    student = tiny.student(Path(str(encoder.path)), tmp_path / "cache", name, encoder=encoder, epochs=8)
    assert student.cached
    predictor = student.fit(training(), training().iloc[:0], 0)
    assert predictor.frozen == 1
    tuned = [path for path, weight in predictor.network.named_parameters() if weight.requires_grad and "lora_" in path]
    assert len(tuned) == 2 * 2 * len(student.target_modules)  # two layers, two matrices each
    probs = predictor.predict_proba(ITEMS)
    assert probs.loc[("p", "text"), "tea"] > 0.5 > probs.loc[("q", "text"), "tea"]
    predictor.save(tmp_path / "saved")
    again = saved.load(tmp_path / "saved").predict_proba(ITEMS)
    np.testing.assert_allclose(again.to_numpy(), probs.to_numpy(), atol=0.01)


def test_prefixes_are_read_and_counted(tokenizer: Any, tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "tiny")
    plain, prefixed = tiny.encoder(folder), tiny.encoder(folder, text_prefix="hot ", query_prefix="iron ")
    written_out = plain.embed(["hot sea", "hot leaf", "iron sea"], tmp_path / "one")
    np.testing.assert_array_equal(prefixed.embed(["sea", "leaf"], tmp_path / "two", queries=["sea"]), written_out)
    assert prefixed.tokens(["sea"]) == plain.tokens(["hot sea"])
    assert prefixed.stored(["sea", "cup"], tmp_path / "two") == 1
    for one, other in zip(prefixed.states(["sea"], 2, tmp_path), plain.states(["hot sea"], 2, tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_pooling_has_vectors_of_its_own(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "tiny")
    mean, first = (tiny.encoder(folder, pooling=pooling).embed(["sea leaf"], tmp_path) for pooling in ("mean", "cls"))
    assert not np.allclose(mean, first, atol=1e-3)
    with made.refused("encoder.pooling=last", "mean or cls"):
        tiny.encoder(folder, pooling="last")
