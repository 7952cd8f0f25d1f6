from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from tests import made

from silvertune.evidence import computed
from silvertune.models.tfidf_logreg import TfidfLogreg
from silvertune.schema import Task


class Student:
    """The light student, which remembers what it was fitted on and asked about."""

    def __init__(self) -> None:
        self.fitted: list[pd.DataFrame] = []
        self.asked: list[pd.DataFrame] = []

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> "Student":
        self.fitted.append(train)
        self.predictor = made.STUDENT.fit(train, validation, seed)
        return self

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        self.asked.append(items)
        return self.predictor.predict_proba(items)


class Tracker(TfidfLogreg):
    """A student with training dynamics of its own, of two epochs; it never saw `other`."""

    def dynamics(self, train: pd.DataFrame, seed: int) -> pd.DataFrame:
        index = pd.MultiIndex.from_product([train.index, [0, 1]], names=["item_id", "epoch"])
        return pd.DataFrame({"soe": np.arange(len(index), dtype=float)}, index=index)


def noisy(task: Task = made.SOE) -> pd.Series:
    return made.usual_evidence(task, null=0.3).labels["label"]


# ------------------------------------------------------------------------------------------------------ embeddings


def test_embeddings_are_the_mean_of_the_views_and_of_unit_length() -> None:
    items = made.items(6)
    items.loc["i001", "json"] = None
    items.loc["i002", ["json", "text"]] = None
    found = computed.embeddings(made.resources(), items)
    assert found.index.equals(items.index)
    assert list(found.columns) == list(range(16))
    assert set(found.dtypes) == {np.dtype("float32")}
    of = {text: made.WordEncoder().embed([text], Path())[0] for text in items[["json", "text"]].stack().dropna()}
    both = of[items.at["i000", "json"]] + of[items.at["i000", "text"]]
    assert found.loc["i000"].to_numpy() == pytest.approx(both / np.linalg.norm(both), abs=1e-6)
    assert found.loc["i001"].to_numpy() == pytest.approx(of[items.at["i001", "text"]], abs=1e-6)
    assert (found.loc["i002"] == 0).all()


def test_each_text_is_embedded_once() -> None:
    items = made.items(6)
    items["text"] = "the same"
    resources = made.resources()
    computed.embeddings(resources, items)
    assert len(resources.encoder.embedded) == 7  # type: ignore[attr-defined]


# -------------------------------------------------------------------------------------------------- out of fold


def test_no_student_sees_the_group_that_it_is_asked_about(tmp_path: Path) -> None:
    student, items, labels = Student(), made.items(40), noisy()
    found = computed.OutOfFold(
        made.resources(student=student, cache=tmp_path), items, made.SOE.classes
    ).mean_over_views(labels)
    assert len(student.fitted) == 4
    for train, held_out in zip(student.fitted, student.asked, strict=True):
        assert not set(train["group_id"]) & set(held_out["group_id"])
        assert train["label"].equals(labels[train.index])
        assert set(train.index) == set(labels.index[labels.notna()]) - set(held_out.index)
    assert sorted(item for held_out in student.asked for item in held_out.index) == list(items.index)
    assert found.index.equals(items.index)
    assert list(found.columns) == made.SOE.classes
    assert found.sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_the_probabilities_are_the_mean_over_the_views(tmp_path: Path) -> None:
    student, items, labels = Student(), made.items(40), noisy()
    found = computed.OutOfFold(
        made.resources(student=student, cache=tmp_path), items, made.SOE.classes
    ).mean_over_views(labels)
    last = student.asked[-1]
    want = student.predictor.predict_proba(last).groupby(level="item_id").mean()
    pd.testing.assert_frame_equal(
        found.loc[last.index], want.loc[last.index, made.SOE.classes], check_names=False, check_dtype=False
    )


def test_other_labels_give_other_probabilities_of_each_view(tmp_path: Path) -> None:
    items, labels = made.items(40), noisy()
    resources = made.resources(cache=tmp_path)
    found = computed.OutOfFold(resources, items, made.SOE.classes)(labels)
    assert found.index.names == ["item_id", "view"]
    assert set(found.index.get_level_values("item_id")) == set(items.index)
    mean = found.groupby(level="item_id").mean().loc[items.index]
    whole = computed.OutOfFold(resources, items, made.SOE.classes).mean_over_views(labels)
    pd.testing.assert_frame_equal(mean, whole, check_names=False, check_index_type=False, check_dtype=False)
    some = computed.OutOfFold(resources, items, made.SOE.classes)(labels.iloc[:20])
    assert set(some.index) == set(found.index)
    assert not np.allclose(some.loc[found.index], found)
    assert computed.OutOfFold(resources, items.iloc[:0], made.SOE.classes)(labels.iloc[:0]).empty


def test_a_student_may_read_the_pool_once_for_all_folds_and_labels(tmp_path: Path) -> None:
    class Reader(Student):
        prepared: ClassVar[list[pd.Index]] = []

        def prepare(self, items: pd.DataFrame) -> None:
            assert not self.fitted
            self.prepared.append(items.index)

    student, items, labels = Reader(), made.items(40), noisy()
    out_of_fold = computed.OutOfFold(made.resources(student=student, cache=tmp_path), items, made.SOE.classes)
    out_of_fold(labels)
    out_of_fold(labels.iloc[:20])
    assert len(student.fitted) == 8
    assert [set(index) for index in student.prepared] == [set(items.index)]


