"""What a part may ask the run for: one table for every kind of part.

A part is what a `_target_` names: a function or a class. The run fills a parameter of it that has one of the names
below. The part's yaml sets all other parameters. A part may ask for what is known at its stage:

| stage | what is known | asked for by |
| --- | --- | --- |
| configuration | the task and the folders | every part |
| data | what the dataset loaded | labelers, aggregations, filters |
| votes | the votes of a labeler | aggregations, filters |
| labels | the labels of one training pool, and evidence about them | filters |
| tuning | how the model is made; nothing of data, votes or labels | backends |

| name | type | what it is | stage |
| --- | --- | --- | --- |
| `task` | `silvertune.schema.Task` | the classes, the positive class, descriptions and prompts | configuration |
| `cache` | `pathlib.Path` | folder for what is expensive to compute, shared by all runs of a study | configuration |
| `annotations` | DataFrame of votes | the votes that came with the data (`silvertune.votes`) | data |
| `item_ids` | Index of str | the ids of all items of the dataset, and nothing else of them | data |
| `training` | DataFrame of items | the items of groups that no fold tests (`silvertune.items`) | data |
| `gold` | Series by item_id | trusted labels; the part's yaml has to say `_gold_: true` | data |
| `votes` | DataFrame of votes | the votes to aggregate; for a filter, those on the training pool | votes |
| `items` | DataFrame of items | the training pool, indexed by item_id | labels |
| `labels` | DataFrame by item_id | the aggregated labels: `label`, `confidence`, `n_votes` | labels |
| `embeddings` | item x dimension, float32 | mean over the item's views, of unit length | labels |
| `out_of_fold_probs` | item x class | probabilities by students tuned on the labels of other groups | labels |
| `out_of_fold` | function | labels (class by item_id) of some items -> (item_id, view) x class for all | labels |
| `training_dynamics` | (item_id, epoch) x class | a student's logits after each epoch on the labels | labels |
| `calibration` | Series by item_id | gold of `evidence.calibration` items; needs `_gold_: true` as well | labels |
| `kept_by` | function | configs of other filters -> boolean Series of what they keep | labels |
| `rng` | `numpy.random.Generator` | random numbers of the run's seed, fresh for each filter | labels |
| `model_config` | mapping | the configuration, of which `model` and `task` make the model elsewhere | tuning |

Test items are never among `items`, `votes` and `gold` of a filter.
"""

from typing import Final

KNOWN_AT: Final[dict[str, tuple[str, ...]]] = {
    "configuration": ("task", "cache"),
    "data": ("annotations", "item_ids", "training", "gold"),
    "votes": ("votes",),
    "labels": (
        "items",
        "labels",
        "embeddings",
        "out_of_fold_probs",
        "out_of_fold",
        "training_dynamics",
        "calibration",
        "kept_by",
        "rng",
    ),
    "tuning": ("model_config",),
}
"""Stage -> the names that become known at it, in the order of the stages."""

STAGE_OF_PART: Final[dict[str, str]] = {
    "dataset": "configuration",
    "encoder": "configuration",
    "model": "configuration",
    "backend": "tuning",
    "labeler": "data",
    "aggregation": "votes",
    "filter": "labels",
}
"""Kind of part -> the last stage whose names it may ask for."""

GOLD: Final = ("gold", "calibration")
"""Names that a part may ask for only where its yaml says `_gold_: true`."""

EVIDENCE_BY_STUDENT: Final = ("out_of_fold_probs", "out_of_fold", "training_dynamics")
"""Evidence that tunes `evidence.student`."""

EVIDENCE_BY_ENCODER: Final = ("embeddings", "training_dynamics")
"""Evidence that reads the configuration's `encoder`."""


def names_for(kind: str) -> tuple[str, ...]:
    """The names that a part may ask for.

    Args:
        kind: A key of `STAGE_OF_PART`.

    Returns:
        The names, those that are known first at the front.
    """
    stages = list(KNOWN_AT)
    stage = STAGE_OF_PART[kind]
    if stage == "tuning":
        return KNOWN_AT["configuration"] + KNOWN_AT["tuning"]
    last = stages.index(stage)
    return tuple(name for stage in stages[: last + 1] for name in KNOWN_AT[stage])
