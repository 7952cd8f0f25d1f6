"""Texts that an encoder can't read."""

from pathlib import Path

import pytest
from tests.encoders.test_encoder import SHIPPED

from silvertune.encoders import unknown_tokens
from silvertune.encoders.encoder import Encoder

BURMESE, LAO = "ဝန်ဆောင်မှုညံ့တယ်", "ບໍລິການບໍ່ດີ"


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown_tokens, "_TOLD", set())
    monkeypatch.setattr(unknown_tokens, "_UNKNOWN_AND_ALL", {})


def test_a_script_that_the_tokenizer_does_not_know_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    SHIPPED.tokens([f"{text} {number}" for number in range(100) for text in (BURMESE, LAO, "Vital signs")])
    SHIPPED.tokens([LAO])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"silvertune: {SHIPPED.setting}: ")
    assert "of the tokens of these texts are unknown to it" in line


def test_texts_that_it_knows_are_no_matter(capsys: pytest.CaptureFixture[str]) -> None:
    SHIPPED.tokens(["Vital signs at week 4", "ECG", "naïve café"])
    SHIPPED.tokens([])
    assert capsys.readouterr().err == ""


def test_a_few_odd_texts_in_a_batch_of_their_own_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    SHIPPED.tokens([BURMESE, LAO])
    SHIPPED.tokens([BURMESE, LAO] * 50)
    SHIPPED.tokens([f"Vital signs at week {number}" for number in range(40)])
    assert capsys.readouterr().err == ""


def test_kept_vectors_are_told_of_as_well_and_no_tokenizer_is_loaded_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{BURMESE} {number}" for number in range(30)]
    SHIPPED.embed(texts, tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    monkeypatch.setattr(unknown_tokens, "_TOLD", set())
    monkeypatch.setattr(unknown_tokens, "_UNKNOWN_AND_ALL", {})
    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "tokenizer", lambda encoder: pytest.fail("a tokenizer was loaded"))
        SHIPPED.embed(texts, tmp_path)
    assert capsys.readouterr().err.splitlines() == [line]
