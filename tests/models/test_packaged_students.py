"""Students whose weights are in registry packages: they learn, are saved, and are loaded from the package again."""

from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.models.tea_and_oil import ITEMS, training

from silvertune.model_files import packaged
from silvertune.models import saved
from silvertune.models.causal_lora import CausalLora
from silvertune.schema import Task

pytestmark = pytest.mark.soak
TASK = Task(
    name="goods",
    classes=["tea", "oil"],
    prompts=dict.fromkeys(("json", "text"), "Is this about tea or about oil?"),
)


@pytest.mark.parametrize("name", ["smollm2_lora", "gemma3_270m_lora"])
def test_a_student_from_a_package_learns_and_is_loaded_from_it_again(name: str, tmp_path: Path) -> None:
    settings = tiny.shipped_model(name)
    for package in [settings["package"]] if isinstance(settings["package"], str) else settings["package"]:
        if packaged.installed_files(package) is None:
            pytest.skip(f"{package} is not installed: make {'smollm2' if name == 'smollm2_lora' else 'gemma3'}")
    del settings["_target_"]
    student = CausalLora(
        task=TASK, cache=tmp_path / "cache", **settings | {"epochs": 4, "batch_size": 8, "learning_rate": 0.001}
    )
    predictor = student.fit(training(), training(0), 0)
    probs = predictor.predict_proba(ITEMS)
    assert probs.loc[("p", "text"), "tea"] > 0.5 > probs.loc[("q", "text"), "tea"]
    predictor.save(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("model*.safetensors"))  # the adapter alone, not the base
    again = saved.load(tmp_path / "saved").predict_proba(ITEMS)
    np.testing.assert_allclose(again.to_numpy(), probs.to_numpy(), atol=0.01)
