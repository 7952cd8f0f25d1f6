"""The command that makes a model to use of the best arm of a sweep, as it is typed."""

import shlex
from collections.abc import Mapping, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from silvertune.study.job import Job
from silvertune.tracking import runs

NOT_KEPT = (
    "seed", "variant", "evaluation", "study.seeds", "study.only", "mode", "resume", "on_error", "tracking.save_models",
)  # fmt: skip
"""Keys of a sweep's overrides that the command gives values of its own, or that are about the sweep alone."""
KEPT_OF_EVALUATION = ("evaluation.decision", "evaluation.threshold")
"""Settings of the evaluation that a model has after it, too."""


def of(job: Job, arms: Mapping[str, Sequence[str]], typed: Sequence[str] = ()) -> str:
    """Write the command: the overrides of one job of a sweep, with nothing held out and the model registered.

    Args:
        job: A job of the sweep that has a model.
        arms: The arms of its study: name -> the overrides that it fixes. Empty where the sweep has no study.
        typed: The sweep's overrides as they were typed: those that the job has unchanged are spelled as there.

    Returns:
        `silvertune ... evaluation=none tracking.register=NAME`, quoted for a shell, without passwords.
    """
    arm = job.names["arm"]
    by_study = [str(text) for text in arms.get(arm, ())]
    spelled = _as_hydra_spells(typed)
    overrides = [
        spelled.get(text, text)
        for text in job.overrides
        if _is_kept(text, is_named=bool(arms)) and text not in by_study
    ]
    if arms:
        overrides.append(f"study.only=[{arm}]" if arm.replace("_", "").isalnum() else f"study.only=['{arm}']")
    overrides += [f"seed={job.config['seed']}", "evaluation=none"]
    if job.config["evaluation"]["threshold"] == "shift_corrected":  # corrects for the class shares of test items
        overrides = [text for text in overrides if not text.startswith("evaluation.threshold=")]
        overrides.append("evaluation.threshold=0.5")
    name = "".join("_" if mark in "/:@' ," else mark for mark in str(job.config["task"]["name"])) or "model"
    overrides.append(f"tracking.register={name}")
    return shlex.join(["silvertune", *runs.printable_overrides(overrides)])


def _as_hydra_spells(typed: Sequence[str]) -> dict[str, str]:
    """An override as a job has it (`a=b\\:c`) -> as it was typed (`a=b:c`)."""
    parsed = OverridesParser.create().parse_overrides(list(typed))
    texts = BasicSweeper.split_arguments([one for one in parsed if not one.is_sweep_override()], None)[0][0]
    kept = [str(one.input_line) for one in parsed if not one.is_sweep_override()]
    return dict(zip(texts, kept, strict=True)) if len(texts) == len(kept) else {}


def _is_kept(text: str, *, is_named: bool) -> bool:
    """Whether an override is one of the command's; a study's own command names the arm by `study.only`."""
    key = text.lstrip("+~").partition("=")[0]
    if key.startswith("evaluation."):
        return key in KEPT_OF_EVALUATION
    return key not in NOT_KEPT and not (is_named and key == "arm")
