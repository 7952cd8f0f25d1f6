import copy
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made

from silvertune import aggregation, filters
from silvertune.composition import bind_filters
from silvertune.evidence import BoundFilter, Evidence, decide
from silvertune.schema import Task

CONF = Path(__file__).parents[1] / "conf" / "filter"
AGREEMENT = {"agreement": {"_target_": "silvertune.filters.agreement", "over": "view", "at_least": 1.0}}
CASES: dict[str, dict[str, Any]] = {
    "none": {"_target_": "silvertune.filters.none"},
    "agreement": AGREEMENT["agreement"],
    "agreement of annotators": {"_target_": "silvertune.filters.agreement", "over": "annotator", "at_least": 0.5},
    "confidence top": {"_target_": "silvertune.filters.confidence", "top": 0.5, "at_least": None},
    "confidence at_least": {"_target_": "silvertune.filters.confidence", "top": None, "at_least": 0.75},
    "top_k_per_class": {
        "_target_": "silvertune.filters.top_k_per_class",
        "fraction": 0.5,
        "shares": {"other": 0.75, "soe": 0.25},
    },
    "top_k_per_class mixture": {
        "_target_": "silvertune.filters.top_k_per_class",
        "fraction": 0.5,
        "shares": "mixture",
    },
    "random_matched": {"_target_": "silvertune.filters.random_matched", "like": AGREEMENT, "per_class": False},
    "random_matched per class": {"_target_": "silvertune.filters.random_matched", "like": AGREEMENT, "per_class": True},
    "oracle": {"_target_": "silvertune.filters.oracle", "_gold_": True},
}
REFUSES_TO_GUESS = {"top_k_per_class mixture"}
"""A class of which fewer than two labels were given has no estimate of its share: a UserError, not a guess."""


def shipped() -> dict[str, dict[str, Any]]:
    return {name: node for file in CONF.glob("*.yaml") for name, node in yaml.safe_load(file.read_text()).items()}


def bound(node: dict[str, Any]) -> BoundFilter:
    return bind_filters({"it": node}, key="filter")[0]


def evidence(votes: pd.DataFrame, task: Task, n: int = 40, *, seed: int = 0) -> Evidence:
    """Evidence about `made.items(n)` with these votes; items that nobody voted on have a null label, as in a run."""
    items = made.items(n, task)
    labels = aggregation.majority(votes, task).reindex(items.index)
    labels["label"] = labels["label"].astype(object).where(labels["label"].notna(), None)
    labels["n_votes"] = labels["n_votes"].fillna(0).astype(int)
    return Evidence(items, votes, labels, task, made.gold(n, task), seed, lambda nodes: bind_filters(nodes, key="like"))


def usual(task: Task, *, null: float = 0.1, seed: int = 0) -> Evidence:
    votes = made.votes(made.items(40, task), made.gold(40, task), task, wrong=0.3, null=null)
    return evidence(votes, task, seed=seed)


def ask(node: dict[str, Any], about: Evidence) -> pd.DataFrame:
    """The filter's own answer, before `decide` looks at it."""
    it = bound(node)
    answer = it.function(**{name: getattr(about, name) for name in it.needs})
    return answer.to_frame("keep") if isinstance(answer, pd.Series) else answer


def shuffled(about: Evidence, seed: int) -> Evidence:
    return replace(
        about,
        items=about.items.sample(frac=1, random_state=seed),
        votes=about.votes.sample(frac=1, random_state=seed + 1),
        labels=about.labels.sample(frac=1, random_state=seed + 2),
        gold=about.gold.sample(frac=1, random_state=seed + 3),
    )


def kept(verdict: pd.DataFrame) -> set[str]:
    return set(verdict.index[verdict["keep"]])


def test_every_shipped_filter_has_a_case() -> None:
    assert {node["_target_"] for node in shipped().values()} == {node["_target_"] for node in CASES.values()}


def test_every_filter_that_asks_for_gold_says_so_and_no_other_does() -> None:
    for name, node in shipped().items():
        function = getattr(filters, node["_target_"].rpartition(".")[2])
        assert ("gold" in inspect.signature(function).parameters) == bool(node.get("_gold_")), name


