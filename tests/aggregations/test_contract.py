import itertools
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests import docstrings, made

from silvertune import aggregations
from silvertune.schema import Task

CONF = Path(__file__).parents[2] / "conf" / "aggregation"
CASES: dict[str, Callable[[pd.DataFrame, Task], pd.DataFrame]] = {
    "silvertune.aggregations.any_view": aggregations.any_view,
    "silvertune.aggregations.all_views": aggregations.all_views,
    "silvertune.aggregations.majority": aggregations.majority,
    "silvertune.aggregations.first": aggregations.first,
    "silvertune.aggregations.weighted_majority": partial(aggregations.weighted_majority, weights="agreement"),
    "silvertune.aggregations.dawid_skene": partial(aggregations.dawid_skene, n_iter=5),
    "silvertune.aggregations.and_relabel": lambda votes, task: aggregations.and_relabel(
        votes, task, negative=task.classes[0]
    ),
    "silvertune.aggregations.mean_distribution": aggregations.mean_distribution,
}
SOFT = {"silvertune.aggregations.dawid_skene", "silvertune.aggregations.mean_distribution"}
CONFIDENCE_OF_A_VOTE = {f"silvertune.aggregations.{name}" for name in ("any_view", "all_views", "first", "and_relabel")}
READS_THE_ORDER = {"silvertune.aggregations.first"}
POSITIVE_OF_THREE = Task(name="colours", classes=["red", "green", "blue"], positive="green")

Cast = list[tuple[str, str | None, int | None]]


def table(cast: Cast, task: Task) -> pd.DataFrame:
    """Votes from (item, label, confidence in eighths): eighths, so that sums are exact in any order."""
    rows = [
        {
            "item_id": item,
            "label": label,
            "confidence": None if sure is None else sure / 8,
            "repeat": k,
            "annotator": ("ann", "bob")[k % 2],
        }
        for k, (item, label, sure) in enumerate(cast)
    ]
    return made.votes_of(rows, task)


def casts(task: Task) -> st.SearchStrategy[Cast]:
    """Votes on eight items: an example of eight takes little more time than one of a single item."""
    sure = st.one_of(st.none(), st.integers(0, 8))
    vote = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([*task.classes, None]), sure)
    return st.lists(vote, min_size=7, max_size=40)


def columns(name: str, task: Task) -> list[str]:
    return ["label", "confidence", "n_votes", *(f"prob:{each}" for each in task.classes if name in SOFT)]


@pytest.mark.parametrize("name", aggregations.__all__)
def test_its_docstring_has_all_that_the_catalogue_shows(name: str) -> None:
    assert docstrings.gaps(getattr(aggregations, name)) == []
    assert "\nConfidence: " in str(getattr(aggregations, name).__doc__).replace("    ", "")


def test_every_shipped_aggregation_has_a_case() -> None:
    shipped = {yaml.safe_load(file.read_text())["_target_"] for file in CONF.glob("*.yaml")}
    assert shipped == set(CASES)


