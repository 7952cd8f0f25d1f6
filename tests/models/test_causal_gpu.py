"""A causal language model on a GPU: other precisions and four bits give nearly what float32 gives."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tests import tiny_causal
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune.models import saved


def gpus() -> int:
    import torch

    return torch.cuda.device_count()


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="needs a GPU")
@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "gradient_checkpointing": True},
        pytest.param(
            {"dtype": "bfloat16", "quantization": "nf4"},
            marks=pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes"),
        ),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_it_learns_and_is_saved(settings: dict[str, object], tmp_path: Path) -> None:
    folder = tiny_causal.causal_lm(tmp_path / "llama", hidden_size=64)
    student = tiny_causal.student(folder, tmp_path / "cache", views=["text"], **(settings | {"device": None}))
    predictor = student.fit(training(), NOTHING, 0)
    assert predictor.ran_on["device"].startswith("cuda")
    probs = predictor.predict_proba(ITEMS)["tea"]
    assert probs.loc[("p", "text")] > 0.5 > probs.loc[("q", "text")]
    predictor.save(tmp_path / "saved")
    np.testing.assert_allclose(saved.load(tmp_path / "saved").predict_proba(ITEMS)["tea"], probs, rtol=0, atol=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(gpus() < 2, reason="needs two GPUs")
def test_two_learn_what_one_does(tmp_path: Path) -> None:
    folder = tiny_causal.causal_lm(tmp_path / "llama", hidden_size=64)
    how = {"views": ["text"], "device": None, "batch_size": 5, "learning_rate": 1e-3}
    alone, together = (
        tiny_causal.student(folder, tmp_path / "cache", devices=devices, **how).fit(training(), NOTHING, 0)
        for devices in (1, 2)
    )
    probs, others = (predictor.predict_proba(ITEMS)["tea"] for predictor in (alone, together))
    np.testing.assert_allclose(others, probs, rtol=0, atol=1e-3)