# ---------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("node", CASES.values(), ids=list(CASES))
class TestContract:
    def test_the_answer_is_boolean_and_about_the_same_items(self, node: dict[str, Any], task: Task) -> None:
        about = usual(task)
        answer = ask(node, about)
        assert answer["keep"].dtype == bool
        assert answer.index.equals(about.labels.index)
        assert set(answer.columns) <= {"keep", "score", "weight", "reason"}
        assert 0 < answer["keep"].sum() <= len(answer)

    def test_it_is_deterministic(self, node: dict[str, Any], task: Task) -> None:
        pd.testing.assert_frame_equal(ask(node, usual(task)), ask(node, usual(task)))

    @pytest.mark.parametrize("seed", range(3))
    def test_the_order_of_the_rows_does_not_matter(self, node: dict[str, Any], task: Task, seed: int) -> None:
        about = usual(task)
        answer = ask(node, shuffled(about, seed))
        pd.testing.assert_frame_equal(answer.reindex(about.labels.index), ask(node, about))

    def test_it_does_not_change_its_evidence(self, node: dict[str, Any], task: Task) -> None:
        about = usual(task)
        before = copy.deepcopy((about.items, about.votes, about.labels, about.gold, about.task))
        ask(node, about)
        pd.testing.assert_frame_equal(about.items, before[0])
        pd.testing.assert_frame_equal(about.votes, before[1])
        pd.testing.assert_frame_equal(about.labels, before[2])
        pd.testing.assert_series_equal(about.gold, before[3])
        assert about.task == before[4]

    def test_an_item_without_a_label_is_never_kept(self, node: dict[str, Any], task: Task) -> None:
        about = usual(task, null=0.6)
        unlabelled = about.labels["label"].isna()
        assert unlabelled.sum() > 3
        verdict = decide([bound(node)], about)
        assert not verdict.loc[unlabelled, "keep"].any()
        assert verdict["keep"].any()

    def test_it_keeps_nothing_where_all_votes_are_null(self, node: dict[str, Any], task: Task) -> None:
        assert kept(decide([bound(node)], usual(task, null=1.0))) == set()

    def test_it_answers_where_there_is_one_class_only(
        self, node: dict[str, Any], request: pytest.FixtureRequest, task: Task
    ) -> None:
        rows = [{"item_id": item, "label": "soe", "confidence": 0.875} for item in made.items(40).index]
        about = evidence(made.votes_of(rows, task), task)
        if request.node.callspec.id in REFUSES_TO_GUESS:
            with made.refused("class shares", "'other'"):
                decide([bound(node)], about)
        else:
            verdict = decide([bound(node)], about)
            assert set(about.labels.loc[list(kept(verdict)), "label"]) == {"soe"}

    def test_it_answers_where_confidences_are_missing(self, node: dict[str, Any], task: Task) -> None:
        usually = usual(task, null=0.0)
        votes = usually.votes.assign(confidence=np.nan).drop(columns=["prob:other", "prob:soe"])
        about = replace(usually, votes=votes, labels=usually.labels.assign(confidence=np.nan))
        verdict = decide([bound(node)], about)
        assert verdict["keep"].dtype == bool
        assert verdict.index.equals(about.labels.index)


@pytest.mark.parametrize("n", [0, 40])
@pytest.mark.parametrize("name", CASES)
def test_it_keeps_nothing_where_nobody_voted(name: str, n: int, task: Task) -> None:
    verdict = decide([bound(CASES[name])], evidence(made.votes_of([], task), task, n=n))
    assert len(verdict) == n
    assert kept(verdict) == set()


# ------------------------------------------------------------------------------------------------------- agreement


def slow_agreement(votes: pd.DataFrame, item: str, over: str, label: str | None) -> float:
    """The share of the values of `over` all of whose votes gave the item's label, by counting on the fingers."""
    own = votes[votes["item_id"] == item]
    behind = [set(own.loc[own[over] == value, "label"]) == {label} for value in own[over].unique()]
    return sum(behind) / len(behind) if behind and label is not None else 0.0


