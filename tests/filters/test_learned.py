from typing import Any

import numpy as np
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from tests import made
from tests.filters.test_contract import CASES, ask, kept

from silvertune.evidence.evidence import Evidence
from silvertune.filters.learned import FILTER_BY, confident_learning, knn_agreement
from silvertune.schema import Task


def noisy(task: Task) -> Evidence:
    """Items that a student can tell apart, with a fifth of the labels wrong."""
    return made.usual_evidence(task, n=120, wrong=0.2, null=0.0)


def wrong(about: Evidence) -> set[str]:
    return set(about.labels.index[about.labels["label"] != about.gold])


@pytest.mark.parametrize("filter_by", FILTER_BY)
def test_it_drops_what_cleanlab_finds(colours: Task, filter_by: str) -> None:
    about = noisy(colours)
    answer = confident_learning(
        about.labels, about.out_of_fold_probs, colours, filter_by=filter_by, frac_noise=1.0, min_examples_per_class=1
    )
    codes = pd.Categorical(about.labels["label"], categories=colours.classes).codes
    probs = about.out_of_fold_probs[colours.classes].to_numpy()
    assert (~answer["keep"]).tolist() == find_label_issues(codes, probs, filter_by=filter_by, n_jobs=1).tolist()


@pytest.mark.parametrize("name", ["confident_learning prune_by_noise_rate", "knn_agreement weighted"])
def test_most_of_what_it_drops_is_wrong(task: Task, name: str) -> None:
    about = noisy(task)
    answer = ask(CASES[name], about)
    dropped = set(about.labels.index) - kept(answer)
    assert len(dropped & wrong(about)) > 0.6 * len(dropped) > 0
    assert len(dropped & wrong(about)) > 0.6 * len(wrong(about))


def test_a_class_of_the_task_that_has_no_label_changes_nothing(task: Task) -> None:
    about = noisy(task)
    more = Task(name="more", classes=["other", "none of them", "soe"], positive="soe")
    probs = about.out_of_fold_probs.assign(**{"none of them": 0.0})[more.classes]
    settings: dict[str, Any] = {"filter_by": "both", "frac_noise": 1.0, "min_examples_per_class": 1}
    three = confident_learning(about.labels, probs, more, **settings)
    two = confident_learning(about.labels, about.out_of_fold_probs, task, **settings)
    pd.testing.assert_frame_equal(three, two)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"filter_by": "guess"}, "filter.confident_learning.filter_by=guess: want prune_by_noise_rate"),
        ({"frac_noise": 2}, "filter.confident_learning.frac_noise=2"),
        ({"min_examples_per_class": 0}, "filter.confident_learning.min_examples_per_class=0"),
    ],
)
def test_confident_learning_refuses_what_it_can_not_do(task: Task, change: dict[str, Any], told: str) -> None:
    with made.refused(told):
        ask(CASES["confident_learning both"] | change, made.usual_evidence(task))


def slow_share(about: Evidence, item: str, k: int, weighted: bool) -> float:
    vectors, labels = about.embeddings, about.labels["label"]
    near = (vectors @ vectors.loc[item]).drop(item).nlargest(k).index
    weight = 1 / labels.map(labels.value_counts()) if weighted else pd.Series(1.0, labels.index)
    return float(weight[near][labels[near] == labels[item]].sum() / weight[near].sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_knn_agreement_agrees_with_the_slow_reference(task: Task, weighted: bool) -> None:
    about = noisy(task)
    answer = knn_agreement(about.labels, about.embeddings, k=5, at_least=0.5, class_weighted=weighted)
    for item in about.labels.index[:25]:
        assert answer.loc[item, "score"] == pytest.approx(slow_share(about, item, 5, weighted))


def test_a_rare_class_is_not_outvoted_where_it_is_weighted(task: Task) -> None:
    index = pd.Index([f"i{k:03d}" for k in range(12)])
    labels = pd.DataFrame({"label": ["soe", "soe", *["other"] * 10]}, index=index)
    angle = np.linspace(0, 1, 12)
    vectors = pd.DataFrame({0: np.cos(angle), 1: np.sin(angle)}, index=index)
    plain = knn_agreement(labels, vectors, k=3, at_least=0.5, class_weighted=False)
    weighted = knn_agreement(labels, vectors, k=3, at_least=0.5, class_weighted=True)
    assert not plain["keep"][:2].any()
    assert weighted["keep"][:2].all()


def test_an_item_that_could_not_be_read_has_no_neighbours_and_is_none() -> None:
    index = pd.Index([f"i{k:03d}" for k in range(7)])
    labels = pd.DataFrame({"label": ["soe", "soe", "soe", "other", "other", "other", "soe"]}, index=index)
    angle = np.array([0.0, 0.1, 0.2, 1.3, 1.4, 1.5, 0.0])
    vectors = pd.DataFrame({0: np.cos(angle), 1: np.sin(angle)}, index=index)
    vectors.iloc[6] = 0.0
    answer = knn_agreement(labels, vectors, k=6, at_least=0.1, class_weighted=False)
    assert np.isnan(answer["score"].iloc[6])
    assert not answer["keep"].iloc[6]
    assert answer["score"].iloc[0] == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("k", "told"),
    [
        (0, "filter.knn_agreement.k=0: want a whole number from 1"),
        (2.5, "filter.it.k=2.5: want a whole number"),
        (True, "filter.it.k=True: want a whole number"),
    ],
)
def test_knn_agreement_wants_neighbours(task: Task, k: Any, told: str) -> None:
    with made.refused(told):
        ask(CASES["knn_agreement"] | {"k": k}, made.usual_evidence(task))
