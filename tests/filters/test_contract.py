"""What every filter must do, whatever it goes by."""

import copy
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests import docstrings, made

from silvertune import aggregations, filters, import_path
from silvertune.composition import bind_filters
from silvertune.evidence.evidence import BoundFilter, Evidence, decide
from silvertune.part_inputs import GOLD
from silvertune.schema import Task

CONF = Path(__file__).parents[2] / "conf" / "filter"
AT = "silvertune.filters"
AGREEMENT = {"agreement": {"_target_": f"{AT}.agreement", "over": "view", "at_least": 1.0}}
QUANTILE = {"quantile_per_class": {"_target_": f"{AT}.quantile_per_class", "fraction": 0.4}}
EITHER = {"either": {"_target_": f"{AT}.any_of", "of": AGREEMENT | QUANTILE}}
TOP_K = {"_target_": f"{AT}.top_k_per_class", "fraction": 0.5}
CLEANLAB = {
    "_target_": f"{AT}.confident_learning",
    "frac_noise": 1.0,
    "min_examples_per_class": 1,
}
CARTOGRAPHY = {"_target_": f"{AT}.cartography", "fraction": 0.5, "per_class": True}
CALIBRATED = {"_target_": f"{AT}.calibrated_threshold", "_gold_": True, "precision": 0.7}
ITERATED = {"_target_": f"{AT}.iterated", "separation": 2.0, "rounds": 3, "settled": 0.005}
CASES: dict[str, dict[str, Any]] = {
    "none": {"_target_": f"{AT}.none"},
    "random_matched": {"_target_": f"{AT}.random_matched", "like": AGREEMENT, "per_class": False},
    "random_matched per class": {"_target_": f"{AT}.random_matched", "like": AGREEMENT, "per_class": True},
    "oracle": {"_target_": f"{AT}.oracle", "_gold_": True},
    "agreement": AGREEMENT["agreement"],
    "agreement of annotators": AGREEMENT["agreement"] | {"over": "annotator", "at_least": 0.5},
    "agreement weighted": AGREEMENT["agreement"] | {"at_least": 0.6, "weights": {"json": 1, "text": 2}},
    "k_of_n": {"_target_": f"{AT}.k_of_n", "over": "view", "k": 2},
    "confidence top": {"_target_": f"{AT}.confidence", "top": 0.5, "at_least": None},
    "confidence at_least": {"_target_": f"{AT}.confidence", "top": None, "at_least": 0.75},
    "margin": {"_target_": f"{AT}.margin", "top": 0.5, "at_least": None},
    "entropy": {"_target_": f"{AT}.entropy", "top": 0.5, "at_least": None},
    "confidence_weighted": {"_target_": f"{AT}.confidence_weighted", "floor": 0.1},
    "calibrated_threshold isotonic": CALIBRATED | {"method": "isotonic"},
    "calibrated_threshold temperature": CALIBRATED | {"method": "temperature"},
    "conformal": {"_target_": f"{AT}.conformal", "_gold_": True, "error": 0.3},
    "top_k_per_class": TOP_K | {"shares": {"other": 0.75, "soe": 0.25}},
    "top_k_per_class mixture": TOP_K | {"shares": "mixture"},
    "top_k_per_class saerens_em": TOP_K | {"shares": "saerens_em"},
    "top_k_per_class bbse": TOP_K | {"shares": "bbse"},
    "quantile_per_class": QUANTILE["quantile_per_class"],
    "iterated": ITERATED | {"agreed_only": False},
    "iterated agreed": ITERATED | {"agreed_only": True},
    **{
        f"confident_learning {filter_by}": CLEANLAB | {"filter_by": filter_by}
        for filter_by in (
            "prune_by_noise_rate",
            "prune_by_class",
            "both",
            "confident_learning",
            "predicted_neq_given",
            "low_normalized_margin",
            "low_self_confidence",
        )
    },
    "knn_agreement": {"_target_": f"{AT}.knn_agreement", "k": 5, "at_least": 0.5, "class_weighted": False},
    "knn_agreement weighted": {
        "_target_": f"{AT}.knn_agreement",
        "k": 5,
        "at_least": 0.5,
        "class_weighted": True,
    },
    "small_loss": {"_target_": f"{AT}.small_loss", "fraction": 0.6, "last_epoch": 2, "per_class": True},
    "small_loss of all": {
        "_target_": f"{AT}.small_loss",
        "fraction": 0.6,
        "last_epoch": None,
        "per_class": False,
    },
    "aum": {"_target_": f"{AT}.aum", "drop": 0.4, "per_class": True},
    "aum of all": {"_target_": f"{AT}.aum", "drop": 0.4, "per_class": False},
    **{f"cartography {region}": CARTOGRAPHY | {"region": region} for region in ("easy", "ambiguous")},
    "any_of": EITHER["either"],
    "all_of": {"_target_": f"{AT}.all_of", "of": AGREEMENT | QUANTILE},
    "all_of within any_of": {
        "_target_": f"{AT}.any_of",
        "of": QUANTILE | {"both": {"_target_": f"{AT}.all_of", "of": AGREEMENT | EITHER}},
    },
}
REFUSES_TO_GUESS = {f"top_k_per_class {shares}": "class shares" for shares in ("mixture", "saerens_em", "bbse")}
"""A class of which fewer than two labels were given has no estimate of its share: a UserError, not a guess."""
MAY_LOSE_A_CLASS = {"confidence at_least", "conformal", *(name for name in CASES if name.startswith("calibrated"))}
"""Those with a threshold: the run then fails, and says which class (tests/test_runner.py)."""


