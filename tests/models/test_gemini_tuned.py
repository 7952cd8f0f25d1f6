"""What Gemini is tuned on, what it can't be sent, and what becomes of its answers; the doubles tune and answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made
from tests.backends import vertex_double, vertex_parts
from tests.backends.vertex_double import Double

from silvertune.interfaces import PredictorTraits, TrainingSet
from silvertune.llms import prompts
from silvertune.models import GeminiTuned, saved
from silvertune.models.gemini_examples import Copies
from silvertune.models.gemini_predictor import GeminiPredictor
from silvertune.schema import Task


def training_set(n: int = 12, seed: int = 0, **columns: Any) -> TrainingSet:
    rows = made.items(n).assign(label=made.gold(n), weight=1.0).assign(**columns)
    return TrainingSet(rows, rows.iloc[:0], seed, "settings")


def lines(model: GeminiTuned, **changed: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in model.examples(training_set(**changed))[0]]


def answers(examples: list[dict[str, Any]]) -> list[str]:
    return [json.loads(example["contents"][-1]["parts"][0]["text"])["label"] for example in examples]


# ------------------------------------------------------------------------------------------------- what it is sent


def test_an_example_is_the_labelers_own_question_with_its_answer(tmp_path: Path) -> None:
    model = vertex_parts.model(tmp_path, views=["text"])
    example = lines(model, n=1)[0]
    request = model.prompts(["text"])["text"].request(made.items(1)["text"].iloc[0])
    assert example["systemInstruction"]["parts"][0]["text"] == request.messages[0].content
    assert example["contents"][0] == {"role": "user", "parts": [{"text": request.messages[1].content}]}
    assert example["contents"][-1] == {"role": "model", "parts": [{"text": '{"label": "other"}'}]}


def test_written_examples_are_turns_of_the_conversation(tmp_path: Path) -> None:
    task = Task("t", ["no", "yes"], "yes", prompts={"text": "Is it?"}, answers={"yes": "JA", "no": "NEIN"},
                examples=[{"view": "text", "text": "shown", "label": "yes"}])  # fmt: skip
    model = vertex_parts.model(tmp_path, task=task, views=["text"])
    rows = made.items(1).assign(label="no", weight=1.0)
    example = json.loads(model.examples(TrainingSet(rows, rows.iloc[:0], 0, ""))[0][0])
    assert [turn["role"] for turn in example["contents"]] == ["user", "model", "user", "model"]
    assert [json.loads(turn["parts"][0]["text"])["label"] for turn in example["contents"][1::2]] == ["JA", "NEIN"]


@given(st.text(max_size=4000), st.integers(50, 300))
@settings(max_examples=30, deadline=None)
def test_a_cut_never_reaches_question_or_answer(text: str, most: int) -> None:
    model = vertex_parts.model(Path("nowhere"), views=["text"], max_item_tokens=most)
    rows = made.items(1).assign(text=text * 3, label="soe", weight=1.0)
    (line,) = model.examples(TrainingSet(rows, rows.iloc[:0], 0, ""))[0]
    example = json.loads(line)
    whole = model.prompts(["text"])["text"].request("")
    assert example["systemInstruction"]["parts"][0]["text"] == whole.messages[0].content
    assert json.loads(example["contents"][-1]["parts"][0]["text"]) == {"label": "soe"}
    assert len(example["contents"][0]["parts"][0]["text"].encode()) <= 3 * most + 200
    assert line.count(b"\n") == 1


def test_every_view_that_an_item_has_is_an_example(tmp_path: Path) -> None:
    model = vertex_parts.model(tmp_path)
    assert len(lines(model)) == 24
    text = made.items(12)["text"].where(made.gold(12) == "soe", None)
    assert len(lines(model, text=text)) == 12 + 6


def test_the_seed_decides_the_order_and_nothing_else(tmp_path: Path) -> None:
    model = vertex_parts.model(tmp_path)
    first, second = (model.examples(training_set(seed=seed))[0] for seed in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)
    assert model.examples(training_set(seed=1))[0] == second
    refusing = vertex_parts.model(tmp_path, seed="refuse")
    assert refusing.examples(training_set())
    with made.refused("model.seed=refuse: Gemini's tuning takes no seed, and the run's is 1", "model.seed=order"):
        refusing.examples(training_set(seed=1))


# --------------------------------------------------------------------------------------- weights and soft labels


def test_weights_that_differ_are_refused_and_those_of_0_left_out(tmp_path: Path) -> None:
    model = vertex_parts.model(tmp_path, views=["text"])
    with made.refused("model.weights=refuse: Gemini's tuning knows no weights", "from 0.5 to 1", "weights=repeat"):
        lines(model, weight=[0.5, 1.0] * 6)
    assert len(lines(model, weight=[0.5] * 12)) == 12
    assert answers(lines(model, weight=[0.0, 1.0] * 6)) == ["soe"] * 6


def test_weights_are_imitated_by_repetition(tmp_path: Path) -> None:
    model = vertex_parts.model(tmp_path, views=["text"], weights="repeat", most_copies=4)
    said = answers(lines(model, weight=[1.0, 0.25] * 6))
    assert (said.count("other"), said.count("soe")) == (6 * 4, 6)
    assert len(lines(model)) == 12  # of one weight: each once
    assert model.bytes_at_most(training_set()) >= sum(map(len, model.examples(training_set(weight=[1.0, 0.25] * 6))[0]))


def test_soft_labels_are_imitated_by_each_classs_answer(tmp_path: Path) -> None:
    model = vertex_parts.model(tmp_path, views=["text"], weights="repeat", most_copies=10, soft_labels=True)
    said = answers(lines(model, **{"prob:soe": 0.7, "prob:other": 0.3}))
    assert (said.count("soe"), said.count("other")) == (12 * 7, 12 * 3)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1)), min_size=1, max_size=8), st.integers(1, 12))
@settings(deadline=None)
def test_copies_are_in_proportion_and_within_the_most(weights: list[tuple[float, float]], most: int) -> None:
    rows = pd.DataFrame({"label": "a", "weight": [weight for weight, _ in weights]})
    rows["prob:a"], rows["prob:b"] = [share for _, share in weights], [1 - share for _, share in weights]
    counted = Copies("repeat", True, most).counted(rows, ["a", "b"])
    assert all(0 <= number <= most for counts in counted for number in counts.values())
    for (weight, _), counts in zip(weights, counted, strict=True):
        assert (sum(counts.values()) >= 1) == (weight > 0)


@pytest.mark.parametrize("name", ["meta/llama3_1@llama-3.1-8b-instruct", "google/gemma-3-27b-it", "Qwen3-32B"])
def test_an_open_model_is_refused_with_what_tunes_it(name: str, tmp_path: Path) -> None:
    with made.refused(f"model.base_model={name}: is an open model", "want backend=vertex_job with model=causal_lora"):
        vertex_parts.service(Double(), "gs://bucket").check(vertex_parts.model(tmp_path, base_model=name))


# ---------------------------------------------------------------------------------------------- refused settings


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"base_model": "not a model"}, "model.base_model=not a model"),
        ({"epochs": 0}, "model.epochs=0"),
        ({"adapter_size": 3}, "model.adapter_size=3: want 1, 2, 4, 8 or 16"),
        ({"learning_rate_multiplier": 0}, "model.learning_rate_multiplier=0"),
        ({"weights": "some"}, "model.weights=some: want refuse or repeat"),
        ({"soft_labels": True}, "model.soft_labels=true: Gemini's tuning knows no soft labels; model.weights=repeat"),
        ({"seed": "random"}, "model.seed=random: want order or refuse"),
        ({"probabilities": "logits"}, "model.probabilities=logits: want words, votes or told"),
        ({"repeats": 3}, "model.repeats=3: want 1 with model.probabilities=words"),
        ({"probabilities": "votes"}, "model.probabilities=votes: needs model.repeats above 1"),
        ({"probabilities": "votes", "repeats": 3, "llm_temperature": 0.0}, "model.llm.temperature above 0"),
        ({"probabilities": "told"}, "model.probabilities=told: needs model.llm.top_logprobs"),
        ({"views": ["text"], "task": Task("t", ["a", "b"])}, "task.prompts"),
        ({"prompt": "short", "views": ["text"], "task": Task("t", ["a", "b"], prompts={"text": {"x": "?", "y": "?"}})},
         "model.prompt=short: task.prompts.text has several; want x or y"),
    ],
)  # fmt: skip
def test_a_setting_that_can_not_be_is_refused(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    with made.refused(words):
        vertex_parts.model(tmp_path, **changed)


def test_one_prompt_a_view_is_the_named_one() -> None:
    task = Task("t", ["a", "b"], prompts={"text": {"x": "First?", "y": "Second?"}, "json": "Only?"})
    built = prompts.of(task, ["text", "json"], reason=False, confidence=False, examples={}, max_item_tokens=100)
    chosen = prompts.one_a_view(built, "y", "model.prompt")
    assert {view: prompt.question for view, prompt in chosen.items()} == {"text": "Second?", "json": "Only?"}


# -------------------------------------------------------------------------------------------------- what it says


@pytest.fixture
def double(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    with vertex_double.running(tmp_path, monkeypatch) as double:
        yield double


def predictor(folder: Path, double: Double, **changed: Any) -> GeminiPredictor:
    """Of a model that the double has tuned, without any job."""
    model = vertex_parts.model(folder, double.url, **changed)
    double.tuned["1"] = vertex_double.TunedModel(lines(model, n=24))
    endpoint = "projects/123/locations/us-central1/endpoints/1"
    return model.predictor(endpoint, ["json", "text"], figures={"billed_tokens": 7.0}, alarms=["cut 2"])


def test_answers_are_words_and_the_run_says_so(tmp_path: Path, double: Double) -> None:
    tuned, items = predictor(tmp_path, double), made.items(24)
    probs = tuned.predict_proba(items)
    assert set(probs.to_numpy().ravel()) == {0.0, 1.0}
    right = probs["soe"].groupby(level="item_id").mean().round() == (made.gold(24) == "soe")
    assert right.mean() > 0.9
    traits = PredictorTraits.of(tuned)
    assert traits.ran_on["probabilities"] == "0 or 1, by the answered word"
    assert traits.alarms[0] == "cut 2"
    assert "model.probabilities=words: probabilities are 0 or 1" in traits.alarms[-1]
    assert traits.figures["billed_tokens"] == 7.0
    assert traits.figures["predictions"] == 48.0
    assert traits.figures["predictions_usd"] == pytest.approx(48 * (100 * 0.30 + 5 * 2.50) / 1e6)


def test_answers_are_paid_for_once(tmp_path: Path, double: Double) -> None:
    items = made.items(12)
    first = predictor(tmp_path, double).predict_proba(items)
    again = predictor(tmp_path, double)
    pd.testing.assert_frame_equal(again.predict_proba(items), first)
    assert len(double.asked) == 24
    assert set(double.asked.values()) == {1}
    assert again.figures["predictions_usd"] > 0


def test_votes_are_shares_of_the_repeats(tmp_path: Path, double: Double) -> None:
    tuned = predictor(tmp_path, double, probabilities="votes", repeats=4)
    probs = tuned.predict_proba(made.items(12))
    assert set((4 * probs).to_numpy().ravel()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert (probs.sum(axis=1) == 1).all()
    assert len(double.asked) == 4 * 24
    assert "shares of 4 answers" in tuned.alarms[-1]


def test_a_model_that_tells_no_probabilities_is_told(tmp_path: Path, double: Double) -> None:
    tuned = predictor(tmp_path, double, probabilities="told", llm_top_logprobs=5)
    with made.refused("model.probabilities=told: the tuned model", "tells no probabilities", "votes"):
        tuned.predict_proba(made.items(2))


def test_no_text_is_no_row(tmp_path: Path, double: Double) -> None:
    tuned = predictor(tmp_path, double)
    items = made.items(3).assign(text=[None, None, None])
    assert {view for _, view in tuned.predict_proba(items).index} == {"json"}
    assert tuned.predict_proba(items.iloc[:0]).empty


def test_a_request_without_an_answer_stops_the_run_and_the_next_asks_the_rest(tmp_path: Path, double: Double) -> None:
    endpoint, tuned = "projects/123/locations/us-central1/endpoints/2", predictor(tmp_path, double)
    gone = vertex_parts.model(tmp_path, double.url).predictor(endpoint, ["text"], figures={}, alarms=[])
    with made.refused("model: 3 of 3 questions to the tuned model", "got no answer", "the same command asks the rest"):
        gone.predict_proba(made.items(3))
    assert len(tuned.predict_proba(made.items(3))) == 6
    double.tuned["2"] = double.tuned["1"]
    assert len(gone.predict_proba(made.items(3))) == 3


def test_the_budget_of_answers_is_kept(tmp_path: Path, double: Double) -> None:
    tuned = predictor(tmp_path, double, budget_usd=0.002)
    with made.refused("model.budget_usd=0.002"):
        tuned.predict_proba(made.items(24))
    assert len(predictor(tmp_path, double, budget_usd=1.0).predict_proba(made.items(24))) == 48
    assert set(double.asked.values()) == {1}


def test_a_saved_one_asks_the_same_endpoint_and_finds_its_answers(tmp_path: Path, double: Double) -> None:
    tuned, items = predictor(tmp_path, double), made.items(6)
    probs = tuned.predict_proba(items)
    tuned.save(tmp_path / "model")
    loaded = saved.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict_proba(items), probs)
    assert len(double.asked) == 12
    content = (tmp_path / "model" / "silvertune.json").read_text()
    assert "ya29" not in content
    assert "PRIVATE" not in content


def test_an_endpoint_is_a_full_name(tmp_path: Path) -> None:
    with made.refused("model: 'endpoints/1' is no endpoint"):
        vertex_parts.model(tmp_path).predictor("endpoints/1", ["text"], figures={}, alarms=[])