VOTE = st.tuples(
    st.sampled_from(["i000", "i001", "i002"]),
    st.sampled_from(["ann", "bob", "cy"]),
    st.sampled_from(["json", "text"]),
    st.sampled_from([*made.COLOURS.classes, None]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(VOTE, min_size=1, max_size=16), st.sampled_from(["view", "annotator", "repeat"]), st.integers(0, 6))
def test_agreement_agrees_with_the_slow_reference(
    cast: list[tuple[str, str, str, str | None]], over: str, sixths: int
) -> None:
    rows = [
        {"item_id": item, "annotator": annotator, "view": view, "label": label, "repeat": k % 3}
        for k, (item, annotator, view, label) in enumerate(cast)
    ]
    about = evidence(made.votes_of(rows, made.COLOURS), made.COLOURS, n=4)
    answer = filters.agreement(about.votes, about.labels, over=over, at_least=sixths / 6)
    for item in about.labels.index:
        share = slow_agreement(about.votes, item, over, about.labels.at[item, "label"])
        assert answer.loc[item, "score"] == pytest.approx(share)
        assert answer.loc[item, "keep"] == (share >= sixths / 6 - 1e-9)


def test_a_view_that_could_not_be_read_counts_against_the_item(task: Task) -> None:
    rows = [
        {"item_id": "i000", "view": "json", "label": "soe"},
        {"item_id": "i000", "view": "text", "label": None},
        {"item_id": "i001", "view": "json", "label": "soe"},
    ]
    about = evidence(made.votes_of(rows, task), task, n=2)
    assert kept(filters.agreement(about.votes, about.labels, over="view", at_least=1.0)) == {"i001"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"over": "model"}, "filter.agreement.over='model': want view, annotator or repeat"),
        ({"at_least": 80}, "filter.agreement.at_least=80: want a number from 0 to 1"),
        ({"at_least": float("nan")}, "filter.agreement.at_least=nan"),
    ],
)
def test_agreement_refuses_what_it_can_not_do(task: Task, change: dict[str, Any], told: str) -> None:
    with made.refused(told):
        decide([bound(CASES["agreement"] | change)], usual(task))


# ------------------------------------------------------------------------------------------------------ confidence


def labels_of(confidences: list[float | None], label: str | None = "soe") -> pd.DataFrame:
    index = pd.Index([f"i{k:03d}" for k in range(len(confidences))], name="item_id")
    return pd.DataFrame({"label": label, "confidence": confidences, "n_votes": 1}, index=index).astype(
        {"confidence": float, "label": object}
    )


def test_confidence_at_least_keeps_the_threshold_itself_and_nothing_without_a_confidence() -> None:
    answer = filters.confidence(labels_of([0.5, 0.75, 0.875, None]), at_least=0.75, top=None)
    assert answer["keep"].tolist() == [False, True, True, False]


def test_confidence_top_keeps_the_most_confident_fraction() -> None:
    answer = filters.confidence(labels_of([0.1, 0.9, 0.3, 0.7]), at_least=None, top=0.5)
    assert answer["keep"].tolist() == [False, True, False, True]


def test_confidence_top_keeps_all_ties_at_the_cut() -> None:
    answer = filters.confidence(labels_of([0.9, 0.5, 0.5, 0.5, 0.1]), at_least=None, top=0.4)
    assert answer["keep"].tolist() == [True, True, True, True, False]


def test_confidence_top_is_a_fraction_of_the_labels_that_have_a_confidence() -> None:
    labels = pd.concat([labels_of([0.1, 0.9, None, None]), labels_of([0.95], label=None).rename(index={"i000": "z"})])
    assert kept(filters.confidence(labels, at_least=None, top=0.5)) == {"i001"}


@pytest.mark.parametrize("top", [0.0, 1.0])
def test_confidence_top_at_its_ends_keeps_nothing_and_everything(top: float) -> None:
    assert filters.confidence(labels_of([0.1, 0.9]), at_least=None, top=top)["keep"].tolist() == [bool(top)] * 2


def test_confidence_top_keeps_seven_of_a_hundred_at_seven_percent() -> None:
    labels = labels_of([k / 100 for k in range(100)])
    assert filters.confidence(labels, at_least=None, top=0.07)["keep"].sum() == 7


