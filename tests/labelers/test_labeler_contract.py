"""What every labeler must do, whatever it makes its votes of."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests import made
from tests.llms import made_llms

from silvertune import votes
from silvertune.items import views_of
from silvertune.labelers.answer_sheet import AnswerSheet
from silvertune.labelers.label_studio import LabelStudio
from silvertune.labelers.recorded import Recorded
from silvertune.labelers.simulated_panel import SimulatedPanel
from silvertune.labelers.tuned_model import TunedModel
from silvertune.labelers.zero_shot import ZeroShot
from silvertune.models.tfidf_logreg import TfidfLogreg
from silvertune.schema import Task

CONF = Path(__file__).parents[2] / "conf" / "labeler"


class HashEncoder:
    """Any text to a vector of its own, at once; in place of the real encoder."""

    def folder(self) -> Path:
        return Path()

    def check(self) -> None: ...

    def content_key(self) -> str:
        return "made up"

    def stored(self, texts: Sequence[str], cache: Path) -> int:
        return 0

    def embed(self, texts: Sequence[str], cache: Path, *, queries: Sequence[str] = ()) -> np.ndarray:
        digests = [hashlib.sha256(text.encode()).digest() for text in [*texts, *queries]]
        rows = [np.frombuffer(digest, dtype=np.uint8) for digest in digests]
        vectors = np.array(rows, dtype=np.float32).reshape(len(rows), 32) - 128
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def zero_shot(items: pd.DataFrame, gold: pd.Series, task: Task) -> Any:
    return ZeroShot(task, Path(), encoder=HashEncoder(), views=None, temperature=0.05)  # type: ignore[arg-type]


def recorded(items: pd.DataFrame, gold: pd.Series, task: Task) -> Any:
    rows = [
        {"item_id": item, "annotator": who, "view": "item", "label": None if k % 5 == 0 else gold.get(item)}
        for who in ("non_expert/b", "non_expert/a", "expert")
        for k, item in enumerate(items.index)
        if who == "expert" or k % 3
    ]
    annotations = votes.table(rows, task.classes)
    return Recorded(task, annotations, annotators=["non_expert/*"], path=None, defer_to="expert", first_only=False)


def simulated_panel(items: pd.DataFrame, gold: pd.Series, task: Task) -> Any:
    return SimulatedPanel(
        task, gold, pairwise_agreement=0.7, confusable=0.5, do_not_know=0.3, shared=len(items), seed=0
    )


def answer_sheet(items: pd.DataFrame, gold: pd.Series, task: Task) -> Any:
    path = Path(tempfile.mkdtemp()) / "answers.csv"
    rows = [f"{item},{'?' if k % 5 == 0 else gold.get(item, '?')}\n" for k, item in enumerate(items.index)]
    path.write_text("item_id,label\n" + "".join(rows))
    return AnswerSheet(task, path=str(path), annotator="people", cost_usd=0.5, views=None)


def label_studio(items: pd.DataFrame, gold: pd.Series, task: Task) -> Any:
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    tasks = [
        {
            "id": k,
            "data": {"item_id": item},
            "annotations": [
                {
                    "id": 10 * k + who,
                    "completed_by": who,
                    "was_cancelled": item not in gold.index or k % 5 == 0,
                    "result": [{"from_name": "label", "value": {"choices": [gold.get(item)]}}],
                }
                for who in (2, 1)
            ],
        }
        for k, item in enumerate(items.index)
    ]
    (folder / "export.json").write_text(json.dumps(tasks))
    return LabelStudio(
        task, votes.table([], task.classes), path=str(folder), annotator="people", names={}, views=None, tables=[],
        drafts_by=[], cost_usd=0.5,
    )  # fmt: skip


def tuned_model(items: pd.DataFrame, gold: pd.Series, task: Task) -> Any:
    train = made.items(30).assign(label=made.gold(30), weight=1.0)
    student = TfidfLogreg(None, r"\w+", 1, 1, 500, 1.0, None, 200)
    with tempfile.TemporaryDirectory() as folder:
        student.fit(train, train.iloc[:0], 0).save(Path(folder) / "model")
        return TunedModel(task, path=f"{folder}/model", views=None)


def llm(items: pd.DataFrame, gold: pd.Series, task: Task) -> Any:
    return made_llms.labeler(task, {"scripted": made_llms.Scripted()}, Path(tempfile.mkdtemp(dir=FOLDER.name)))


FOLDER = tempfile.TemporaryDirectory()

CASES: dict[str, Callable[[pd.DataFrame, pd.Series, Task], Any]] = {
    "silvertune.labelers.ZeroShot": zero_shot,
    "silvertune.labelers.LLMLabeler": llm,
    "silvertune.labelers.Recorded": recorded,
    "silvertune.labelers.SimulatedPanel": simulated_panel,
    "silvertune.labelers.AnswerSheet": answer_sheet,
    "silvertune.labelers.LabelStudio": label_studio,
    "silvertune.labelers.TunedModel": tuned_model,
}
READS_VIEWS = {
    "silvertune.labelers.ZeroShot",
    "silvertune.labelers.TunedModel",
    "silvertune.labelers.LLMLabeler",
}
"""The others vote on the whole item."""

GOLD = made.gold(30).drop(["i007"])


def world() -> pd.DataFrame:
    """Items of which some lack a view, and one every view."""
    items = made.items(30)
    items.loc[["i003", "i004"], "json"] = None
    items.loc[["i005"], ["json", "text"]] = None
    return items


def test_every_shipped_labeler_has_a_case() -> None:
    nodes = [yaml.safe_load(file.read_text()) for file in CONF.glob("*.yaml")]
    # Those without a target are another one with other settings.
    assert {node["_target_"] for node in nodes if "_target_" in node} == set(CASES)
    assert all("defaults" in node for node in nodes if "_target_" not in node)


def sorted_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["item_id", "annotator", "view", "repeat"]).reset_index(drop=True)


@pytest.mark.parametrize("name", CASES)
class TestContract:
    def test_its_votes_are_a_votes_table_about_the_items(self, name: str, task: Task) -> None:
        items = world()
        table = CASES[name](items, GOLD, task).label(items)
        votes.check(table, task.classes, items.index, name)
        assert list(table.columns[: len(votes.COLUMNS)]) == list(votes.COLUMNS)
        assert table["label"].notna().sum() > 10
        assert set(table["view"]) == (set(views_of(items)) if name in READS_VIEWS else {votes.WHOLE_ITEM})

    def test_distributions_sum_to_one_and_peak_at_the_label(self, name: str, task: Task) -> None:
        table = CASES[name](world(), GOLD, task).label(world())
        columns = [column for column in table if column.startswith("prob:")]
        if name not in READS_VIEWS:
            assert columns == []
            return
        assert columns == votes.prob_columns(task.classes)
        cast = table[table["label"].notna()]
        assert np.allclose(cast[columns].sum(axis=1), 1)
        assert (cast[columns].idxmax(axis=1) == "prob:" + cast["label"]).all()
        assert np.allclose(cast[columns].max(axis=1), cast["confidence"])

    def test_a_view_that_an_item_lacks_gets_an_abstention(self, name: str, task: Task) -> None:
        items = world()
        table = CASES[name](items, GOLD, task).label(items)
        if name not in READS_VIEWS:
            # They did not read it: what is missing there changes nothing.
            whole = CASES[name](made.items(30), GOLD, task).label(made.items(30))
            pd.testing.assert_frame_equal(table, whole)
            return
        asked = table.set_index(["item_id", "view"])
        assert len(asked) == items.size - len(items)
        for item, view in asked.index:
            absent = items.at[item, view] is None
            assert (asked.loc[(item, view), "label"] is None) == absent
            assert asked.loc[(item, view), "status"] == ("abstained" if absent else "ok")

    def test_it_is_deterministic(self, name: str, task: Task) -> None:
        one, other = (CASES[name](world(), GOLD, task).label(world()) for _ in range(2))
        pd.testing.assert_frame_equal(one, other)

    @pytest.mark.parametrize("seed", range(3))
    def test_a_part_of_the_items_gets_the_same_votes_as_in_the_whole(self, name: str, seed: int, task: Task) -> None:
        items = world()
        part = items.sample(11, random_state=seed)
        labeler = CASES[name](items, GOLD, task)
        whole = labeler.label(items)
        expected = whole[whole["item_id"].isin(part.index)]
        found = labeler.label(part)
        pd.testing.assert_frame_equal(sorted_rows(found), sorted_rows(expected), check_exact=False)
        # And one item's votes stand in the same order, for aggregations that take the first.
        for item, own in found.groupby("item_id"):
            same = expected[expected["item_id"] == item]
            assert own["annotator"].tolist() == same["annotator"].tolist()

    def test_no_items_are_no_votes(self, name: str, task: Task) -> None:
        items = world()
        table = CASES[name](items, GOLD, task).label(items.iloc[:0])
        assert len(table) == 0
        votes.check(table, task.classes, items.index, name)

    def test_it_does_not_change_its_items(self, name: str, task: Task) -> None:
        items = world()
        CASES[name](items, GOLD, task).label(items)
        pd.testing.assert_frame_equal(items, world())

    def test_it_estimates_what_it_would_take(self, name: str, task: Task) -> None:
        items = world()
        estimate = CASES[name](items, GOLD, task).estimate(items)
        for figures in estimate.values():
            numbers = {**vars(figures), "notes": 0.0}
            assert all(isinstance(value, float) and value >= 0 for value in numbers.values())
            assert all(isinstance(note, str) and "\n" not in note for note in figures.notes)
        # One call a view that is there, or none where nobody is asked.
        calls = sum(figures.calls for figures in estimate.values())
        assert calls == (items[views_of(items)].notna().sum().sum() if name in READS_VIEWS else 0)
