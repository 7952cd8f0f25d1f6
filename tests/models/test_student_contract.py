"""The contract of students: what `fit` gives back can predict, be saved, and says clearly what it can't learn from.

A new model yaml needs one entry in `STUDENTS`: a test fails if a shipped one has none.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests import made, tiny, tiny_causal
from tests.models.tea_and_oil import ITEMS, NOTHING, WORDS, training

from silvertune.interfaces import Predictor
from silvertune.models import saved
from silvertune.models.tfidf_logreg import TfidfLogreg

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"


@dataclass(frozen=True)
class Case:
    """make: a small one of the shipped student, from a folder with tiny networks and one for the cache.

    reloaded: largest difference of probabilities after saving and loading. convex: it has one best fit.
    """

    make: Callable[[Path, Path], Any]
    reloaded: float = 0.0
    convex: bool = False


def tfidf(networks: Path, cache: Path) -> TfidfLogreg:
    settings = yaml.safe_load((CONF / "tfidf_logreg.yaml").read_text(encoding="utf-8"))
    return TfidfLogreg(
        **{key: settings[key] for key in settings if key != "_target_"} | {"min_df": 1, "class_weight": None}
    )


ENCODERS = {
    "minilm_lora": True,
    "minilm_lora_top_layer": True,
    "minilm_lora_all_layers": False,
    "minilm_full": False,
    "minilm_linear_head": True,
}
STUDENTS = (
    {"tfidf_logreg": Case(tfidf, convex=True)}
    | {
        # A reloaded one runs the whole network, and not from states in half precision.
        name: Case(
            lambda networks, cache, name=name: tiny.student(networks / "bert", cache, name),
            reloaded=2e-3 if cached else 1e-4,
        )
        for name, cached in ENCODERS.items()
    }
    | {
        "causal_lora": Case(lambda networks, cache: tiny_causal.student(networks / "llama", cache), reloaded=2e-3),
        "causal_head": Case(
            lambda networks, cache: tiny.student(networks / "llama", cache, "causal_head", epochs=8), reloaded=1e-4
        ),
    }
)
"""Name of a shipped yaml -> its case."""
ELSEWHERE = {
    "roberta_lora": "tests/encoders/test_families.py",
    "deberta_lora": "tests/encoders/test_families.py",
    "modernbert_lora": "tests/encoders/test_families.py",
    "smollm2_lora": "tests/models/test_packaged_students.py",
    "gemma3_270m_lora": "tests/models/test_packaged_students.py",
}
"""Shipped yamls that name other networks for a student of above, and who tunes these."""
REMOTE = {"gemini_tuned": "tests/models/test_gemini_tuned.py"}
"""Shipped yamls of models that are tuned by a provider: they have no `fit`, and the contract of backends tunes them."""


def test_every_shipped_model_has_a_case() -> None:
    shipped = {path.stem: tiny.shipped_model(path.stem) for path in CONF.glob("*.yaml")}
    assert {name for name, content in shipped.items() if content.get("_target_")} == {*STUDENTS, *ELSEWHERE, *REMOTE}
    for name, file in ELSEWHERE.items():
        assert shipped[name]["_target_"] in {shipped[other]["_target_"] for other in STUDENTS}
        assert f'"{name}"' in (Path(__file__).parents[2] / file).read_text(encoding="utf-8")


def assert_rows_sum_to_one(probs: pd.DataFrame) -> None:
    """Within the rounding of the probabilities' own type: a half unit for each, and one for each addition."""
    values = probs.to_numpy()
    rounding = 2 * values.shape[1] * np.finfo(values.dtype).eps
    np.testing.assert_allclose(values.sum(axis=1, dtype=np.float64), 1, rtol=0, atol=rounding)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    tiny.bert(folder / "bert")
    tiny_causal.causal_lm(folder / "llama")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@dataclass(frozen=True)
class Twice:
    """What two fits with one seed gave, and what the first of them left changed.

    Attributes:
        probs: The probabilities that each gave.
        train: The training set of the first, before and after.
        generators: The states of torch's and NumPy's generators, before and after the first.
    """

    probs: list[pd.DataFrame]
    train: tuple[pd.DataFrame, pd.DataFrame]
    generators: tuple[tuple[Any, Any], tuple[Any, Any]]


