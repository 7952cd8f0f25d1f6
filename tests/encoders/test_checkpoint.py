"""Checkpoints as people have them: each works, or is refused in one line before anything is labelled."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests import made, tiny
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune import identity
from silvertune.encoders import checkpoint
from silvertune.encoders.encoder import Encoder
from silvertune.labelers.zero_shot import ZeroShot
from silvertune.models import saved

TEXTS = ["green leaf", "barrel price"]
ROBERTA = {"head": ["classifier"], "target_modules": ["query", "key", "value"]}
ALL_LAYERS = {"name": "minilm_lora_all_layers"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.bert(tmp_path / "tiny")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.encoder(tiny.bert(tmp_path_factory.mktemp("tokenizer") / "tiny")).tokenizer()


def saved_as(model: Any, tokenizer: Any, folder: Path, **settings: Any) -> Path:
    model.save_pretrained(folder, **settings)
    tokenizer.save_pretrained(folder)
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rename_weights(folder: Path, rename: Callable[[str], str]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({rename(name): value for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def small(config: Any, tokenizer: Any, **settings: Any) -> Any:
    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    return config(vocab_size=len(tokenizer), pad_token_id=0, initializer_range=0.2, **(size | settings))


def tune(folder: Path, tmp_path: Path, **settings: Any) -> Any:
    predictor = tiny.student(folder, tmp_path / "cache", epochs=1, **settings).fit(training(12), NOTHING, 0)
    probs = predictor.predict_proba(ITEMS)
    assert np.isfinite(probs.to_numpy()).all()
    predictor.save(tmp_path / "saved")
    again = saved.load(tmp_path / "saved").predict_proba(ITEMS)
    np.testing.assert_allclose(again, probs, atol=5e-3)
    return predictor


# ---------------------------------------------------------------------------------- weights that do not fit their class


def test_weights_of_a_compiled_model_are_refused(folder: Path) -> None:
    rename_weights(folder, lambda name: f"_orig_mod.{name}")
    for check in (lambda: tiny.encoder(folder).check(), lambda: tiny.student(folder, folder)):
        with made.refused(f"encoder.path={folder}", "weights of Bert", "'_orig_mod.', from torch.compile"):
            check()


@pytest.mark.parametrize("part", ["encoder.layer.1.attention", "embeddings.word_embeddings", "encoder.layer"])
def test_weights_that_are_missing_are_named(part: str, folder: Path) -> None:
    rename_weights(folder, lambda name: name.replace(part, "of.another"))
    with made.refused(f"encoder.path={folder}", f"are not in {folder}, such as {part}"):
        tiny.encoder(folder).check()


def test_another_architecture_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="distilbert", architectures=["DistilBertModel"])
    with made.refused(f"encoder.path={folder}", "weights of DistilBertModel", "the architecture that its config.json"):
        tiny.encoder(folder).check()


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=96)
    with made.refused(f"encoder.path={folder}", "are not in", "intermediate.dense"):
        tiny.encoder(folder).check()


def test_nothing_is_kept_of_a_model_that_is_refused(folder: Path, tmp_path: Path) -> None:
    rename_weights(folder, lambda name: f"_orig_mod.{name}")
    with made.refused("encoder.path="):
        ZeroShot(made.SOE, tmp_path / "cache", encoder=tiny.encoder(folder), views=None, temperature=0.1)
    assert not (tmp_path / "cache").exists()


def test_a_missing_pooler_is_drawn_anew_and_tuned(folder: Path, tmp_path: Path) -> None:
    rename_weights(folder, lambda name: name.replace("pooler", "another"))
    tiny.encoder(folder).check()
    tune(folder, tmp_path)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with made.refused(f"encoder.path={folder}", "numbers that are not finite"):
        tiny.encoder(folder).check()


# ------------------------------------------------------------------------------------------------- what works as it is


@pytest.mark.parametrize("classes", [1, 3])
def test_a_head_of_other_classes_is_replaced(classes: int, folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=classes)
    headed = saved_as(network, tokenizer, tmp_path / "headed")
    tiny.encoder(headed).check()
    assert tune(headed, tmp_path).classes == ("oil", "tea")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["minilm_lora", "minilm_full"])
def test_half_precision_is_read_as_float32(
    name: str, dtype: torch.dtype, folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    half = saved_as(transformers.AutoModel.from_pretrained(folder).to(dtype), tokenizer, tmp_path / "half")
    encoder = tiny.encoder(half, kept_layer=2)
    encoder.check()
    vectors = encoder.embed(TEXTS, tmp_path / "cache")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert {weight.dtype for weight in tune(half, tmp_path, name=name).network.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_weights_in_other_files_are_taken(name: str, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "model.safetensors").unlink()
    weights = transformers.AutoModel.from_pretrained(folder).state_dict()
    if name == "model.safetensors.index.json":
        transformers.AutoModel.from_pretrained(folder).save_pretrained(other, max_shard_size="20KB")
    elif name == "pytorch_model.bin":
        torch.save(weights, other / name)
    else:
        parts = {key: f"pytorch_model-{number % 2}.bin" for number, key in enumerate(weights)}
        for part in set(parts.values()):
            torch.save({key: weights[key] for key in weights if parts[key] == part}, other / part)
        (other / name).write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    assert (other / name).is_file()
    assert not (other / "model.safetensors").exists()
    encoder = tiny.encoder(other)
    encoder.check()
    np.testing.assert_allclose(
        encoder.embed(TEXTS, tmp_path / "one"), tiny.encoder(folder).embed(TEXTS, tmp_path / "two"), atol=1e-6
    )
    tune(other, tmp_path)
    one_file = checkpoint.weight_files(other)[-1]
    digest = encoder.verify()
    one_file.write_bytes(one_file.read_bytes() + b" ")
    assert encoder.verify() != digest


def test_a_part_of_the_weights_that_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    transformers.AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    part = next((tmp_path / "parts").glob("model-*.safetensors"))
    part.unlink()
    with made.refused(str(part), "can't be read"):
        tiny.encoder(tmp_path / "parts").check()


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_a_file_that_holds_no_weights_is_told(content: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with made.refused(f"encoder.path={folder}", "no model can be loaded"):
        tiny.encoder(folder).check()


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("ran").touch, ())


def test_a_pickle_that_would_run_code_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings": Payload()}, folder / "pytorch_model.bin")
    with made.refused(f"encoder.path={folder}"):
        tiny.encoder(folder).check()
    assert not Path("ran").exists()


def test_albert_whose_layers_are_shared_is_read_and_tuned_whole(tokenizer: Any, tmp_path: Path) -> None:
    config = small(transformers.AlbertConfig, tokenizer, embedding_size=16, max_position_embeddings=64)
    folder = saved_as(transformers.AlbertModel(config), tokenizer, tmp_path / "albert")
    tiny.encoder(folder).check()
    assert tiny.encoder(folder).embed(TEXTS, tmp_path / "cache").shape == (2, 32)
    predictor = tune(folder, tmp_path, target_modules=["query", "value"], **ALL_LAYERS)
    assert [name for name, weight in predictor.network.named_parameters() if "lora_" in name and weight.requires_grad]


def test_albert_is_refused_where_its_layers_are_counted(tokenizer: Any, tmp_path: Path) -> None:
    config = small(transformers.AlbertConfig, tokenizer, embedding_size=16, max_position_embeddings=64)
    folder = saved_as(transformers.AlbertModel(config), tokenizer, tmp_path / "albert")
    with made.refused("encoder.kept_layer=2", f"encoder.path={folder}", "has no list of its 3 layers", "want null"):
        tiny.encoder(folder, kept_layer=2).check()
    with made.refused("model.layers=2", f"encoder.path={folder}", "want model.layers=null"):
        tiny.student(folder, tmp_path)
    with made.refused("model.cached=true", f"encoder.path={folder}", "want model.cached=false"):
        tiny.student(folder, tmp_path, "minilm_linear_head")
    tiny.student(folder, tmp_path, "minilm_linear_head", cached=False)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra"])
def test_other_architectures_are_read_and_tuned(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    if kind == "roberta":
        config = small(transformers.RobertaConfig, tokenizer, max_position_embeddings=30)
        settings: dict[str, Any] = ROBERTA
    elif kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=len(tokenizer), dim=32, n_layers=3, n_heads=2, hidden_dim=48, max_position_embeddings=64
        )
        settings = {"head": ["pre_classifier", "classifier"], "target_modules": ["q_lin", "v_lin"]}
    else:
        config = small(transformers.ElectraConfig, tokenizer, embedding_size=32, max_position_embeddings=64)
        settings = ROBERTA
    folder = saved_as(transformers.AutoModel.from_config(config), tokenizer, tmp_path / kind)
    tiny.encoder(folder, kept_layer=2).check()
    tiny.encoder(folder, kept_layer=2).embed(TEXTS, tmp_path / "cache")
    tune(folder, tmp_path, **settings)


def test_a_tokenizer_without_padding_pads_with_another_token(folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    settings = json.loads((plain / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (plain / "tokenizer_config.json").write_text(json.dumps(settings))
    encoder = tiny.encoder(plain)
    encoder.check()
    texts = ["sea", "grass moss lime " * 4]
    np.testing.assert_allclose(
        encoder.embed(texts, tmp_path / "one"), tiny.encoder(folder).embed(texts, tmp_path / "two"), atol=1e-5
    )
    tune(plain, tmp_path)


# ------------------------------------------------------------------------- what is refused before anything is labelled


@pytest.mark.parametrize(("kind", "limit"), [("bert", 64), ("roberta", 61)])
def test_more_tokens_than_there_are_positions_are_refused(
    kind: str, limit: int, tokenizer: Any, tmp_path: Path
) -> None:
    if kind == "bert":
        folder = tiny.bert(tmp_path / "tiny")
    else:
        config = small(transformers.RobertaConfig, tokenizer, max_position_embeddings=63)
        config.pad_token_id = 1
        folder = saved_as(transformers.RobertaModel(config), tokenizer, tmp_path / "tiny")
    tiny.encoder(folder, max_tokens=limit).check()
    refusal = (f"encoder.max_tokens={limit + 1}", f"encoder.path={folder}", f"want a whole number up to {limit}")
    with made.refused(*refusal):
        tiny.encoder(folder, max_tokens=limit + 1).check()
    with made.refused(*refusal):
        tiny.student(folder, tmp_path, encoder=tiny.encoder(folder, max_tokens=limit + 1), **ROBERTA)


def test_code_in_the_folder_is_never_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    edit_json(folder / "config.json", model_type="own_kind", auto_map=own)
    (folder / "own.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    with made.refused(f"encoder.path={folder}", "needs code of its own, which silvertune never runs"):
        tiny.encoder(folder).check()
    with made.refused(f"encoder.path={folder}", "needs code of its own"):
        tiny.student(folder, tmp_path)
    assert not Path("ran").exists()


@pytest.mark.parametrize("files", ["*token*", "tokenizer.json"])
def test_a_folder_without_a_vocabulary_is_told(files: str, folder: Path) -> None:
    for file in folder.glob(files):
        file.unlink()
    with made.refused(f"encoder.path={folder}", "tokenizer"):
        tiny.encoder(folder).check()


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu"])
def test_a_device_that_this_machine_lacks_is_refused(
    device: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device != "gpu" and torch.cuda.device_count() > 7:
        pytest.skip("this machine has it")
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has it")
    with made.refused(f"model.device={device}", "this machine can't use it", "want cpu, or null"):
        tiny.student(folder, tmp_path, device=device)


# ------------------------------------------------------------------------------------ what decides, and what does not


def changed(folder: Path, change: str) -> None:
    if change == "tokenizer":
        text = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(text.replace('"leaf":', '"laef":'))
    elif change == "config":
        edit_json(folder / "config.json", hidden_act="relu")
    elif change == "vocab.txt":
        (folder / "vocab.txt").write_text("leaf\n")
    elif change == "notes":
        (folder / "notes.txt").write_text("a note")
        (folder / "README.md").write_text("# A model")
        (folder / "training_args.bin").write_bytes(b"x")
        (folder / "model.safetensors.lock").write_bytes(b"")
        (folder / ".cache" / "huggingface").mkdir(parents=True)
        (folder / ".cache" / "huggingface" / "model.safetensors.metadata").write_text("0")
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text("{}")
    elif change == "touch":
        for file in folder.iterdir():
            file.touch()


def node(encoder: Encoder) -> dict[str, Any]:
    return {"_target_": "silvertune.encoders.Encoder", **vars(encoder)}


@pytest.mark.parametrize("change", ["tokenizer", "config", "vocab.txt"])
def test_what_changes_the_reading_of_a_text_is_another_encoder(change: str, folder: Path, tmp_path: Path) -> None:
    encoder, cache = tiny.encoder(folder, kept_layer=2), tmp_path / "cache"
    before = encoder.embed(TEXTS, cache)
    part = identity.of_part(node(encoder))
    changed(folder, change)
    assert encoder.stored(TEXTS, cache) == 0
    assert identity.of_part(node(encoder)) != part
    after = encoder.embed(TEXTS, cache)
    assert np.array_equal(after, before) == (change == "vocab.txt")  # which tokenizer.json makes idle here
    assert len(list(cache.glob("states-*.f16"))) == 2


@pytest.mark.parametrize("change", ["notes", "touch"])
def test_what_lies_beside_the_model_changes_nothing(change: str, folder: Path, tmp_path: Path) -> None:
    encoder, cache = tiny.encoder(folder), tmp_path / "cache"
    encoder.embed(TEXTS, cache)
    part = identity.of_part(node(encoder))
    changed(folder, change)
    assert encoder.stored(TEXTS, cache) == 2
    assert identity.of_part(node(encoder)) == part


def test_a_model_that_was_moved_is_the_same(folder: Path, tmp_path: Path) -> None:
    encoder, cache = tiny.encoder(folder), tmp_path / "cache"
    encoder.embed(TEXTS, cache)
    part = identity.of_part(node(encoder))
    moved = tiny.encoder(Path(shutil.move(folder, tmp_path / "elsewhere")))
    assert moved.stored(TEXTS, cache) == 2
    assert identity.of_part(node(moved)) == part


def test_every_file_that_a_tokenizer_of_transformers_reads_counts() -> None:
    sources = Path(transformers.__file__).parent / "models"
    names = {"special_tokens_map.json", "added_tokens.json", "tokenizer_config.json", "tokenizer.json"}
    for file in sources.glob("*/tokenization_*.py"):
        for block in re.findall(r"VOCAB_FILES_NAMES = \{(.*?)\}", file.read_text(encoding="utf-8"), re.DOTALL):
            names.update(re.findall(r':\s*"([^"]+)"', block))
    assert names <= set(checkpoint.TOKENIZER_FILES)
