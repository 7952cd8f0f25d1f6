import pytest
from tests import made
from tests.filters.test_contract import AGREEMENT, CASES, QUANTILE, bound, kept

from silvertune.composition import bind_filters
from silvertune.evidence.evidence import decide
from silvertune.schema import Task


@pytest.mark.parametrize(("name", "joined"), [("any_of", set.union), ("all_of", set.intersection)])
def test_it_keeps_the_union_or_the_intersection(task: Task, name: str, joined: object) -> None:
    about = made.usual_evidence(task)
    alone = [kept(decide(bind_filters(node, key="filter"), about)) for node in (AGREEMENT, QUANTILE)]
    assert alone[0] - alone[1]
    assert alone[1] - alone[0]
    assert kept(decide([bound(CASES[name])], about)) == joined(*alone)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["any_of", "all_of"])
def test_of_nothing_is_refused(task: Task, name: str) -> None:
    with made.refused(f"filter.{name}.of: names no filter"):
        decide([bound(CASES[name] | {"of": {}})], made.usual_evidence(task))


def test_a_mistake_in_one_of_them_is_told_when_it_is_bound() -> None:
    node = {"_target_": "silvertune.filters.agreement", "over": "view"}
    with made.refused("filter.it.of.agreement.at_least", "needs it"):
        bound(CASES["any_of"] | {"of": {"agreement": node}})
