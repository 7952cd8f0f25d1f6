from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made

from silvertune import aggregations, runner, splits, votes
from silvertune.backends.local import Local
from silvertune.errors import UserError
from silvertune.evidence.evidence import BoundFilter
from silvertune.fallback_budget import Budget
from silvertune.filters import controls
from silvertune.filters.votes import agreement
from silvertune.interfaces import Estimate, TrainingSet, Tuned
from silvertune.items import Data
from silvertune.labelers.source import LabelSource
from silvertune.runner import Parts
from silvertune.schema import Evaluation, Task
from silvertune.study import plan

KFOLD = Evaluation(split="kfold", folds=3, decision="any_view", replicates=50)
NONE = BoundFilter("none", controls.none, ("labels",))
AGREEMENT = BoundFilter("agreement", partial(agreement, over="view", at_least=1.0), ("votes", "labels"))


class Canned:
    """Hands on votes that were made before, and remembers which items it was asked about."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table, self.asked = table, list[list[str]]()

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        self.asked.append(list(items.index))
        return self.table[self.table["item_id"].isin(items.index)].reset_index(drop=True)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        return {}


class Spy(Local):
    """A backend that tunes as `Local` does, and keeps what it was given."""

    def __init__(self) -> None:
        self.trained: list[pd.DataFrame] = []
        self.validated: list[pd.DataFrame] = []

    def tune(self, model: object, sets: Sequence[TrainingSet]) -> Iterator[Tuned]:
        self.trained += [training_set.train for training_set in sets]
        self.validated += [training_set.validation for training_set in sets]
        return super().tune(model, sets)


def source(table: pd.DataFrame, task: Task, aggregate: Any = aggregations.majority, **settings: Any) -> LabelSource:
    return LabelSource("labeler", tuple(task.classes), Canned(table), partial(aggregate, task=task), **settings)


def parts(task: Task = made.SOE, *, data: Data | None = None, table: pd.DataFrame | None = None, **other: Any) -> Parts:
    """A run with a labeler that is wrong in a fifth of the views, and the light student."""
    data = made.data(36, task) if data is None else data
    table = made.votes(data.items, made.gold(len(data.items), task), task, wrong=0.2) if table is None else table
    usual: dict[str, Any] = {
        "task": task,
        "data": data,
        "preselect": None,
        "labeler": source(table, task, aggregations.any_view if task.positive else aggregations.majority),
        "bind": lambda chain: [],
        "filters": [NONE],
        "resources": made.resources(),
        "fallback": None,
        "model": made.STUDENT,
        "backend": Spy(),
        "evaluation": KFOLD if task.positive else replace(KFOLD, decision="mean"),
        "seed": 0,
    }
    return Parts(**(usual | other))


def expert(data: Data, task: Task, annotator: str = "expert", *, cost: float = 0.0) -> pd.DataFrame:
    rows: list[Mapping[str, object]] = [
        {"item_id": item, "annotator": annotator, "view": "item", "label": label, "cost_usd": cost}
        for item, label in made.gold(len(data.items), task).items()
    ]
    return votes.table(rows, task.classes)


def keeping(*items: str) -> BoundFilter:
    return BoundFilter("some", lambda labels: pd.Series(labels.index.isin(items), labels.index), ("labels",))


# ------------------------------------------------------------------------------------------------- a student is tuned


def test_a_student_learns_from_the_labels_and_every_item_is_tested_once(task: Task) -> None:
    result = runner.run(parts(task))
    assert sorted(result.predictions.index) == sorted(made.gold(36).index)
    assert result.predictions["gold"].equals(made.gold(36).reindex(result.predictions.index))
    assert (result.predictions["label"] == result.predictions["gold"]).mean() > 0.9
    assert result.predictions[["prob:other", "prob:soe"]].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert result.predictions["group_id"].notna().all()
    assert len(result.students) == 3
    assert result.alarms == []


def test_a_run_is_the_same_again(task: Task) -> None:
    one, other = runner.run(parts(task)), runner.run(parts(task))
    pd.testing.assert_frame_equal(one.predictions, other.predictions)
    pd.testing.assert_frame_equal(one.decisions, other.decisions)


def test_the_student_is_trained_on_the_labelers_labels_of_the_training_groups(task: Task) -> None:
    run = parts(task)
    result = runner.run(run)
    folds = splits.split(run.data, KFOLD, task, 0)
    labels = aggregations.any_view(result.votes, task)["label"]
    for fold, train in zip(folds, run.backend.trained, strict=True):  # type: ignore[attr-defined]
        assert set(train.index) == set(fold.train)
        assert (train["label"] == labels[train.index]).all()
        assert (train["weight"] == 1.0).all()
        assert not set(train["group_id"]) & set(run.data.items.loc[fold.test, "group_id"])


def test_the_labels_of_test_items_do_not_reach_the_student(task: Task) -> None:
    """With a hold-out, the labeler is not even asked about them."""
    run = parts(task, evaluation=Evaluation(split="holdout", test_fraction=0.25, replicates=50))
    result = runner.run(run)
    asked = {item for items in run.labeler.labeler.asked for item in items}  # type: ignore[attr-defined]
    assert asked
    assert not asked & set(result.predictions.index)


def test_filters_never_see_test_items_nor_their_gold(task: Task) -> None:
    seen: list[set[str]] = []

    def spy(items: pd.DataFrame, votes: pd.DataFrame, labels: pd.DataFrame, gold: pd.Series) -> pd.Series:
        seen.append(set(items.index) | set(votes["item_id"]) | set(labels.index) | set(gold.index))
        return pd.Series(True, index=labels.index)

    run = parts(task, filters=[BoundFilter("spy", spy, ("items", "votes", "labels", "gold"))])
    result = runner.run(run)
    assert len(seen) == 3
    for number, items in enumerate(seen):
        tested = set(result.predictions.index[result.predictions["fold"] == number])
        assert tested
        assert not tested & items
        assert items == set(made.gold(36).index) - tested


def test_a_filter_that_is_like_another_judges_the_same_pool(task: Task) -> None:
    control = BoundFilter(
        "random_matched", partial(controls.random_matched, like={"x": {}}, per_class=True), ("labels", "kept_by", "rng")
    )
    plain = runner.run(parts(task, filters=[AGREEMENT])).decisions
    random = runner.run(parts(task, filters=[control], bind=lambda chain: [AGREEMENT])).decisions
    assert plain.groupby("fold")["keep"].sum().to_dict() == random.groupby("fold")["keep"].sum().to_dict()
    assert 0 < plain["keep"].sum() < len(plain)


def test_only_what_the_filter_keeps_is_trained_on(task: Task) -> None:
    run = parts(task, filters=[AGREEMENT])
    result = runner.run(run)
    for number, train in enumerate(run.backend.trained):  # type: ignore[attr-defined]
        own = result.decisions[result.decisions["fold"] == number]
        assert set(train.index) == set(own.index[own["keep"]]) < set(own.index)
    dropped = result.decisions[~result.decisions["keep"]]
    assert set(dropped["source"]) == {"dropped"}
    assert dropped["train_label"].isna().all()
    assert (dropped["reason"] == "agreement").all()
    assert result.labels.metrics["labels/noise_after"] < result.labels.metrics["labels/noise_before"]


def test_weights_of_a_filter_reach_the_student(task: Task) -> None:
    def half(labels: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"keep": True, "weight": 0.5}, index=labels.index)

    run = parts(task, filters=[BoundFilter("half", half, ("labels",))])
    runner.run(run)
    assert all((train["weight"] == 0.5).all() for train in run.backend.trained)  # type: ignore[attr-defined]


def test_given_files_give_the_student_a_validation_set_with_silver_labels(task: Task) -> None:
    data = made.data(36)
    of_group = data.items["group_id"].map(lambda group: ("train", "validation", "test")[int(group[1:]) % 3])
    run = parts(task, data=replace(data, partition=of_group), evaluation=replace(KFOLD, split="given"))
    result = runner.run(run)
    (train,), (validation,) = run.backend.trained, run.backend.validated  # type: ignore[attr-defined]
    assert set(validation.index) == set(of_group.index[of_group == "validation"])
    assert set(train.index) == set(of_group.index[of_group == "train"])
    assert validation["label"].equals(result.decisions.loc[validation.index, "label"])


def test_items_that_nobody_labelled_are_not_trained_on(task: Task) -> None:
    table = made.votes(made.items(36), made.gold(36), task, wrong=0.0)
    run = parts(task, table=table[~table["item_id"].isin(["i000", "i001"])])
    result = runner.run(run)
    assert all(not {"i000", "i001"} & set(train.index) for train in run.backend.trained)  # type: ignore[attr-defined]
    assert set(result.decisions.loc["i000", "reason"]) == {"no label"}


def test_an_item_without_a_view_to_read_has_a_null_prediction(task: Task) -> None:
    data = made.data(36)
    data.items.loc["i004", ["json", "text"]] = None
    result = runner.run(parts(task, data=data))
    assert pd.isna(result.predictions.loc["i004", "label"])
    assert result.predictions.loc["i004", ["prob:other", "prob:soe"]].tolist() == [0.5, 0.5]
    assert result.predictions["label"].notna().sum() == 35


# -------------------------------------------------------------------------------------------------- the other arms


def test_without_a_model_the_labels_themselves_are_the_predictions(task: Task) -> None:
    run = parts(task, model=None)
    result = runner.run(run)
    labels = aggregations.any_view(run.labeler.labeler.table, task)["label"]  # type: ignore[attr-defined]
    assert (result.predictions["label"] == labels[result.predictions.index]).all()
    assert sorted(result.predictions.index) == sorted(made.gold(36).index)
    assert result.students == []
    assert result.alarms == []
    assert run.backend.trained == []  # type: ignore[attr-defined]


def test_without_a_model_an_item_without_a_label_keeps_a_null_one_and_even_probabilities(task: Task) -> None:
    table = made.votes(made.items(36), made.gold(36), task, wrong=0.0)
    table.loc[table["item_id"] == "i003", ["label", "status"]] = [None, "refused"]
    table.loc[table["item_id"] == "i003", ["prob:other", "prob:soe", "confidence"]] = np.nan
    predictions = runner.run(parts(task, table=table, model=None)).predictions
    assert pd.isna(predictions.loc["i003", "label"])
    assert predictions.loc["i003", ["prob:other", "prob:soe"]].tolist() == [0.5, 0.5]


def test_a_fallback_labels_what_was_rejected_and_nothing_else(task: Task) -> None:
    data = made.data(36)
    fallback = source(expert(data, task, cost=0.5), task, aggregations.first)
    run = parts(task, data=data, filters=[AGREEMENT], fallback=fallback)
    result = runner.run(run)
    decisions = result.decisions
    rejected = decisions[~decisions["keep"]]
    assert 0 < len(rejected) < len(decisions)
    assert set(rejected["source"]) == {"fallback"}
    assert (rejected["train_label"] == made.gold(36)[rejected.index]).all()
    assert (decisions.loc[decisions["keep"], "train_label"] == decisions.loc[decisions["keep"], "label"]).all()
    (asked,) = fallback.labeler.asked  # type: ignore[attr-defined]
    assert set(asked) == set(rejected.index)
    assert result.labels.metrics["labels/cost_usd"] == pytest.approx(0.5 * rejected.index.nunique())
    assert set(result.votes["stage"]) == {"labeler", "fallback"}
    for number, train in enumerate(run.backend.trained):  # type: ignore[attr-defined]
        assert set(train.index) == set(decisions.index[decisions["fold"] == number])


def test_what_the_fallback_can_not_label_either_is_dropped(task: Task) -> None:
    data = made.data(36)
    run = parts(task, data=data, filters=[keeping("i000", "i001", "i002", "i003", "i034", "i035")])
    answers = expert(data, task)
    answers = answers[answers["item_id"] != "i010"]
    result = runner.run(replace(run, fallback=source(answers, task, aggregations.first)))
    assert set(result.decisions.loc["i010", "source"]) == {"dropped"}
    assert result.decisions.loc["i010", "train_label"].isna().all()
    assert set(result.decisions.loc["i011", "source"]) == {"fallback"}


def test_a_fallback_that_is_not_needed_is_not_asked(task: Task) -> None:
    data = made.data(36)
    fallback = source(expert(data, task), task, aggregations.first)
    runner.run(parts(task, data=data, fallback=fallback))
    assert fallback.labeler.asked == []  # type: ignore[attr-defined]


def test_with_a_budget_the_fallback_is_asked_about_so_many_of_each_pool_and_audits_the_kept(task: Task) -> None:
    data = made.data(36)
    fallback = source(expert(data, task), task, aggregations.first, budget=Budget(6, 0.5))
    result = runner.run(parts(task, data=data, filters=[AGREEMENT], fallback=fallback))
    decisions, gold = result.decisions, made.gold(36)
    assert decisions.groupby("fold")["asked"].agg(lambda own: (own != "").sum()).tolist() == [6, 6, 6]
    asked = decisions[decisions["asked"] != ""]
    assert (asked["train_label"] == gold[asked.index]).all()
    assert set(asked["source"]) == {"fallback"}
    assert asked["keep"].any()
    others = decisions[decisions["asked"] == ""]
    assert (others["source"] == others["keep"].map({True: "labeler", False: "dropped"})).all()
    audited = decisions[decisions["asked"] == "audit"]
    wrong = (audited["label"] != gold[audited.index]).groupby(audited["fold"]).mean().mean()
    assert result.labels.metrics["labels/audit_noise"] == pytest.approx(wrong)
    assert set(fallback.labeler.asked[0]) == set(asked.index)  # type: ignore[attr-defined]


def test_gold_for_calibration_is_of_the_training_pool_and_is_counted(task: Task) -> None:
    def ask(labels: pd.DataFrame, calibration: pd.Series) -> pd.Series:
        assert set(calibration.index) <= set(labels.index)
        return pd.Series(True, labels.index)

    run = parts(
        task, resources=made.resources(calibration=7), filters=[BoundFilter("it", ask, ("labels", "calibration"))]
    )
    result = runner.run(run)
    bought = result.decisions[result.decisions["calibration"]]
    assert bought.groupby("fold").size().tolist() == [7, 7, 7]
    # Folds draw of pools that overlap: an item that two of them drew was labelled once.
    assert 7 < result.labels.metrics["labels/human_labels"] == bought.index.nunique() < 21
    unasked = runner.run(replace(run, filters=[NONE]))
    assert unasked.labels.metrics["labels/human_labels"] == 0


@pytest.mark.parametrize(("labeler", "fallback"), [(False, False), (True, False), (False, True), (True, True)])
def test_labels_by_people_are_counted_once_an_item(task: Task, labeler: bool, fallback: bool) -> None:
    run = parts(task, filters=[AGREEMENT])
    second = source(expert(run.data, task), task, aggregations.first, people=fallback)
    result = runner.run(replace(run, labeler=replace(run.labeler, people=labeler), fallback=second))
    asked = result.decisions.index[result.decisions["source"] == "fallback"].nunique()
    labelled = result.decisions.index[result.decisions["label"].notna()].nunique()
    assert 0 < asked < labelled
    assert result.labels.metrics["labels/human_labels"] == labelled * labeler + asked * fallback


def test_an_aggregation_learns_nothing_from_the_votes_on_test_items(task: Task) -> None:
    seen: list[set[str]] = []

    def watched(votes: pd.DataFrame) -> pd.DataFrame:
        seen.append(set(votes["item_id"]))
        return aggregations.any_view(votes, task)

    run = parts(task)
    result = runner.run(replace(run, labeler=replace(run.labeler, aggregate=watched)))
    pools = [set(own.index) for _, own in result.decisions.groupby("fold")]
    assert seen[-len(pools) :] == pools
    assert all(pool < set(run.data.items.index) for pool in pools)


def test_computed_evidence_is_about_the_training_pool_alone(task: Task) -> None:
    seen: list[set[str]] = []

    def spy(labels: pd.DataFrame, **given: pd.DataFrame) -> pd.Series:
        seen.append(set().union(*(table.index.get_level_values("item_id") for table in given.values())))
        return pd.Series(True, index=labels.index)

    needs = ("labels", "embeddings", "out_of_fold_probs", "training_dynamics", "calibration")
    result = runner.run(parts(task, resources=made.resources(calibration=9), filters=[BoundFilter("spy", spy, needs)]))
    for number, items in enumerate(seen):
        tested = set(result.predictions.index[result.predictions["fold"] == number])
        assert items == set(made.gold(36).index) - tested


class Soft:
    """A model that takes soft labels, and is the light student otherwise."""

    soft_labels = True

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Any:
        return made.STUDENT.fit(train, validation, seed)


@pytest.mark.parametrize("model", [Soft(), made.STUDENT], ids=["soft", "hard"])
def test_soft_labels_reach_a_model_that_takes_them_and_no_other(task: Task, model: Any) -> None:
    data = made.data(36)
    table = made.votes(data.items, data.gold, wrong=0.2)
    fallback = source(expert(data, task), task, aggregations.first)
    run = parts(
        task,
        data=data,
        labeler=source(table, task, aggregations.mean_distribution),
        filters=[AGREEMENT],
        fallback=fallback,
        model=model,
    )
    decisions = runner.run(run).decisions
    for number, train in enumerate(run.backend.trained):  # type: ignore[attr-defined]
        own = decisions[decisions["fold"] == number].loc[train.index]
        if model is made.STUDENT:
            assert not [name for name in train if name.startswith("prob:")]
            continue
        by_labeler = own["source"] == "labeler"
        assert train.loc[by_labeler, "prob:soe"].equals(own.loc[by_labeler, "prob:soe"])
        assert ((train["prob:soe"] == (train["label"] == "soe")) | by_labeler).all()
        assert (train["prob:soe"] + train["prob:other"]).to_numpy() == pytest.approx(1.0)
        assert 0 < by_labeler.sum() < len(own)


def test_an_aggregation_without_a_distribution_gives_a_soft_student_hard_labels(task: Task) -> None:
    run = parts(task, model=Soft())
    runner.run(run)
    for train in run.backend.trained:  # type: ignore[attr-defined]
        assert (train["prob:soe"] == (train["label"] == "soe")).all()


def test_a_preselection_decides_what_is_labelled_and_trained_on_but_not_what_is_tested(task: Task) -> None:
    data = made.data(36)
    rows = [{"item_id": item, "label": "soe" if k < 24 else "other"} for k, item in enumerate(data.items.index)]
    chosen = set(data.items.index[:24])
    run = parts(task, data=data, preselect=source(made.votes_of(rows, task), task, keep=("soe",)))
    result = runner.run(run)
    assert set(result.decisions.index) == chosen
    assert {item for items in run.labeler.labeler.asked for item in items} == chosen  # type: ignore[attr-defined]
    assert sorted(result.predictions.index) == sorted(data.gold.index)


def test_a_preselection_that_finds_nothing_is_told(task: Task) -> None:
    rows = [{"item_id": item, "label": "other"} for item in made.items(36).index]
    with made.refused("preselect.keep=['soe']", "found no such item"):
        runner.run(parts(task, preselect=source(made.votes_of(rows, task), task, keep=("soe",))))


@pytest.mark.parametrize("model", [made.STUDENT, None], ids=["student", "none"])
def test_three_classes_and_no_positive_one(colours: Task, model: object) -> None:
    data = made.data(45, colours)
    table = made.votes(data.items, data.gold, colours, wrong=0.1)
    result = runner.run(parts(colours, data=data, table=table, filters=[AGREEMENT], model=model))
    assert set(result.predictions["label"].dropna()) == set(colours.classes)
    assert (result.predictions["label"] == result.predictions["gold"]).mean() > 0.8
    assert result.predictions[votes.prob_columns(colours.classes)].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert list(result.labels.by_class.index) == colours.classes


def test_a_class_that_the_labeler_never_gives_has_no_probability(colours: Task) -> None:
    data = made.data(45, colours)
    table = made.votes(data.items, data.gold, colours, wrong=0.0)
    blue = table["label"] == "blue"
    table.loc[blue, "label"] = "red"
    result = runner.run(parts(colours, data=data, table=table))
    assert "blue" not in set(result.predictions["label"])
    assert (result.predictions["prob:blue"] == 0).all()


# ------------------------------------------------------------------------------------------------------- the errors


def test_a_filter_that_keeps_nothing_is_told_with_the_counts(task: Task) -> None:
    with made.refused("filter=some:", "no label is left to tune on", "'soe': '", "-> 0"):
        runner.run(parts(task, filters=[keeping()]))


def test_a_filter_that_loses_a_class_is_told_with_the_class(task: Task) -> None:
    only = BoundFilter("only_soe", lambda labels: labels["label"] == "soe", ("labels",))
    with made.refused("filter=none+only_soe", "every label of class 'other' was dropped", "-> 0"):
        runner.run(parts(task, filters=[NONE, only]))


def test_a_labeler_with_one_class_only_is_told(task: Task) -> None:
    rows = [{"item_id": item, "label": "soe"} for item in made.items(36).index]
    with made.refused("labeler: every label is 'soe'", "at least two classes"):
        runner.run(parts(task, table=made.votes_of(rows, task)))


def test_a_labeler_without_any_label_is_told(task: Task) -> None:
    with made.refused("no label is left to tune on"):
        runner.run(parts(task, table=made.votes_of([], task)))


def test_a_class_that_only_the_fallback_has_left_is_no_loss(task: Task) -> None:
    data = made.data(36)
    only = BoundFilter("only_soe", lambda labels: labels["label"] == "soe", ("labels",))
    fallback = source(expert(data, task), task, aggregations.first)
    result = runner.run(parts(task, data=data, filters=[only], fallback=fallback))
    assert set(result.decisions["train_label"]) == {"soe", "other"}


@pytest.mark.parametrize("label", ["SOE", "red"])
def test_votes_of_a_labeler_that_are_none_are_refused(task: Task, label: str) -> None:
    table = made.votes(made.items(36), made.gold(36), task)
    table.loc[table["item_id"] == "i005", "label"] = label
    labeler = source(table, task, aggregations.majority)
    with made.refused("labeler", "a label that is no class of the task"):
        runner.run(parts(task, labeler=labeler))


def test_a_filter_whose_answer_is_about_other_items_is_told(task: Task) -> None:
    stray = BoundFilter("stray", lambda labels: pd.Series(True, index=labels.index[:3]), ("labels",))
    with made.refused("filter.stray returned 3 row(s)"):
        runner.run(parts(task, filters=[stray]))


class Closing(Spy):
    """A backend that notes when the reading of its models has ended."""

    is_closed = False

    def tune(self, model: object, sets: Sequence[TrainingSet]) -> Iterator[Tuned]:
        try:
            yield from super().tune(model, sets)
        finally:
            self.is_closed = True


def test_a_backend_is_told_at_once_that_nobody_reads_on() -> None:
    reads_all, stops = Closing(), Closing()
    runner.run(parts(backend=reads_all))
    with pytest.raises(UserError) as caught:
        runner.run(parts(backend=stops, evaluation=replace(KFOLD, threshold="validation")))
    assert "needs every class among the validation labels" in str(caught.value)
    assert (reads_all.is_closed, stops.is_closed) == (True, True)


def test_estimates_for_a_model_with_soft_labels_see_their_columns() -> None:
    class Soft:
        soft_labels = True

    (first, *_) = plan.largest_training_sets(parts(model=Soft()))
    assert (first.train[["prob:other", "prob:soe"]].sum(axis=1) == 1).all()
    assert "prob:soe" not in plan.largest_training_sets(parts())[0].train


# ------------------------------------------------------------------------------------------------- the production run


def test_a_production_run_tunes_one_model_on_all_labels_and_tests_nothing(task: Task) -> None:
    data = made.data(36, task)
    run = parts(
        task, data=replace(data, gold=data.gold.iloc[:0]), evaluation=replace(KFOLD, split="none", decision="mean")
    )
    result = runner.run(run)
    (train,) = run.backend.trained  # type: ignore[attr-defined]
    assert set(train.index) == set(data.items.index)
    assert len(result.students) == 1
    assert result.predictions.empty
    assert result.report.groups.empty
    assert set(result.report.metrics) == {"tuning/cost_usd"}
    measured = {name for name, value in result.labels.metrics.items() if value == value}
    assert not {name for name in measured if "noise" in name or "gold" in name or "test" in name}
    assert {"labels/kept_fraction", "labels/n_train", "labels/alpha"} <= measured


def test_a_production_run_sets_validation_groups_aside_where_the_model_wants_them(task: Task) -> None:
    run = parts(
        task,
        model=replace(made.STUDENT, validation_fraction=0.3),
        evaluation=replace(KFOLD, split="none", decision="mean"),
    )
    result = runner.run(run)
    (train,), (validation,) = run.backend.trained, run.backend.validated  # type: ignore[attr-defined]
    assert len(train) + len(validation) == 36
    assert not set(train["group_id"]) & set(validation["group_id"])
    assert len(validation)
    assert "validation" in result.students[0].thresholds or task.positive is None


def test_a_production_run_says_why_labels_were_dropped(task: Task) -> None:
    table = made.votes(made.items(36), made.gold(36), task, wrong=0.3)
    run = parts(
        task,
        table=table[table["item_id"] != "i000"],
        filters=[AGREEMENT],
        evaluation=replace(KFOLD, split="none", decision="mean"),
    )
    reasons = runner.run(run).labels.reasons.set_index(["outcome", "reason"])["labels"]
    assert reasons["dropped", "no label"] == 1
    assert reasons["dropped", "agreement"] > 0
    assert reasons.sum() == 36


def test_a_model_that_nothing_tests_and_that_has_learned_nothing_raises_an_alarm(task: Task) -> None:
    data = made.data(36, task)
    data.items[["json", "text"]] = "the same words"
    result = runner.run(parts(task, data=data, evaluation=replace(KFOLD, split="none", decision="mean")))
    assert any("constant: all 36 training items" in line for line in result.alarms)
    assert any("collapsed: training probabilities" in line for line in result.alarms)
