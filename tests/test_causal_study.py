"""A whole study with a language model at both ends: one labels, the same base is tuned, and its student labels anew."""

import json
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest
from tests import cli, stores, tiny_causal
from tests.models.tea_and_oil import training

import silvertune

TASK = """
name: goods
classes: [tea, oil]
positive: tea
descriptions: {tea: [leaves], oil: [barrels]}
"""
STUDY = """
# @package _global_
study:
  name: goods
  arms:
    tiny: [labeler=local_causal_lm, "labeler.llm.local_causal_lm.model=lm", labeler.llm.local_causal_lm.device=cpu]
    expert: [labeler=expert]
  references: [expert]
"""
STUDENT = ["model=causal_lora", "model.model=lm", "model.max_tokens=300", "model.learning_rate=0.02",
           "model.class_weight=null", "model.device=cpu", "model.batch_size=8"]  # fmt: skip
REST = ["task=goods", "dataset=text_jsonl", "dataset.path=texts.jsonl", "dataset.group=group",
        "+dataset.annotations.expert.column=gold", "aggregation=majority", "filter=none", "evaluation=holdout",
        "evaluation.replicates=50"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, as working directory, with texts, a task, a study and a tiny language model."""
    rows = training(36)
    lines = [
        {"id": item, "group": row["group_id"], "text": row["text"], "gold": row["label"]}
        for item, row in rows.iterrows()
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for group, name, content in (("conf/task", "goods", TASK), ("experiments", "goods", STUDY)):
        (tmp_path / group).mkdir(parents=True)
        (tmp_path / group / f"{name}.yaml").write_text(content)
    tiny_causal.causal_lm(tmp_path / "lm")
    stores.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_is_labelled_and_learned_by_a_language_model_and_its_student_serves(folder: Path) -> None:
    result = silvertune.run(["experiments=goods", *STUDENT, *REST])
    assert len(result.run_ids) == 2
    runs = {run.data.tags["arm"]: run for run in cli.runs(folder, "goods")}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    expert = runs["expert"].data
    assert expert.metrics["test/f1"] > 0.8
    assert expert.tags["tuned_on.precision"] == "float32"
    assert "threshold/validation" in expert.metrics
    (states,) = (folder / "mlruns" / "cache").glob("prompts-*.f16")
    assert states.stat().st_size > 0

    path = next((folder / "mlruns").rglob("MLmodel")).parent
    served = mlflow.pyfunc.load_model(str(path)).predict(pd.DataFrame({"text": ["hot cup", "barrel price", None]}))
    assert served["label"].notna().tolist() == [True, True, False]

    model = str(Path(runs["expert"].info.artifact_uri.removeprefix("file://")) / "model" / "fold0")
    silvertune.run(["labeler=tuned_model", f"labeler.path={model}", "model=none", *REST])
    (own,) = cli.runs(folder, "silvertune")
    assert own.data.metrics["test/f1"] > 0.8