def test_confidence_wants_one_of_its_two() -> None:
    with made.refused("filter.confidence.at_least=null", "set one"):
        filters.confidence(labels_of([0.5]), at_least=None, top=None)


def test_confidence_goes_by_at_least_where_it_is_set() -> None:
    answer = filters.confidence(labels_of([0.2, 0.6, 0.9]), at_least=0.8, top=1.0)
    assert answer["keep"].tolist() == [False, False, True]


@pytest.mark.parametrize("name", ["at_least", "top"])
@pytest.mark.parametrize("value", [-0.1, 1.1, 50, float("nan")])
def test_confidence_wants_a_number_from_zero_to_one(name: str, value: float) -> None:
    with made.refused(f"filter.confidence.{name}={value}", "from 0 to 1"):
        filters.confidence(labels_of([0.5]), **({"at_least": None, "top": None} | {name: value}))


# ------------------------------------------------------------------------------------------------- top_k_per_class


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, None]), st.integers(1, 8)), max_size=30),
    st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    st.sampled_from([(0.5, 0.25, 0.25), (0.125, 0.125, 0.75), (1 / 3, 1 / 3, 1 / 3)]),
)
def test_top_k_keeps_the_best_of_each_class_in_the_given_proportions(
    cast: list[tuple[int | None, int]], fraction: float, shares: tuple[float, float, float]
) -> None:
    task = made.COLOURS
    rows = [
        {"item_id": f"i{k:03d}", "label": None if which is None else task.classes[which], "confidence": sure / 8}
        for k, (which, sure) in enumerate(cast)
    ]
    about = evidence(made.votes_of(rows, task), task, n=len(cast))
    answer = filters.top_k_per_class(
        about.votes, about.labels, task, fraction=fraction, shares=dict(zip(task.classes, shares, strict=True))
    )
    labelled = sum(which is not None for which, _ in cast)
    for which, share in enumerate(shares):
        own = {f"i{k:03d}": sure for k, (label, sure) in enumerate(cast) if label == which}
        chosen = kept(answer) & set(own)
        assert len(chosen) == min(len(own), round(fraction * share * labelled))
        # Nothing that was left out is surer than what was taken, and ties go to the lower item_id.
        worst = max(((-own[item], item) for item in chosen), default=None)
        assert worst is None or all((-own[item], item) > worst for item in set(own) - chosen)
    assert not kept(answer) - set(about.labels.index[about.labels["label"].notna()])


def test_top_k_ranks_by_the_mean_distribution_and_not_by_the_votes_that_won(task: Task) -> None:
    def votes(item: str, first: float, second: float) -> list[dict[str, object]]:
        return [
            {"item_id": item, "view": view, "label": "soe" if p > 0.5 else "other", "confidence": max(p, 1 - p)}
            for view, p in (("json", first), ("text", second))
        ]

    rows = [*votes("i000", 1.0, 0.25), *votes("i001", 0.75, 0.75)]
    table = made.votes_of(rows, task)
    labels = aggregation.any_view(table, task)
    answer = filters.top_k_per_class(table, labels, task, fraction=1.0, shares={"soe": 0.5, "other": 0.5})
    assert kept(answer) == {"i001"}


@pytest.mark.parametrize("seed", range(3))
def test_top_k_breaks_ties_by_item_whatever_order_the_items_came_in(task: Task, seed: int) -> None:
    rows = [{"item_id": f"i{k:03d}", "label": "soe", "confidence": 0.75} for k in range(8)]
    about = shuffled(evidence(made.votes_of(rows, task), task, n=8), seed)
    answer = filters.top_k_per_class(about.votes, about.labels, task, fraction=0.75, shares={"soe": 0.5, "other": 0.5})
    assert kept(answer) == {"i000", "i001", "i002"}