# ---------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", CASES)
class TestContract:
    @settings(max_examples=10, deadline=None)
    @given(casts(POSITIVE_OF_THREE))
    def test_labels_have_the_documented_form(self, name: str, cast: Cast) -> None:
        votes = table(cast, POSITIVE_OF_THREE)
        labels = CASES[name](votes, POSITIVE_OF_THREE)
        assert list(labels.columns) == columns(name, POSITIVE_OF_THREE)
        assert labels.index.name == "item_id"
        assert sorted(labels.index) == sorted({item for item, _, _ in cast})
        counted = Counter(item for item, label, _ in cast if label is not None)
        assert labels["n_votes"].to_dict() == {item: counted[item] for item in labels.index}
        probs = labels.filter(like="prob:")
        assert probs[labels["n_votes"] > 0].sum(axis=1).to_numpy() == pytest.approx(float(name in SOFT))
        assert probs[labels["n_votes"] == 0].isna().all(axis=None)
        for item, label, confidence, n_votes in labels[["label", "confidence", "n_votes"]].itertuples():
            if n_votes == 0:
                assert label is None
                assert np.isnan(confidence)
            else:
                assert label in POSITIVE_OF_THREE.classes
                unsure = any(sure is None for other, said, sure in cast if other == item and said is not None)
                assert 0 <= confidence <= 1 or (unsure and name in CONFIDENCE_OF_A_VOTE)

    @settings(max_examples=10, deadline=None)
    @given(casts(POSITIVE_OF_THREE), st.integers(0, 99))
    def test_the_order_of_the_votes_does_not_matter(self, name: str, cast: Cast, seed: int) -> None:
        if name in READS_THE_ORDER:
            return
        votes = table(cast, POSITIVE_OF_THREE)
        shuffled = votes.sample(frac=1, random_state=seed)
        again = CASES[name](shuffled, POSITIVE_OF_THREE)
        pd.testing.assert_frame_equal(CASES[name](votes, POSITIVE_OF_THREE), again, check_like=True)

    @settings(max_examples=10, deadline=None)
    @given(casts(POSITIVE_OF_THREE))
    def test_null_votes_change_nothing(self, name: str, cast: Cast) -> None:
        aggregate = CASES[name]
        votes = table(cast, POSITIVE_OF_THREE)
        labelled = aggregate(votes[votes["label"].notna()], POSITIVE_OF_THREE)
        both = aggregate(votes, POSITIVE_OF_THREE)
        pd.testing.assert_frame_equal(labelled, both.loc[labelled.index])

    def test_it_neither_changes_the_votes_nor_remembers_them(self, name: str, task: Task) -> None:
        data = made.data()
        votes = made.votes(data.items, data.gold, wrong=0.3, null=0.2)
        before = votes.copy(deep=True)
        once, twice = CASES[name](votes, task), CASES[name](votes, task)
        pd.testing.assert_frame_equal(votes, before)
        pd.testing.assert_frame_equal(once, twice)

    def test_no_votes_are_no_labels(self, name: str, task: Task) -> None:
        labels = CASES[name](made.votes_of([], task), task)
        assert list(labels.columns) == columns(name, task)
        assert labels.empty

    def test_null_votes_only_are_null_labels(self, name: str, task: Task) -> None:
        labels = CASES[name](made.votes_of([{"item_id": "a", "label": None}], task), task)
        assert labels.loc["a", "label"] is None
        assert np.isnan(labels.loc["a", "confidence"])

    def test_votes_that_agree_give_their_label(self, name: str, task: Task) -> None:
        for label in task.classes:
            rows = [{"item_id": "a", "view": view, "label": label, "confidence": 1.0} for view in ("json", "text")]
            labels = CASES[name](made.votes_of(rows, task), task)
            told = labels.loc["a", ["label", "confidence", "n_votes"]].to_dict()
            assert told == {"label": label, "confidence": 1.0, "n_votes": 2}


# ------------------------------------------------------------------------- each against a slow, obvious reference


Own = list[tuple[str, Fraction | None]]
"""Label and confidence of an item's votes."""


def known(own: Own) -> list[Fraction]:
    return [confidence for _, confidence in own if confidence is not None]


def modal(own: Own, task: Task) -> str:
    """The most frequent label; ties go to the higher summed confidence, then to the class listed first."""

    def rank(name: str) -> tuple[int, Fraction, int]:
        sure = [Fraction(1) if confidence is None else confidence for label, confidence in own if label == name]
        return len(sure), sum(sure, Fraction(0)), -task.classes.index(name)

    return max((name for name in task.classes), key=rank)


def slow_any_view(own: Own, task: Task) -> tuple[str, Fraction | None]:
    positive = [(label, confidence) for label, confidence in own if label == task.positive]
    if positive:
        return str(task.positive), max(known(positive), default=None)
    return modal(own, task), min(known(own), default=None)


