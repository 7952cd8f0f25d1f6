from dataclasses import replace

import numpy as np
import pytest
from tests import made
from tests.filters.test_contract import AGREEMENT, CASES, bound, kept

from silvertune.composition import bind_filters
from silvertune.evidence.evidence import decide
from silvertune.schema import Task


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("per_class", [False, True])
def test_random_matched_keeps_exactly_as_many_as_the_other(task: Task, per_class: bool, seed: int) -> None:
    about = made.usual_evidence(task, seed=seed)
    like = decide(bind_filters(AGREEMENT, key="filter"), about)
    control = decide([bound(CASES["random_matched"] | {"per_class": per_class})], about)
    assert control["keep"].sum() == like["keep"].sum() > 0
    if per_class:
        before, after = (about.labels.loc[verdict["keep"], "label"].value_counts() for verdict in (like, control))
        assert before.to_dict() == after.to_dict()


def test_random_matched_draws_by_the_seed(task: Task) -> None:
    drawn = [kept(decide([bound(CASES["random_matched"])], made.usual_evidence(task, seed=seed))) for seed in range(5)]
    assert len(set(map(frozenset, drawn))) > 1


def test_random_matched_draws_every_item_alike(task: Task) -> None:
    """Over many seeds each labelled item is kept about as often, whatever the other filter thinks of it."""
    about = made.usual_evidence(task)
    times = sum(
        decide([bound(CASES["random_matched"])], replace(about, seed=seed))["keep"].astype(int) for seed in range(200)
    )
    labelled = about.labels["label"].notna()
    rate = decide(bind_filters(AGREEMENT, key="filter"), about)["keep"].sum() / labelled.sum()
    assert (abs(times[labelled] / 200 - rate) < 5 * np.sqrt(rate * (1 - rate) / 200)).all()


def test_random_matched_can_be_like_a_chain(task: Task) -> None:
    about = made.usual_evidence(task)
    chain = AGREEMENT | {"confidence": CASES["confidence top"]}
    wanted = decide(bind_filters(chain, key="filter"), about)["keep"].sum()
    control = decide([bound(CASES["random_matched"] | {"like": chain})], about)
    assert control["keep"].sum() == wanted < about.labels["label"].notna().sum()


def test_random_matched_of_a_filter_that_keeps_nothing_keeps_nothing(task: Task) -> None:
    nothing = {"confidence": {"_target_": "silvertune.filters.confidence", "at_least": 1.0, "top": None}}
    about = replace(made.usual_evidence(task), labels=made.usual_evidence(task).labels.assign(confidence=0.5))
    for per_class in (False, True):
        node = CASES["random_matched"] | {"like": nothing, "per_class": per_class}
        assert kept(decide([bound(node)], about)) == set()


def test_the_oracle_keeps_exactly_the_right_labels(task: Task) -> None:
    about = made.usual_evidence(task)
    right = about.labels["label"] == about.gold
    assert kept(decide([bound(CASES["oracle"])], about)) == set(right.index[right])


def test_the_oracle_drops_labels_without_gold(task: Task) -> None:
    about = made.usual_evidence(task, null=0.0)
    about = replace(about, gold=about.gold.drop("i000"))
    assert "i000" not in kept(decide([bound(CASES["oracle"])], about))


def test_none_keeps_every_label(task: Task) -> None:
    about = made.usual_evidence(task)
    assert kept(decide([bound(CASES["none"])], about)) == set(about.labels.index[about.labels["label"].notna()])