def test_a_class_that_a_fold_never_saw_is_impossible_there(tmp_path: Path, colours: Task) -> None:
    labels = noisy(colours)
    first = made.items(40)["group_id"] == "g00"
    labels = labels.where((labels != "blue") | first, "red").where(~first, "blue")
    found = computed.OutOfFold(
        made.resources(cache=tmp_path), made.items(40, colours), colours.classes
    ).mean_over_views(labels)
    assert (found.loc[first, "blue"] == 0).all()
    assert found.sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_an_item_without_a_view_may_be_any_class(tmp_path: Path) -> None:
    items = made.items(40)
    items.loc["i003", ["json", "text"]] = None
    found = computed.OutOfFold(made.resources(cache=tmp_path), items, made.SOE.classes).mean_over_views(noisy())
    assert found.loc["i003"].tolist() == [0.5, 0.5]


def test_one_class_is_certain_and_no_label_leaves_all_open(tmp_path: Path) -> None:
    items, resources = made.items(40), made.resources(cache=tmp_path)
    one = pd.Series("soe", items.index, dtype=object)
    assert (computed.OutOfFold(resources, items, made.SOE.classes).mean_over_views(one)["soe"] == 1).all()
    none = pd.Series(None, items.index, dtype=object)
    assert (computed.OutOfFold(resources, items, made.SOE.classes).mean_over_views(none) == 0.5).all(axis=None)


def test_one_group_can_not_be_folded(tmp_path: Path) -> None:
    items = made.items(6).assign(group_id="g")
    labels = made.gold(6)
    with made.refused("evidence.folds=4", "has 1 group"):
        computed.OutOfFold(made.resources(cache=tmp_path), items, made.SOE.classes).mean_over_views(labels)


# ------------------------------------------------------------------------------------------------------- dynamics


def test_dynamics_are_logits_of_the_labelled_items_after_each_epoch(tmp_path: Path, colours: Task) -> None:
    labels = noisy(colours)
    found = computed.training_dynamics(
        made.resources(cache=tmp_path, epochs=8), made.items(40, colours), labels, colours.classes
    )
    assert list(found.columns) == colours.classes
    assert found.index.names == ["item_id", "epoch"]
    assert set(found.index) == {(item, epoch) for item in labels.index[labels.notna()] for epoch in range(8)}
    last = found.xs(7, level="epoch")
    assert (last.idxmax(axis=1) == labels[last.index]).mean() > 0.6
    assert not found.xs(0, level="epoch").equals(last)


def test_with_two_classes_the_logits_differ_by_the_log_odds(tmp_path: Path) -> None:
    found = computed.training_dynamics(made.resources(cache=tmp_path), made.items(40), noisy(), made.SOE.classes)
    assert (found["soe"] == -found["other"]).all()


def test_a_students_own_dynamics_are_taken(tmp_path: Path) -> None:
    student = Tracker(**vars(made.STUDENT))
    labels = noisy()
    found = computed.training_dynamics(
        made.resources(student=student, cache=tmp_path), made.items(40), labels, made.SOE.classes
    )
    assert len(found) == 2 * labels.notna().sum()
    assert (found["other"] == found["soe"]).all()


# --------------------------------------------------------------------------------------------------------- the disk


@pytest.mark.parametrize("name", ["out_of_fold_probs", "training_dynamics"])
class TestOnDisk:
    def compute(self, name: str, folder: Path, items: pd.DataFrame, labels: pd.Series, **changes: Any) -> pd.DataFrame:
        resources = made.resources(cache=folder, **changes)
        if name == "training_dynamics":
            return computed.training_dynamics(resources, items, labels, made.SOE.classes)
        return computed.OutOfFold(resources, items, made.SOE.classes).mean_over_views(labels)

    def files(self, folder: Path) -> list[str]:
        return sorted(file.name for file in (folder / "evidence").glob("*.parquet"))

    def test_it_is_read_and_not_computed_again_whatever_the_order(self, name: str, tmp_path: Path) -> None:
        items, labels = made.items(40), noisy()
        once = self.compute(name, tmp_path, items, labels)
        first = self.files(tmp_path)
        again = self.compute(name, tmp_path, items.iloc[::-1], labels.iloc[::-1])
        assert self.files(tmp_path) == first
        assert len(first) == 1
        pd.testing.assert_frame_equal(again.sort_index(), once.sort_index())

    def test_the_order_does_not_change_what_is_computed(self, name: str, tmp_path: Path) -> None:
        items, labels = made.items(40), noisy()
        once = self.compute(name, tmp_path / "a", items, labels)
        again = self.compute(name, tmp_path / "b", items.sample(frac=1, random_state=1), labels.iloc[::-1])
        pd.testing.assert_frame_equal(again.sort_index(), once.sort_index())

    def test_what_decides_it_is_another_file(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        items, labels = made.items(40), noisy()
        self.compute(name, tmp_path, items, labels)
        self.compute(name, tmp_path, items.assign(text="other words"), labels)
        self.compute(name, tmp_path, items, labels.where(labels.index != labels.first_valid_index()))
        self.compute(name, tmp_path, items, labels, folds=3, epochs=3)
        self.compute(name, tmp_path, items, labels, student_key="another", encoder_key="another")
        monkeypatch.setattr(computed, "_source", lambda: "another source")
        self.compute(name, tmp_path, items, labels)
        assert len(self.files(tmp_path)) == 6


def test_a_run_reads_what_another_computed(task: Task, tmp_path: Path) -> None:
    about = made.usual_evidence(task)
    one, other = (
        replace(about, resources=made.resources(cache=tmp_path, student=Student()), seed=seed) for seed in (0, 1)
    )
    pd.testing.assert_frame_equal(one.out_of_fold_probs, other.out_of_fold_probs)
    assert len(one.resources.student.fitted) == 4
    assert other.resources.student.fitted == []
