"""Small made-up data for the tests: plain functions, deterministic, nothing read from disk."""

import copy
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from silvertune import aggregations
from silvertune import votes as votes_table
from silvertune.composition import bind_filters
from silvertune.errors import UserError
from silvertune.evidence.computed import Resources
from silvertune.evidence.evidence import Evidence
from silvertune.items import Data, views_of
from silvertune.models.tfidf_logreg import TfidfLogreg
from silvertune.schema import Task

SOE = Task(
    name="soe",
    classes=["other", "soe"],
    positive="soe",
    descriptions={"soe": ["Visits across, assessments down"], "other": ["A list of abbreviations"]},
)
COLOURS = Task(name="colours", classes=["red", "green", "blue"], positive=None)

_USUAL_EVIDENCE: dict[str, Evidence] = {}
"""What `usual_evidence` has made, by its settings."""
WORDS = {
    "soe": ("visit", "screening", "week", "assessment", "followup"),
    "other": ("abbreviation", "endpoint", "dose", "objective", "signature"),
    "red": ("cherry", "brick", "ruby", "blood"),
    "green": ("grass", "moss", "lime", "fern"),
    "blue": ("sky", "sea", "navy", "cobalt"),
}


def items(n: int = 24, task: Task = SOE, *, per_group: int = 3, seed: int = 0) -> pd.DataFrame:
    """`n` items in groups of `per_group`, with a json and a text view whose words tell their class (see `gold`)."""
    rng = np.random.default_rng(seed)
    true = _classes(n, task)
    text = [" ".join(rng.choice(WORDS[name], size=6)) + f" row{i}" for i, name in enumerate(true)]
    return pd.DataFrame(
        {
            "group_id": [f"g{i // per_group:02d}" for i in range(n)],
            "json": ['[["' + entry.replace(" ", '", "') + '"]]' for entry in text],
            "text": text,
        },
        index=_ids(n),
        dtype=object,
    )


def gold(n: int = 24, task: Task = SOE) -> pd.Series:
    """The true class of each of the `items` of the same n: the task's classes in turn."""
    return pd.Series(_classes(n, task), index=_ids(n), name="gold", dtype=object)


def votes(
    items: pd.DataFrame,
    gold: pd.Series,
    task: Task = SOE,
    *,
    wrong: float = 0.2,
    null: float = 0.0,
    annotator: str = "machine",
    seed: int = 0,
) -> pd.DataFrame:
    """One vote with a distribution a view of each item: wrong in a share `wrong` of them, null in a share `null`."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for item in items.index:
        for view in views_of(items):
            row: dict[str, object] = {"item_id": item, "annotator": annotator, "view": view, "label": None}
            is_null, is_wrong, which = rng.random(3)
            sure = float(rng.uniform(0.55, 0.99))
            if is_null >= null and item in gold.index:
                others = [name for name in task.classes if name != gold[item]]
                label = others[int(which * len(others))] if is_wrong < wrong else gold[item]
                rest = (1 - sure) / (len(task.classes) - 1)
                row |= {"label": label, "confidence": sure}
                row |= {f"prob:{name}": sure if name == label else rest for name in task.classes}
            rows.append(row)
    return votes_table.table(rows, task.classes, probs=True)


def votes_of(rows: Iterable[Mapping[str, object]], task: Task = SOE) -> pd.DataFrame:
    """A votes table from rows that may leave out annotator and view as well."""
    filled = [{"annotator": "machine", "view": "text", **row} for row in rows]
    return votes_table.table(filled, task.classes)


def data(
    n: int = 24,
    task: Task = SOE,
    *,
    per_group: int = 3,
    without_gold: Sequence[str] = (),
    annotations: pd.DataFrame | None = None,
    partition: pd.Series | None = None,
) -> Data:
    """A dataset of `items` and `gold` whose annotations are the gold as votes of `expert`, or those given."""
    true = gold(n, task)
    rows = [{"item_id": item, "annotator": "expert", "view": "item", "label": label} for item, label in true.items()]
    return Data(
        items=items(n, task, per_group=per_group),
        annotations=votes_table.table(rows, task.classes) if annotations is None else annotations,
        gold=true.drop(list(without_gold)),
        partition=partition,
        digest=hashlib.sha256(f"{n} {task.name} {per_group}".encode()).hexdigest(),
    )


class WordEncoder:
    """Texts to vectors at once, alike where their words are; in place of the real encoder."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def check(self) -> None: ...

    def content_key(self) -> str:
        return "made up"

    def embed(self, texts: Sequence[str], cache: Path, *, queries: Sequence[str] = ()) -> np.ndarray:
        read = [*texts, *queries]
        self.embedded += read
        vectors = np.stack([sum(map(_vector, text.split()), np.zeros(16)) for text in read]).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