@pytest.fixture(scope="module")
def tuned(networks: Path, cache: Path) -> Callable[[str], Predictor]:
    """The student of a name as tuned on `training()`: once for all tests that only look at it."""
    return functools.cache(lambda name: STUDENTS[name].make(networks, cache).fit(training(), NOTHING, 0))


@pytest.fixture(scope="module")
def tuned_twice(networks: Path, cache: Path) -> Callable[[str], Twice]:
    @functools.cache
    def fits(name: str) -> Twice:
        train = training()
        before, states = train.copy(deep=True), generator_states()
        predictor = quick(STUDENTS[name].make(networks, cache)).fit(train, NOTHING, 3)
        after = generator_states()
        again = quick(STUDENTS[name].make(networks, cache)).fit(training(), NOTHING, 3)
        return Twice([one.predict_proba(ITEMS) for one in (predictor, again)], (before, train), (states, after))

    return fits


def generator_states() -> tuple[Any, Any]:
    import torch

    return torch.random.get_rng_state(), np.random.get_state()[1].copy()


def quick(model: Any) -> Any:
    """The same student for one epoch only, where how well it learns does not matter."""
    return replace(model, epochs=1) if hasattr(model, "epochs") else model


@pytest.mark.parametrize("name", STUDENTS)
class TestStudent:
    @pytest.fixture(autouse=True)
    def _given(self, name: str, networks: Path, cache: Path) -> None:
        self.case, self.model = STUDENTS[name], STUDENTS[name].make(networks, cache)

    def fit(self, train: pd.DataFrame, seed: int = 0, validation: pd.DataFrame = NOTHING) -> Predictor:
        predictor: Predictor = self.model.fit(train, validation, seed)
        return predictor

    def quick_fit(self, train: pd.DataFrame) -> Predictor:
        predictor: Predictor = quick(self.model).fit(train, NOTHING, 0)
        return predictor

    def test_probabilities_of_every_view_of_every_item_sum_to_one(
        self, name: str, tuned: Callable[[str], Predictor]
    ) -> None:
        probs = tuned(name).predict_proba(ITEMS)
        assert list(probs.index.names) == ["item_id", "view"]
        assert set(probs.columns) == {"tea", "oil"}
        assert set(probs.index) == {("p", "json"), ("p", "text"), ("q", "text"), ("r", "json")}
        assert probs.index.is_unique
        assert ((probs >= 0) & (probs <= 1)).all(axis=None)
        assert_rows_sum_to_one(probs)

    def test_it_says_what_it_was_tuned_on(self, name: str, tuned: Callable[[str], Predictor]) -> None:
        assert sorted(tuned(name).classes) == ["oil", "tea"]
        assert list(tuned(name).views) == ["json", "text"]

    def test_it_learns_what_the_words_mean(self, name: str, tuned: Callable[[str], Predictor]) -> None:
        probs = tuned(name).predict_proba(ITEMS)
        assert probs.loc[("p", "json"), "tea"] > 0.5
        assert probs.loc[("p", "text"), "tea"] > 0.5
        assert probs.loc[("q", "text"), "oil"] > 0.5
        assert probs.loc[("r", "json"), "oil"] > 0.5

    def test_labels_and_weights_of_what_is_predicted_are_not_looked_at(
        self, name: str, tuned: Callable[[str], Predictor]
    ) -> None:
        wrong = ITEMS.assign(label="tea", weight=0.0)
        pd.testing.assert_frame_equal(tuned(name).predict_proba(wrong), tuned(name).predict_proba(ITEMS))

    def test_the_same_seed_gives_the_same_probabilities(self, name: str, tuned_twice: Callable[[str], Twice]) -> None:
        one, two = tuned_twice(name).probs
        pd.testing.assert_frame_equal(one, two, check_exact=True)

    def test_nothing_outside_of_a_fit_notices_it(self, name: str, tuned_twice: Callable[[str], Twice]) -> None:
        before, after = tuned_twice(name).generators
        for state_before, state_after in zip(before, after, strict=True):
            assert np.array_equal(state_before, state_after)

    def test_the_training_set_is_left_as_it_was(self, name: str, tuned_twice: Callable[[str], Twice]) -> None:
        before, after = tuned_twice(name).train
        pd.testing.assert_frame_equal(after, before)

    def test_a_validation_set_is_taken(self, name: str) -> None:
        probs = self.fit(training(), validation=training(9)).predict_proba(ITEMS)
        assert probs.loc[("p", "json"), "tea"] > 0.5

    def test_views_can_be_chosen_and_one_that_is_not_there_is_refused(self, name: str) -> None:
        self.model = replace(self.model, views=["text"])
        assert set(self.quick_fit(training()).predict_proba(ITEMS).index.get_level_values("view")) == {"text"}
        self.model = replace(self.model, views=["text", "jsno"])
        with made.refused("model.views=", "no view 'jsno'", "there is json, text"):
            self.fit(training())

    def test_a_view_without_text_is_refused_by_name(self, name: str) -> None:
        with made.refused("view 'text' can't be learned from"):
            self.fit(training().assign(text=" "))

    def test_weights_matter(self, name: str) -> None:
        # Every text once as tea and once as oil: only the weights can say which it is.
        train = training()
        torn = pd.concat(
            [train.assign(label=label).set_axis(f"{label}-" + train.index).rename_axis("item_id") for label in WORDS]
        )
        heavy = torn.assign(weight=np.where(torn["label"] == "tea", 20.0, 1.0))
        even, tilted = (self.fit(given).predict_proba(ITEMS)["tea"] for given in (torn, heavy))
        assert (even < 0.7).all()
        assert (tilted > 0.8).all()

    def test_an_item_of_weight_two_is_like_two_items(self, name: str) -> None:
        if not self.case.convex:
            pytest.skip("the order of the examples has a say in where tuning ends")
        # Every word as often in both: what is weighed is the loss, not the vocabulary.
        train = training()
        doubled = pd.concat([train, train.set_axis("again" + train.index).rename_axis("item_id")])
        one = self.fit(train.assign(weight=2.0)).predict_proba(ITEMS)
        two = self.fit(doubled).predict_proba(ITEMS)
        assert (one.idxmax(axis=1) == two.idxmax(axis=1)).all()
        np.testing.assert_allclose(one.to_numpy(), two[one.columns].to_numpy(), atol=0.02)

    def test_a_saved_predictor_gives_the_same_probabilities(
        self, name: str, tuned: Callable[[str], Predictor], tmp_path: Path
    ) -> None:
        predictor = tuned(name)
        predictor.save(tmp_path / "new" / "folder")
        again = saved.load(tmp_path / "new" / "folder")
        loaded, saved_one = again.predict_proba(ITEMS), predictor.predict_proba(ITEMS)
        difference = self.case.reloaded
        pd.testing.assert_frame_equal(loaded, saved_one, rtol=0, atol=difference, check_exact=difference == 0)
        assert (list(again.classes), list(again.views)) == (list(predictor.classes), list(predictor.views))

    def test_several_classes_have_a_column_each(self, name: str) -> None:
        probs = self.quick_fit(training(18, ("tea", "oil", "ore"))).predict_proba(ITEMS)
        assert set(probs.columns) == {"tea", "oil", "ore"}
        assert_rows_sum_to_one(probs)

    def test_a_class_that_one_view_never_saw_has_no_probability_there(self, name: str) -> None:
        train = training(18, ("tea", "oil", "ore"))
        train.loc[train["label"] == "ore", "json"] = None
        probs = self.quick_fit(train).predict_proba(ITEMS)
        assert probs.notna().all(axis=None)
        assert_rows_sum_to_one(probs)

    def test_training_on_one_class_is_refused_in_one_line(self, name: str) -> None:
        with made.refused("class"):
            self.fit(training(classes=("tea",)))

    def test_training_on_nothing_is_refused_in_one_line(self, name: str) -> None:
        with made.refused("model:"):
            self.fit(training().iloc[:0])

    def test_items_without_any_known_view_have_no_probabilities(
        self, name: str, tuned: Callable[[str], Predictor]
    ) -> None:
        probs = tuned(name).predict_proba(ITEMS.assign(json=None, text=None))
        assert probs.empty
        assert list(probs.index.names) == ["item_id", "view"]