def test_top_k_by_mixture_keeps_each_class_by_its_share(task: Task) -> None:
    rng = np.random.default_rng(0)
    sure = 1 / (1 + np.exp(-np.concatenate([rng.normal(3, 0.4, 60), rng.normal(-3, 0.4, 140)])))
    rows = [
        {"item_id": f"i{k:03d}", "label": "soe" if p > 0.5 else "other", "confidence": max(p, 1 - p)}
        for k, p in enumerate(sure)
    ]
    about = evidence(made.votes_of(rows, task), task, n=200)
    answer = filters.top_k_per_class(about.votes, about.labels, task, fraction=0.5, shares="mixture")
    counts = about.labels.loc[sorted(kept(answer)), "label"].value_counts()
    assert counts.to_dict() == {"other": 70, "soe": 30}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shares": "guess"}, "filter.top_k_per_class.shares='guess': want `mixture` or a share for each of other"),
        ({"shares": {"soe": 1.0}}, "filter.top_k_per_class.shares="),
        ({"shares": {"soe": 0.5, "other": 0.6}}, "sum to 1"),
        ({"fraction": 2}, "filter.top_k_per_class.fraction=2"),
    ],
)
def test_top_k_refuses_what_it_can_not_do(task: Task, change: dict[str, Any], told: str) -> None:
    with made.refused(told):
        decide([bound(CASES["top_k_per_class"] | change)], usual(task))


# ----------------------------------------------------------------------------------------------------- the controls


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("per_class", [False, True])
def test_random_matched_keeps_exactly_as_many_as_the_other(task: Task, per_class: bool, seed: int) -> None:
    about = usual(task, seed=seed)
    like = decide(bind_filters(AGREEMENT, key="filter"), about)
    control = decide([bound(CASES["random_matched"] | {"per_class": per_class})], about)
    assert control["keep"].sum() == like["keep"].sum() > 0
    if per_class:
        before, after = (about.labels.loc[verdict["keep"], "label"].value_counts() for verdict in (like, control))
        assert before.to_dict() == after.to_dict()


def test_random_matched_draws_by_the_seed(task: Task) -> None:
    drawn = [kept(decide([bound(CASES["random_matched"])], usual(task, seed=seed))) for seed in range(5)]
    assert len(set(map(frozenset, drawn))) > 1


def test_random_matched_draws_every_item_alike(task: Task) -> None:
    """Over many seeds each labelled item is kept about as often, whatever the other filter thinks of it."""
    about = usual(task)
    times = sum(
        decide([bound(CASES["random_matched"])], replace(about, seed=seed))["keep"].astype(int) for seed in range(200)
    )
    labelled = about.labels["label"].notna()
    rate = decide(bind_filters(AGREEMENT, key="filter"), about)["keep"].sum() / labelled.sum()
    assert (abs(times[labelled] / 200 - rate) < 5 * np.sqrt(rate * (1 - rate) / 200)).all()


def test_random_matched_can_be_like_a_chain(task: Task) -> None:
    about = usual(task)
    chain = AGREEMENT | {"confidence": CASES["confidence top"]}
    wanted = decide(bind_filters(chain, key="filter"), about)["keep"].sum()
    control = decide([bound(CASES["random_matched"] | {"like": chain})], about)
    assert control["keep"].sum() == wanted < about.labels["label"].notna().sum()


def test_random_matched_of_a_filter_that_keeps_nothing_keeps_nothing(task: Task) -> None:
    nothing = {"confidence": {"_target_": "silvertune.filters.confidence", "at_least": 1.0, "top": None}}
    about = replace(usual(task), labels=usual(task).labels.assign(confidence=0.5))
    for per_class in (False, True):
        node = CASES["random_matched"] | {"like": nothing, "per_class": per_class}
        assert kept(decide([bound(node)], about)) == set()


def test_the_oracle_keeps_exactly_the_right_labels(task: Task) -> None:
    about = usual(task)
    right = about.labels["label"] == about.gold
    assert kept(decide([bound(CASES["oracle"])], about)) == set(right.index[right])


def test_the_oracle_drops_labels_without_gold(task: Task) -> None:
    about = usual(task, null=0.0)
    about = replace(about, gold=about.gold.drop("i000"))
    assert "i000" not in kept(decide([bound(CASES["oracle"])], about))


def test_none_keeps_every_label(task: Task) -> None:
    about = usual(task)
    assert kept(decide([bound(CASES["none"])], about)) == set(about.labels.index[about.labels["label"].notna()])