STUDENT = TfidfLogreg(
    views=None,
    token_pattern=r"(?u)\w+",
    ngram_max=1,
    min_df=1,
    max_features=1000,
    C=1.0,
    class_weight="balanced",
    max_iter=200,
)


def resources(**changes: Any) -> Resources:
    """With what evidence is computed in tests: words, the light student, a folder that all of them share."""
    usual: dict[str, Any] = {
        "encoder": WordEncoder(),
        "encoder_key": "words",
        "student": STUDENT,
        "student_key": "tfidf",
        "folds": 4,
        "epochs": 5,
        "calibration": 0,
        "cache": Path(_shared().name),
    }
    return Resources(**(usual | changes))


def evidence(votes: pd.DataFrame, task: Task, n: int = 40, *, seed: int = 0, calibration: int = 0) -> Evidence:
    """Evidence about `items(n)` with these votes; items that nobody voted on have a null label, as in a run."""
    about = items(n, task)
    labels = aggregations.majority(votes, task).reindex(about.index)
    labels["label"] = labels["label"].astype(object).where(labels["label"].notna(), None)
    labels["n_votes"] = labels["n_votes"].fillna(0).astype(int)
    return Evidence(
        about,
        votes,
        labels,
        task,
        votes_of([], task),
        about.index,
        about.iloc[:0],
        gold(n, task),
        seed,
        lambda nodes: bind_filters(nodes, key="like"),
        resources(calibration=calibration),
    )


def usual_evidence(
    task: Task, *, n: int = 40, wrong: float = 0.3, null: float = 0.1, seed: int = 0, calibration: int = 20
) -> Evidence:
    """Evidence with a labeler that is wrong in a share `wrong` of the views and says nothing in a share `null`.

    Its tables are made once a process, and copied.
    """
    settings = json.dumps([asdict(task), n, wrong, null, seed, calibration])
    if settings not in _USUAL_EVIDENCE:
        cast = votes(items(n, task), gold(n, task), task, wrong=wrong, null=null)
        _USUAL_EVIDENCE[settings] = evidence(cast, copy.deepcopy(task), n, seed=seed, calibration=calibration)
    usual = _USUAL_EVIDENCE[settings]
    tables = {name: table.copy() for name, table in vars(usual).items() if isinstance(table, (pd.DataFrame, pd.Series))}
    return replace(usual, **tables, task=task, resources=resources(calibration=calibration))


def shuffled(about: Evidence, seed: int) -> Evidence:
    """The same evidence with its rows in another order."""
    return replace(
        about,
        items=about.items.sample(frac=1, random_state=seed),
        votes=about.votes.sample(frac=1, random_state=seed + 1),
        labels=about.labels.sample(frac=1, random_state=seed + 2),
        gold=about.gold.sample(frac=1, random_state=seed + 3),
    )


@cache
def _shared() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()


@cache
def _vector(word: str) -> np.ndarray:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(word.encode()).digest()[:4])).normal(size=16)


def _ids(n: int) -> pd.Index:
    return pd.Index([f"i{i:03d}" for i in range(n)], name="item_id", dtype=object)


def _classes(n: int, task: Task) -> list[str]:
    return [task.classes[i % len(task.classes)] for i in range(n)]


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    """Passes if the block raises a UserError whose message is one line that has every one of `parts`."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def changed(content: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with `value` at the dotted `key`."""
    made_anew = copy.deepcopy(dict(content))
    node = made_anew
    *path, last = key.split(".")
    for name in path:
        node = node[name]
    node[last] = value
    return made_anew
