"""Where a study's time goes: CPU seconds, wall seconds and peak memory, by stage.

    python benchmarks/profile_study.py [OVERRIDES...]      # default: experiments=demo

Runs `silvertune OVERRIDES...` in this process, in a store of its own, with a clock around each stage. A stage that
another one calls is counted for itself alone, so the stages add up to the whole: `embed` within `label` is `embed`.
CPU seconds are those of all threads; what a launcher does in other processes is not seen. The last line is one JSON
object.
"""

import importlib
import json
import os
import sys
import tempfile
from typing import Any

from scale import Stages, most_mb

STAGES = {
    "compose": ("study.expand:expand", "composition:plain"),
    "build": ("composition:build",),
    "dataset": ("composition:load_data",),
    "label": ("labelers.source:LabelSource.votes",),
    "embed": ("encoders.encoder:Encoder.embed",),
    "frozen states": ("encoders.encoder:Encoder.states",),
    "aggregate": ("labelers.source:LabelSource.labels",),
    "filter": ("runner:decide",),
    "evidence": ("evidence.computed:OutOfFold.__call__",),
    "tune": ("models.encoder_classifier:EncoderClassifier.fit", "models.tfidf_logreg:TfidfLogreg.fit"),
    "predict": (
        "models.encoder_predictor:EncoderPredictor.predict_proba",
        "models.tfidf_logreg:TfidfPredictor.predict_proba",
    ),
    "evaluate": ("evaluation.metrics:evaluate", "evaluation.metrics:by_rule", "evaluation.label_quality:report"),
    "draw": ("reports.drawing:png",),
    "save models": ("tracking.serving:save",),
    "log": (
        "tracking.runs:log_config",
        "tracking.runs:log_data",
        "tracking.runs:keep_result",
        "tracking.runs:log_kept",
    ),
    "open the store": ("tracking.store:prepare",),
    "compare": ("study.comparing:compare",),
}
"""Stage -> what its clock stands around, of `silvertune`."""


def put_clocks(stages: Stages) -> None:
    """Count the time of each function of `STAGES` for its stage."""
    for stage, places in STAGES.items():
        for place in places:
            module, _, path = place.partition(":")
            owner: Any = importlib.import_module(f"silvertune.{module}")
            *classes, name = path.split(".")
            for entry in classes:
                owner = getattr(owner, entry)
            setattr(owner, name, stages.of(stage, getattr(owner, name)))


def main() -> None:
    overrides = sys.argv[1:] or ["experiments=demo"]
    stages = Stages()
    stages.of("import", put_clocks)(stages)
    from silvertune import __main__

    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["silvertune", *overrides, f"tracking.dir={folder}"]
        try:
            __main__.main()
        except SystemExit as ended:
            if ended.code:
                raise
    result = stages.result()
    whole = sum(result["cpu_seconds"].values())
    print(f"\n{'stage':16}{'CPU s':>8}{'share':>8}{'wall s':>8}{'peak MB':>9}")
    for stage, cpu in sorted(result["cpu_seconds"].items(), key=lambda entry: -entry[1]):
        wall, peak = result["seconds"][stage], result["peak_mb"].get(stage, 0.0)
        print(f"{stage:16}{cpu:8.1f}{cpu / whole:8.1%}{wall:8.1f}{peak:9.0f}")
    rounded = {stage: round(cpu, 2) for stage, cpu in result["cpu_seconds"].items()}
    summary = {
        "overrides": overrides,
        "cpu_seconds": rounded,
        "whole_cpu_seconds": round(whole, 1),
        "seconds": round(sum(result["seconds"].values()), 1),
        "peak_mb": round(most_mb()),
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