def slow_all_views(own: Own, task: Task) -> tuple[str, Fraction | None]:
    against = [(label, confidence) for label, confidence in own if label != task.positive]
    if not against:
        return str(task.positive), min(known(own), default=None)
    return modal(against, task), max(known(against), default=None)


def slow_majority(own: Own, task: Task) -> tuple[str, Fraction | None]:
    winner = modal(own, task)
    return winner, Fraction(sum(label == winner for label, _ in own), len(own))


def slow_first(own: Own, task: Task) -> tuple[str, Fraction | None]:
    return own[0]


@pytest.mark.parametrize("task", [made.SOE, POSITIVE_OF_THREE], ids=["two", "three"])
@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (aggregations.any_view, slow_any_view),
        (aggregations.all_views, slow_all_views),
        (aggregations.majority, slow_majority),
        (aggregations.first, slow_first),
    ],
)
def test_it_agrees_with_the_slow_reference(fast, slow, task: Task) -> None:  # type: ignore[no-untyped-def]
    @settings(max_examples=10, deadline=None)
    @given(casts(task))
    @example([("a", task.classes[0], 0), ("a", task.classes[1], 0)])
    def check(cast: Cast) -> None:
        labels = fast(table(cast, task), task)
        for item, mine in itertools.groupby(sorted(cast, key=lambda vote: vote[0]), key=lambda vote: vote[0]):
            own = [(label, None if sure is None else Fraction(sure, 8)) for _, label, sure in mine if label is not None]
            if not own:
                assert labels.loc[item, "label"] is None
                continue
            want, confidence = slow(own, task)
            assert labels.loc[item, "label"] == want
            told = np.nan if confidence is None else float(confidence)
            assert labels.loc[item, "confidence"] == pytest.approx(told, nan_ok=True)

    check()


# ------------------------------------------------------------------------------------------------------ by example


def test_one_positive_view_is_enough_for_any_view(task: Task) -> None:
    rows = [
        {"item_id": "a", "view": "json", "label": "other", "confidence": 0.9},
        {"item_id": "a", "view": "text", "label": "soe", "confidence": 0.6},
    ]
    assert aggregations.any_view(made.votes_of(rows, task), task).loc["a"].tolist() == ["soe", 0.6, 2]
    assert aggregations.all_views(made.votes_of(rows, task), task).loc["a"].tolist() == ["other", 0.9, 2]


def test_a_majority_tie_goes_to_the_more_confident_and_then_to_the_class_listed_first(task: Task) -> None:
    sure = [
        {"item_id": "a", "view": "json", "label": "other", "confidence": 0.25},
        {"item_id": "a", "view": "text", "label": "soe", "confidence": 0.5},
    ]
    assert aggregations.majority(made.votes_of(sure, task), task).loc["a", "label"] == "soe"
    even = [row | {"confidence": 0.5} for row in sure]
    assert aggregations.majority(made.votes_of(even, task), task).loc["a", "label"] == "other"
    backwards = Task(name="soe", classes=["soe", "other"], positive="soe")
    assert aggregations.majority(made.votes_of(even, backwards), backwards).loc["a", "label"] == "soe"


def test_a_tie_in_confidence_does_not_depend_on_the_order_in_which_it_is_summed(task: Task) -> None:
    """0.64 + 0.51 + 0.65 is not 0.65 + 0.51 + 0.64 in floating point, and is a tie all the same."""
    rows = [
        {"item_id": "a", "annotator": f"{label}{k}", "label": label, "confidence": sure}
        for label, confidences in (("other", (0.64, 0.51, 0.65)), ("soe", (0.65, 0.51, 0.64)))
        for k, sure in enumerate(confidences)
    ]
    assert aggregations.majority(made.votes_of(rows, task), task).loc["a", "label"] == "other"