def shipped() -> dict[str, dict[str, Any]]:
    return {name: node for file in CONF.glob("*.yaml") for name, node in yaml.safe_load(file.read_text()).items()}


def bound(node: dict[str, Any]) -> BoundFilter:
    return bind_filters({"it": node}, key="filter")[0]


def ask(node: dict[str, Any], about: Evidence) -> pd.DataFrame:
    """The filter's own answer, before `decide` looks at it."""
    it = bound(node)
    answer = it.function(**{name: getattr(about, name) for name in it.needs})
    return answer.to_frame("keep") if isinstance(answer, pd.Series) else answer


def kept(verdict: pd.DataFrame) -> set[str]:
    return set(verdict.index[verdict["keep"]])


def test_every_shipped_filter_has_a_case() -> None:
    assert {node["_target_"] for node in shipped().values()} == {node["_target_"] for node in CASES.values()}


def test_every_filter_that_asks_for_gold_says_so_and_no_other_does() -> None:
    for name, node in shipped().items():
        needs = inspect.signature(import_path.imported(node["_target_"])).parameters
        assert any(gold in needs for gold in GOLD) == bool(node.get("_gold_")), name


@pytest.mark.parametrize("name", filters.__all__)
def test_its_docstring_has_all_that_the_catalogue_shows(name: str) -> None:
    assert docstrings.gaps(getattr(filters, name)) == []


