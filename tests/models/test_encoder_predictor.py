"""The tuned encoder on disk: in PEFT's own format, whole or not there, and on the base that it was tuned on."""

import errno
import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests import made, tiny
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune.encoders import encoder as encoder_module
from silvertune.models import encoder_predictor, saved
from silvertune.models.encoder_predictor import EncoderPredictor

TEXTS = ["green leaf", "barrel price and a longer text about crude", "hot", "deep mine iron rail " * 4]
ADAPTERS = ["minilm_lora", "minilm_lora_top_layer", "minilm_lora_all_layers"]
WHOLE = ["minilm_full", "minilm_linear_head"]
NAMES = [*ADAPTERS, *WHOLE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def tuned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EncoderPredictor]:
    cache = tmp_path_factory.mktemp("cache")
    return {name: tiny.student(folder, cache, name).fit(training(), NOTHING, 0) for name in NAMES}


@pytest.fixture
def _forget() -> Iterator[None]:
    """What was loaded is loaded anew afterwards: these tests change files behind its back."""

    def forget() -> None:
        for remembered in (encoder_module._tokenizer, encoder_module._load, encoder_predictor._pretrained):
            remembered.cache_clear()

    forget()
    yield
    forget()


def logits(network: object, predictor: EncoderPredictor) -> np.ndarray:
    """As a user of transformers would get them."""
    import torch

    inputs = predictor.encoder.tokenizer()(TEXTS, padding=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(network(**inputs).logits)  # type: ignore[operator]


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_in_pefts_own_format_with_its_head(
    name: str, tuned: dict[str, EncoderPredictor], folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    tuned[name].save(tmp_path / "saved")
    assert (tmp_path / "saved" / "adapter_model.safetensors").is_file()
    about = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == str(folder)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    plain = PeftModel.from_pretrained(base, str(tmp_path / "saved")).eval()
    exact = encoder_predictor.dataclasses.replace(tuned[name], frozen=0)
    np.testing.assert_allclose(logits(plain, tuned[name]), exact.logits(TEXTS), atol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_without_an_adapter_it_is_in_transformers_own_format(
    name: str, tuned: dict[str, EncoderPredictor], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    tuned[name].save(tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    exact = encoder_predictor.dataclasses.replace(tuned[name], frozen=0)
    np.testing.assert_allclose(logits(plain, tuned[name]), exact.logits(TEXTS), atol=1e-4)
    assert plain.config.id2label == {0: "oil", 1: "tea"}


@pytest.mark.parametrize("name", NAMES)
def test_what_was_loaded_can_be_saved_again(name: str, tuned: dict[str, EncoderPredictor], tmp_path: Path) -> None:
    tuned[name].save(tmp_path / "one")
    once = saved.load(tmp_path / "one")
    once.save(tmp_path / "two")
    again = saved.load(tmp_path / "two")
    np.testing.assert_array_equal(again.predict_proba(ITEMS), once.predict_proba(ITEMS))


@pytest.mark.usefixtures("_forget")
@pytest.mark.parametrize("name", WHOLE)
def test_what_was_saved_whole_needs_no_base(name: str, tmp_path: Path) -> None:
    base = tiny.bert(tmp_path / "base")
    predictor = tiny.student(base, tmp_path / "cache", name).fit(training(), NOTHING, 0)
    before = predictor.predict_proba(ITEMS)
    predictor.save(tmp_path / "saved")
    shutil.rmtree(base)
    encoder_module._load.cache_clear()
    shutil.move(tmp_path / "saved", tmp_path / "elsewhere")
    np.testing.assert_allclose(saved.load(tmp_path / "elsewhere").predict_proba(ITEMS), before, atol=2e-3)


@pytest.mark.usefixtures("_forget")
def test_an_adapter_on_another_base_is_refused(tmp_path: Path) -> None:
    base = tiny.bert(tmp_path / "base")
    tiny.student(base, tmp_path / "cache").fit(training(), NOTHING, 0).save(tmp_path / "saved")
    shutil.rmtree(base)
    tiny.bert(base, seed=1)
    with made.refused(f"{tmp_path / 'saved'}: was tuned on encoder.path={base} with weights", "set labeler.base to"):
        saved.load(tmp_path / "saved")


@pytest.mark.usefixtures("_forget")
def test_an_adapter_whose_base_is_nowhere_is_told(tmp_path: Path) -> None:
    base = tiny.bert(tmp_path / "base")
    tiny.student(base, tmp_path / "cache").fit(training(), NOTHING, 0).save(tmp_path / "saved")
    shutil.rmtree(base)
    with made.refused(f"was tuned on encoder.path={base}", "is not on this machine", "set labeler.base to"):
        saved.load(tmp_path / "saved")


@pytest.mark.usefixtures("_forget")
def test_an_adapter_of_a_relative_path_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForSequenceClassification, PeftConfig

    base = tiny.bert(tmp_path / "mine" / "base")
    monkeypatch.chdir(tmp_path / "mine")
    predictor = tiny.student(Path("base"), tmp_path / "cache").fit(training(), NOTHING, 0)
    predictor.save(tmp_path / "saved")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    config = PeftConfig.from_pretrained(str(tmp_path / "saved"))
    assert config.base_model_name_or_path == str(base)
    exact = encoder_predictor.dataclasses.replace(predictor, encoder=tiny.encoder(base), frozen=0).logits(TEXTS)
    plain = AutoPeftModelForSequenceClassification.from_pretrained(str(tmp_path / "saved"), num_labels=2).eval()
    np.testing.assert_allclose(logits(plain, saved.load(tmp_path / "saved")), exact, atol=1e-4)
    np.testing.assert_allclose(saved.load(tmp_path / "saved").logits(TEXTS), exact, atol=1e-4)


@pytest.mark.usefixtures("_forget")
def test_an_adapter_whose_base_moved_is_put_on_it_where_it_is_now(tmp_path: Path) -> None:
    base = tiny.bert(tmp_path / "base")
    predictor = tiny.student(base, tmp_path / "cache").fit(training(), NOTHING, 0)
    before = predictor.predict_proba(ITEMS)
    predictor.save(tmp_path / "saved")
    moved = Path(shutil.move(base, tmp_path / "elsewhere"))
    with made.refused("is not on this machine", "set labeler.base to the folder of the base"):
        saved.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.load(tmp_path / "saved", moved).predict_proba(ITEMS), before, atol=2e-3)
    with made.refused(f"was tuned on encoder.path={tmp_path / 'other'}", "are "):
        saved.load(tmp_path / "saved", tiny.bert(tmp_path / "other", seed=1))
    with made.refused(f"encoder.path={tmp_path / 'nowhere'}", "is not on this machine"):
        saved.load(tmp_path / "saved", tmp_path / "nowhere")


def test_a_model_that_was_saved_whole_takes_no_base(
    tuned: dict[str, EncoderPredictor], folder: Path, tmp_path: Path
) -> None:
    tuned["minilm_full"].save(tmp_path / "saved")
    with made.refused(f"labeler.base={folder}", "needs no base", "want null"):
        saved.load(tmp_path / "saved", folder)


@pytest.mark.usefixtures("_forget")
@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_an_adapter_whose_base_reads_texts_otherwise_now_is_refused(file: str, tmp_path: Path) -> None:
    base = tiny.bert(tmp_path / "base")
    tiny.student(base, tmp_path / "cache").fit(training(), NOTHING, 0).save(tmp_path / "saved")
    text = (base / file).read_text()
    (base / file).write_text(text.replace('"leaf"', '"laef"').replace('"gelu"', '"relu"'))
    with made.refused(f"the tokenizer or config.json in {base} has changed since", "set labeler.base to"):
        saved.load(tmp_path / "saved")


def test_an_adapter_of_0_1_is_loaded(tuned: dict[str, EncoderPredictor], tmp_path: Path) -> None:
    """It does not say what its base's tokenizer was, nor its own files."""
    tuned["minilm_lora"].save(tmp_path / "saved")
    about = saved.read(tmp_path / "saved")
    del about["encoder_content"], about["files"]
    (tmp_path / "saved" / saved.ABOUT).write_text(json.dumps(about))
    np.testing.assert_allclose(
        saved.load(tmp_path / "saved").predict_proba(ITEMS), tuned["minilm_lora"].predict_proba(ITEMS), atol=2e-3
    )


# -------------------------------------------------------------------------------------------------------- half-saved


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The nearest to a full disk that a process can make for itself: the system refuses to write on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 12_000], ids=["full", "almost full"])
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_full_leaves_nothing_and_is_told(
    name: str, size: int, tuned: dict[str, EncoderPredictor], tmp_path: Path
) -> None:
    with made.refused(f"the tuned model can't be saved to {tmp_path / 'saved'}"), no_file_longer_than(size):
        tuned[name].save(tmp_path / "saved")
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_at_the_last_step_leaves_nothing_and_is_told(
    tuned: dict[str, EncoderPredictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with made.refused("the tuned model can't be saved to", "No space left on device"):
        tuned["minilm_lora"].save(tmp_path / "saved")
    assert os.listdir(tmp_path) == []


def test_a_saved_model_that_is_another_is_not_left_behind(
    tuned: dict[str, EncoderPredictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encoder_predictor.load

    def other(path: Path) -> EncoderPredictor:
        import torch

        loaded = real(path)
        with torch.no_grad():
            for name, weight in loaded.network.named_parameters():
                if "classifier" in name and name.endswith("bias"):
                    weight += torch.tensor([0.5, 0.0])
        return loaded

    monkeypatch.setattr(encoder_predictor, "load", other)
    with pytest.raises(RuntimeError, match=r"logits differ from the tuned one's by 0\.5"):
        tuned["minilm_lora"].save(tmp_path / "saved")
    assert os.listdir(tmp_path) == []