def test_the_first_vote_with_a_label_is_the_first_of_the_table(task: Task) -> None:
    rows = [
        {"item_id": "a", "annotator": "one", "label": None},
        {"item_id": "a", "annotator": "two", "label": "soe", "confidence": 0.25},
        {"item_id": "a", "annotator": "three", "label": "other"},
    ]
    assert aggregations.first(made.votes_of(rows, task), task).loc["a"].tolist() == ["soe", 0.25, 2]
    turned = aggregations.first(made.votes_of(rows[::-1], task), task).loc["a"]
    assert turned["label"] == "other"
    assert np.isnan(turned["confidence"])


@pytest.mark.parametrize("name", ["any_view", "all_views"])
def test_views_can_not_be_joined_without_a_positive_class(colours: Task, name: str) -> None:
    with made.refused(f"aggregation={name}", "task.positive", "'colours'", "aggregation=majority"):
        getattr(aggregations, name)(made.votes_of([], colours), colours)


def jury(**cast: str) -> pd.DataFrame:
    """Annotator -> its labels of items a, b, c, ...; r, g, b for the colours, a dot for none."""
    names = {"r": "red", "g": "green", "b": "blue", ".": None}
    rows = [
        {"item_id": "abcdefgh"[k], "annotator": who, "label": names[letter]}
        for who, letters in cast.items()
        for k, letter in enumerate(letters)
    ]
    return made.votes_of(rows, made.COLOURS)


def test_a_given_weight_counts_for_its_annotator(colours: Task) -> None:
    votes = jury(ann="r", bob="g", cy="g")
    labels = aggregations.weighted_majority(votes, colours, weights={"ann": 3, "bob": 1, "cy": 1})
    assert labels.loc["a"].tolist() == ["red", 0.6, 3]
    labels = aggregations.weighted_majority(votes, colours, weights={"ann": 0, "bob": 0, "cy": 0})
    assert labels.loc["a", "label"] == "green"


def test_weights_by_agreement_are_those_of_wawa(colours: Task) -> None:
    from crowdkit.aggregation import Wawa  # takes seconds to import

    rng = np.random.default_rng(0)
    true = rng.choice(list("rg"), 8)  # two classes and five annotators: no ties, which Wawa breaks in its own way
    cast = {
        f"w{k}": "".join(np.where(rng.random(8) < p, true, rng.choice(list("rg"), 8)))
        for k, p in enumerate((0.9, 0.8, 0.7, 0.3, 0.2))
    }
    votes = jury(**cast)
    skills = Wawa().fit(votes.rename(columns={"item_id": "task", "annotator": "worker"})).skills_
    weight = votes["annotator"].map(skills)
    wawa = weight.groupby([votes["item_id"], votes["label"]]).sum().unstack(fill_value=0.0)
    wawa = wawa.div(wawa.sum(axis=1), axis=0)
    labels = aggregations.weighted_majority(votes, colours, weights="agreement")
    assert labels["confidence"].to_dict() == pytest.approx(wawa.max(axis=1).to_dict())
    assert labels["label"].to_dict() == wawa.idxmax(axis=1).to_dict()


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("skill", "aggregation.weights='skill': want `agreement` or a weight"),
        ({"ann": 1}, "no weight for annotator 'bob'"),
        ({"ann": 1, "bob": -1}, "aggregation.weights.bob=-1: want a number from 0"),
    ],
)
def test_weights_that_are_none_are_told(colours: Task, weights: object, told: str) -> None:
    with made.refused(told):
        aggregations.weighted_majority(jury(ann="r", bob="g"), colours, weights=weights)  # type: ignore[arg-type]


def test_dawid_skene_finds_the_annotator_who_is_worth_hearing(colours: Task) -> None:
    """Two agree with each other by chance only; ann, cy and dee are right nearly always."""
    votes = jury(ann="rgbrgbrg", cy="rgbrgbrb", dee="rgbrgrrg", bob="grrbbgbb", eve="bbggrrgb")
    labels = aggregations.dawid_skene(votes, colours, n_iter=100)
    assert "".join(name[0] for name in labels["label"]) == "rgbrgbrg"
    assert labels.filter(like="prob:").sum(axis=1).to_numpy() == pytest.approx(1.0)


