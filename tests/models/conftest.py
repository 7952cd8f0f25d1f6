"""What tests of encoder students share: a tiny encoder, a cache, and students of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import tiny

from silvertune.models.encoder_classifier import EncoderClassifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def student(folder: Path, cache: Path) -> Callable[..., EncoderClassifier]:
    """LoRA on the top two layers, one epoch, unless told otherwise."""

    def make(name: str = "minilm_lora", **settings: Any) -> EncoderClassifier:
        return tiny.student(folder, cache, name, **({"epochs": 1} | settings))

    return make
