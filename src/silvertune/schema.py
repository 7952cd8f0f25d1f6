"""The shape of the configuration: what Hydra checks every yaml and every override against.

Only dataclasses, so that `silvertune --help` and `--cfg job` import nothing heavy.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

_HERE = Path(__file__).resolve().parent
SHIPPED = _HERE / "_shipped" if (_HERE / "_shipped").is_dir() else _HERE.parents[1]
"""The folder with `conf/` and `experiments/`: inside an installed package, or the top of a checkout."""


@dataclass
class Task:
    """What is to be told apart.

    Attributes:
        classes: The class names, at least two; probability columns stand in this order.
        positive: The class whose precision and recall are reported, or null (then macro averages are).
        descriptions: For each class, sentences that say what belongs to it (a zero-shot labeler reads them).
        prompts: For each view, the question that an LLM is asked, or several: name -> question; a view without one
            is asked by the descriptions.
        answers: Class -> the word that an LLM answers it by; a class without one has its own name.
        examples: Written examples that an LLM is shown, each with `view`, `text` and `label`.
    """

    name: str = MISSING
    classes: list[str] = MISSING
    positive: str | None = None
    descriptions: dict[str, list[str]] = field(default_factory=dict)
    prompts: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass
class WrittenTask:
    """A `Task` as a configuration writes it: the classes and words are whatever yaml makes of them.

    OmegaConf would turn the NO of `classes: list[str]` into 'False'. So they stay what yaml read, and
    `silvertune.composition.task_of` takes text and whole numbers, and says of all else that it needs quotes.
    """

    name: str = MISSING
    classes: list[Any] = MISSING
    positive: Any = None
    descriptions: dict[Any, Any] = field(default_factory=dict)
    prompts: dict[str, Any] = field(default_factory=dict)
    answers: dict[Any, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Evaluation:
    """How a run is split and measured.

    Attributes:
        split: `holdout`, `kfold` (grouped, predictions pooled over the folds), `given` (the data's own files) or
            `none`: the production run, which trains on everything and tests nothing.
        decision: How the views' probabilities become one per item: `any_view`, `all_views` or `mean`.
        threshold: Probability of task.positive from which an item is called positive, 0-1, or how it is found
            (`silvertune.evaluation.thresholds`): `validation` or `shift_corrected`. Every rule is reported.
        replicates: Bootstrap replicates, by group, behind every 95% interval.
    """

    split: str = MISSING
    folds: int = 5
    test_fraction: float = 0.25
    decision: str = "any_view"
    threshold: Any = 0.5
    replicates: int = 10_000


@dataclass
class Evidence:
    """How the evidence is computed that filters ask for (`silvertune.evidence.computed`).

    Attributes:
        student: The model behind `out_of_fold_probs`, and behind `training_dynamics` if it has any.
        folds: Of `out_of_fold_probs`, by group; at least 2.
        epochs: Of `training_dynamics`, where the student has none of its own.
        calibration: Gold labels of so many items of each training pool are granted to filters that ask for
            `calibration`; they are counted as expert labels, and the run is tagged as one that uses gold.
    """

    student: Any = MISSING
    folds: int = 5
    epochs: int = 20
    calibration: int = 0


@dataclass
class LabelsBrowser:
    """`labels_browser.html`, the page on which a person looks at the items of a run.

    Attributes:
        items: How many items it shows at most; of more, a sample with some of every kind of doubt. 0: no page.
        leave_out: What it does not show: views, and any of `item_id`, `group_id`, `annotator` and `gold`.
    """

    items: int = 5000
    leave_out: list[str] = field(default_factory=list)


@dataclass
class Tracking:
    """Where runs are logged.

    Attributes:
        uri: An MLflow tracking URI; null is the SQLite store in `dir`.
        dir: Folder of the local store, of the evidence kept on disk (`dir/cache`) and of the logs.
        experiment: The MLflow experiment; null is the study's name.
        save_models: Keep the tuned model of each fold among the artifacts.
        register: Name in MLflow's model registry that the model of a production run becomes a version of; null: none.
        alias: The alias that then names this version; null: none.
        evidence: Id of the run, of an arm or of a study, that says how good the registered arm is; null: the newest
            study of the same arm in the experiment.
        labels_browser: What the page with the items of a run shows.
        parent_run_id: Set by the sweeper.
    """

    uri: str | None = None
    dir: str = "mlruns"
    experiment: str | None = None
    save_models: bool = True
    register: str | None = None
    alias: str | None = "champion"
    evidence: str | None = None
    labels_browser: LabelsBrowser = field(default_factory=LabelsBrowser)
    parent_run_id: str | None = None


@dataclass
class Study:
    """Named arms on the same data with the same student.

    Attributes:
        arms: Name -> the overrides that the arm fixes. Empty: one arm a job, named by its parts.
        references: The arms that every other arm is compared with.
        seeds: Every arm is run with seeds 0 .. seeds-1, unless the command line sweeps `seed`.
        only: The arms that are run; empty is all.
    """

    name: str | None = None
    arms: dict[str, list[str]] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    seeds: int = 1
    only: list[str] = field(default_factory=list)


@dataclass
class Config:
    """A run: one arm, one seed, all folds of its split."""

    task: WrittenTask = field(default_factory=WrittenTask)
    dataset: Any = MISSING
    encoder: Any = MISSING
    preselect: Any = None
    labeler: Any = MISSING
    aggregation: Any = MISSING
    filter: Any = MISSING
    evidence: Evidence = field(default_factory=Evidence)
    fallback: Any = None
    model: Any = None
    backend: Any = MISSING
    evaluation: Evaluation = field(default_factory=Evaluation)
    tracking: Tracking = field(default_factory=Tracking)
    study: Study = field(default_factory=Study)
    experiments: Any = None
    seed: int = 0
    arm: str | None = None
    variant: str | None = None
    retry_of: str | None = None
    mode: str = "run"
    on_error: str = "continue"
    resume: bool = True