@pytest.mark.parametrize("node", CASES.values(), ids=list(CASES))
class TestContract:
    def test_the_answer_is_boolean_and_about_the_same_items(self, node: dict[str, Any], task: Task) -> None:
        about = made.usual_evidence(task)
        answer = ask(node, about)
        assert answer["keep"].dtype == bool
        assert answer.index.equals(about.labels.index)
        assert set(answer.columns) <= {"keep", "score", "weight", "reason"}
        assert 0 < answer["keep"].sum() <= len(answer)

    def test_it_is_deterministic(self, node: dict[str, Any], task: Task) -> None:
        pd.testing.assert_frame_equal(ask(node, made.usual_evidence(task)), ask(node, made.usual_evidence(task)))

    def test_the_order_of_the_rows_does_not_matter(self, node: dict[str, Any], task: Task) -> None:
        about = made.usual_evidence(task)
        in_order = ask(node, about)
        for seed in range(3):
            answer = ask(node, made.shuffled(about, seed))
            pd.testing.assert_frame_equal(answer.reindex(about.labels.index), in_order)

    def test_it_does_not_change_its_evidence(self, node: dict[str, Any], task: Task) -> None:
        about = made.usual_evidence(task)
        before = copy.deepcopy((about.items, about.votes, about.labels, about.gold, about.task))
        ask(node, about)
        pd.testing.assert_frame_equal(about.items, before[0])
        pd.testing.assert_frame_equal(about.votes, before[1])
        pd.testing.assert_frame_equal(about.labels, before[2])
        pd.testing.assert_series_equal(about.gold, before[3])
        assert about.task == before[4]

    def test_an_item_without_a_label_is_never_kept(self, node: dict[str, Any], task: Task) -> None:
        about = made.usual_evidence(task, null=0.6)
        unlabelled = about.labels["label"].isna()
        assert unlabelled.sum() > 3
        verdict = decide([bound(node)], about)
        assert not verdict.loc[unlabelled, "keep"].any()
        assert verdict["keep"].any()

    def test_it_keeps_nothing_where_all_votes_are_null(self, node: dict[str, Any], task: Task) -> None:
        assert kept(decide([bound(node)], made.usual_evidence(task, null=1.0))) == set()

    def test_it_answers_where_there_is_one_class_only(
        self, node: dict[str, Any], request: pytest.FixtureRequest, task: Task
    ) -> None:
        each = [(item, view) for item in made.items(40).index for view in ("json", "text")]
        rows = [{"item_id": item, "view": view, "label": "soe", "confidence": 0.875} for item, view in each]
        about = made.evidence(made.votes_of(rows, task), task, calibration=20)
        if request.node.callspec.id in REFUSES_TO_GUESS:
            with made.refused(REFUSES_TO_GUESS[request.node.callspec.id], "'other'"):
                decide([bound(node)], about)
        else:
            verdict = decide([bound(node)], about)
            assert set(about.labels.loc[list(kept(verdict)), "label"]) == {"soe"}

    def test_it_answers_where_confidences_are_missing(self, node: dict[str, Any], task: Task) -> None:
        usually = made.usual_evidence(task, null=0.0)
        votes = usually.votes.assign(confidence=np.nan).drop(columns=["prob:other", "prob:soe"])
        about = replace(usually, votes=votes, labels=usually.labels.assign(confidence=np.nan))
        verdict = decide([bound(node)], about)
        assert verdict["keep"].dtype == bool
        assert verdict.index.equals(about.labels.index)

    def test_it_answers_where_some_confidences_are_missing(self, node: dict[str, Any], task: Task) -> None:
        usually = made.usual_evidence(task, null=0.0)
        votes = usually.votes.drop(columns=["prob:other", "prob:soe"])
        votes.loc[votes["item_id"].isin(usually.labels.index[::2]), "confidence"] = np.nan
        labels = aggregations.any_view(votes, task).reindex(usually.labels.index)
        verdict = decide([bound(node)], replace(usually, votes=votes, labels=labels))
        assert verdict["keep"].any()
        assert verdict.index.equals(labels.index)

    def test_it_loses_no_class(self, node: dict[str, Any], request: pytest.FixtureRequest, colours: Task) -> None:
        if request.node.callspec.id in MAY_LOSE_A_CLASS:
            return
        if isinstance(node.get("shares"), dict):
            node = node | {"shares": {"red": 0.98, "green": 0.01, "blue": 0.01}}
        about = made.usual_evidence(colours, wrong=0.1, null=0.1)
        verdict = decide([bound(node)], about)
        assert set(about.labels.loc[verdict["keep"], "label"]) == set(colours.classes)


@pytest.mark.parametrize(
    "name", ["confidence top", "confidence at_least", "margin", "entropy", "quantile_per_class", "top_k_per_class"]
)
def test_a_missing_confidence_ranks_below_the_known_ones(name: str, task: Task) -> None:
    items = made.items(20).index
    sure = [None] * 10 + [0.55 + 0.04 * k for k in range(10)]
    rows = [
        {"item_id": item, "label": task.classes[k % 2], "confidence": known}
        for k, (item, known) in enumerate(zip(items, sure, strict=True))
    ]
    votes = made.votes_of(rows, task)
    about = replace(made.evidence(votes, task, n=20), labels=aggregations.first(votes, task))
    answer = ask(CASES[name], about)
    assert not answer.loc[items[:10], "score"].max() > answer.loc[items[10:], "score"].min()
    assert answer.loc[items[10:], "keep"].sum() >= answer.loc[items[:10], "keep"].sum()


@pytest.mark.parametrize("n", [0, 40])
@pytest.mark.parametrize("name", CASES)
def test_it_keeps_nothing_where_nobody_voted(name: str, n: int, task: Task) -> None:
    verdict = decide([bound(CASES[name])], made.evidence(made.votes_of([], task), task, n=n, calibration=20))
    assert len(verdict) == n
    assert kept(verdict) == set()