@pytest.mark.parametrize("n_iter", [1, 100])
def test_dawid_skene_is_that_of_crowd_kit(colours: Task, n_iter: int) -> None:
    """Annotators of different skill; one of them votes twice on a view; each leaves items out."""
    from crowdkit.aggregation import DawidSkene  # takes seconds to import

    rng = np.random.default_rng(0)
    skills = {("a", "v", 0): 0.95, ("b", "v", 0): 0.9, ("b", "v", 1): 0.9, ("b", "w", 0): 0.6}
    rows = [
        {"item_id": f"i{item}", "annotator": who, "view": view, "repeat": repeat, "label": str(label)}
        for item, true in enumerate(rng.choice(colours.classes, 20))
        for (who, view, repeat), skill in skills.items()
        for label in [true if rng.random() < skill else rng.choice(colours.classes)]
        if rng.random() < 0.8
    ]
    votes = made.votes_of(rows, colours)
    labels = aggregations.dawid_skene(votes, colours, n_iter=n_iter)
    table = pd.DataFrame(
        {"task": votes["item_id"], "worker": votes["annotator"] + votes["view"], "label": votes["label"]}
    )
    theirs = DawidSkene(n_iter=n_iter).fit_predict_proba(table).add_prefix("prob:")
    assert len(theirs.columns) == 3
    np.testing.assert_allclose(labels.loc[theirs.index, theirs.columns], theirs, rtol=0, atol=1e-12)


def test_dawid_skene_of_one_annotator_is_the_majority(colours: Task) -> None:
    rows = [{"item_id": "a", "repeat": k, "label": name} for k, name in enumerate(["red", "red", "blue"])]
    votes = made.votes_of(rows, colours)
    labels = aggregations.dawid_skene(votes, colours, n_iter=100)
    assert labels.loc["a", "label"] == "red"
    assert labels.loc["a", ["prob:red", "prob:green", "prob:blue"]].tolist() == pytest.approx([2 / 3, 0, 1 / 3])


def test_disagreements_become_negative(colours: Task) -> None:
    votes = jury(ann="rgb.", bob="rgg.", cy=".gr.")
    labels = aggregations.and_relabel(votes, colours, negative="red")["label"]
    assert labels.to_dict() == {"a": "red", "b": "green", "c": "red", "d": None}


@settings(max_examples=10, deadline=None)
@given(casts(made.SOE))
def test_with_two_classes_and_relabel_is_all_views(cast: Cast) -> None:
    votes = table(cast, made.SOE)
    pd.testing.assert_frame_equal(
        aggregations.and_relabel(votes, made.SOE, negative=None), aggregations.all_views(votes, made.SOE)
    )


def test_and_relabel_has_to_know_the_negative_class(colours: Task) -> None:
    with made.refused("aggregation.negative=null", "red, green, blue"):
        aggregations.and_relabel(jury(ann="r"), colours, negative=None)
    with made.refused("aggregation.negative=black"):
        aggregations.and_relabel(jury(ann="r"), colours, negative="black")


def test_the_mean_distribution_may_overrule_the_votes(task: Task) -> None:
    rows = [
        {"item_id": "a", "view": view, "label": label, "confidence": sure}
        for view, label, sure in (("x", "soe", 0.55), ("y", "soe", 0.55), ("z", "other", 0.95))
    ]
    labels = aggregations.mean_distribution(made.votes_of(rows, task), task)
    assert labels.loc["a", "label"] == "other"
    assert labels.loc["a", "prob:other"] == labels.loc["a", "confidence"] == pytest.approx((0.45 + 0.45 + 0.95) / 3)
