"""A causal language model that is tuned: what it learns, what it reads, what it says to a wrong setting."""

import asyncio
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made, tiny, tiny_causal
from tests.models.tea_and_oil import ITEMS, NOTHING, training

from silvertune.llms import LocalCausalLM, answer_scores, prompts
from silvertune.llms.pretrained import Pretrained
from silvertune.models import causal_lora, saved
from silvertune.models.causal_lora import CausalLora
from silvertune.models.causal_predictor import CausalPredictor
from silvertune.models.prompt_reader import PromptReader

Student = Callable[..., CausalLora]
BARELY: Any = {"learning_rate": 1e-30, "epochs": 1}
"""So little that nothing has changed."""
SLOWLY: Any = {"learning_rate": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal.causal_lm(tmp_path_factory.mktemp("networks") / "llama")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def student(folder: Path, cache: Path) -> Student:
    """One view, one epoch, unless told otherwise."""

    def make(**settings: Any) -> CausalLora:
        return tiny_causal.student(folder, cache, **({"views": ["text"], "epochs": 1} | settings))

    return make


@pytest.fixture(scope="module")
def tuned(student: Student) -> CausalPredictor:
    return student(epochs=3).fit(training(), NOTHING, 0)


def tea(predictor: CausalPredictor) -> np.ndarray:
    return predictor.predict_proba(ITEMS)["tea"].to_numpy()


@pytest.fixture(scope="module")
def usual_and_unchanged(student: Student) -> tuple[np.ndarray, np.ndarray]:
    """What a student says that was tuned a little, and one that was not tuned."""
    as_usual, unchanged = (tea(student(**how).fit(training(), NOTHING, 1)) for how in (SLOWLY, BARELY))
    return as_usual, unchanged


# ------------------------------------------------------------------------------------------------- what it learns


@pytest.mark.parametrize("family", tiny_causal.FAMILIES)
def test_before_tuning_it_says_what_the_model_says_as_a_labeler(family: str, cache: Path, tmp_path: Path) -> None:
    folder = tiny_causal.causal_lm(tmp_path / family, family)
    predictor = tiny_causal.student(folder, cache, views=["text"], **BARELY).fit(
        training(30, ("tea", "oil", "ore")), NOTHING, 0
    )
    (prompt,) = prompts.of(
        tiny_causal.TASK, ["text"], reason=False, confidence=False, examples={}, max_item_tokens=3000
    )
    requests = [prompt.request(text) for text in ITEMS["text"].dropna()]

    async def label() -> list[Any]:
        llm = LocalCausalLM(str(folder), None, "cpu", "float32", 4)
        async with llm.connect() as ask:
            return list(await asyncio.gather(*map(ask, requests)))

    labelled = pd.DataFrame([answer.probs for answer in asyncio.run(label())])
    probs = predictor.predict_proba(ITEMS)
    np.testing.assert_allclose(probs[labelled.columns].to_numpy(), labelled.to_numpy(), rtol=0, atol=2e-3)
    exact = dataclasses.replace(predictor, frozen=0).predict_proba(ITEMS)
    np.testing.assert_allclose(exact[labelled.columns].to_numpy(), labelled.to_numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [({"cached": False}, 5e-3), ({"gradient_checkpointing": True}, 1e-3), ({"accumulation": 4}, 1e-3)],
    ids=["whole network", "checkpointing", "accumulation"],
)
def test_how_it_is_computed_changes_nothing_but_rounding(
    settings: dict[str, Any], tolerance: float, student: Student, usual_and_unchanged: tuple[np.ndarray, np.ndarray]
) -> None:
    as_usual, unchanged = usual_and_unchanged
    otherwise = student(**SLOWLY, **settings).fit(training(), NOTHING, 1)
    np.testing.assert_allclose(tea(otherwise), as_usual, rtol=0, atol=tolerance)
    assert np.abs(as_usual - unchanged).max() > 3 * tolerance


def test_what_prompts_begin_with_is_read_once_a_batch_and_learned_through(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: Any = {**SLOWLY, "views": None}
    begun: list[tuple[int, int]] = []
    real = answer_scores.begin

    def counted(network: Any, beginning: Any, rows: int) -> Any:
        begun.append((len(beginning), rows))
        return real(network, beginning, rows)

    monkeypatch.setattr(answer_scores, "begin", counted)
    once = student(**slow).fit(training(), NOTHING, 1)
    assert {length > 100 for length, _ in begun} == {True}
    assert max(rows for _, rows in begun) == 8
    monkeypatch.setattr(PromptReader, "prefixes", lambda self: ())
    begun.clear()
    each = student(**slow).fit(training(), NOTHING, 1)
    assert begun == []
    np.testing.assert_allclose(tea(once), tea(each), rtol=0, atol=1e-3)
    for one, other in zip(once.network.parameters(), each.network.parameters(), strict=True):
        if one.requires_grad:
            np.testing.assert_allclose(one.detach(), other.detach(), rtol=0, atol=2e-3)


def test_prompts_that_begin_otherwise_are_scored_in_their_places(tuned: CausalPredictor) -> None:
    texts = tuned.read("text", ["hot cup", "barrel price", "brew"])
    texts.insert(1, f"Something else. {texts[0]}")
    together = dataclasses.replace(tuned, frozen=0).logits(texts)
    alone = np.concatenate([dataclasses.replace(tuned, frozen=0).logits([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(tuned.logits(texts), alone, rtol=0, atol=5e-3)


def test_soft_labels_are_learned(student: Student) -> None:
    train = training()
    soft = train.assign(**{"prob:tea": 0.9, "prob:oil": 0.1})
    assert (tea(student(epochs=3).fit(soft, NOTHING, 0)) > 0.8).all()
    hard = tea(student(epochs=3, soft_labels=False).fit(soft, NOTHING, 0))
    assert hard.min() < 0.5


def test_class_weights_even_out_a_rare_class(student: Student) -> None:
    # Words that say nothing: how often a class stands there is all there is to learn.
    train = training(24).assign(text="green barrel", label=["tea"] * 4 + ["oil"] * 20)
    plain, balanced = (
        student(epochs=6, learning_rate=0.005, class_weight=weight).fit(train, NOTHING, 0)
        for weight in (None, "balanced")
    )
    assert tea(plain).mean() < 0.3
    assert 0.35 < tea(balanced).mean() < 0.65


def test_the_best_epoch_on_validation_is_kept(student: Student) -> None:
    predictor = student(epochs=4, patience=4).fit(training(), training(12).assign(label="tea"), 0)
    assert len(predictor.history) == 4
    losses = [epoch["validation_loss"] for epoch in predictor.history]
    assert losses.index(min(losses)) < 3
    kept = -np.log(predictor.predict_proba(training(12))["tea"]).mean()
    assert kept == pytest.approx(min(losses), abs=1e-4)


def test_only_adapters_of_the_top_layers_are_tuned_and_the_base_is_shared(student: Student) -> None:
    one, two = (student(**settings).fit(training(), NOTHING, 0) for settings in ({}, {"layers": 1}))
    for predictor, layers in ((one, {"1", "2"}), (two, {"2"})):
        tuned = {name for name, weight in predictor.network.named_parameters() if weight.requires_grad}
        assert all(".lora_" in name for name in tuned)
        assert {name.split(".")[2] for name in tuned} == layers
    weights = [predictor.network.model.embed_tokens.weight for predictor in (one, two)]
    assert weights[0].data_ptr() == weights[1].data_ptr()


def test_states_are_read_again_by_other_seeds(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    from silvertune.models.prompt_states import PromptStates

    student().fit(training(), NOTHING, 0)
    monkeypatch.setattr(PromptStates, "computed", lambda *_: pytest.fail("computed again"))
    student().fit(training(), NOTHING, 1)


# -------------------------------------------------------------------------------------------------- what it reads


def test_a_long_text_is_cut_and_nothing_else_and_that_is_told(student: Student) -> None:
    words = " ".join(f"n{number}" for number in range(400))
    train = training()
    train.loc["i01", "text"] = f"first {words} last"
    predictor = student(max_tokens=200).fit(train, NOTHING, 0)
    many = train["text"].nunique()
    assert predictor.alarms == [
        f"1 of {many} texts were cut, so that their prompts have no more than model.max_tokens=200 tokens"
    ]
    (prompt,) = predictor.read("text", [train.at["i01", "text"]])
    assert 180 < len(predictor.reader.tokens(prompt)) <= 200
    (whole,) = predictor.read("text", ["[…]"])
    question, _, _ = whole.partition("<item-")
    assert prompt.startswith(question)
    assert prompt.endswith('<|end|><|assistant|>{"label": "')
    assert "first" in prompt
    assert "last" in prompt


def test_a_prompt_that_is_too_long_without_any_text_is_told(student: Student) -> None:
    with made.refused("model.max_tokens=50: the prompt for view 'text' has", "tokens without any text", "task.prompts"):
        student(max_tokens=50)


def test_written_examples_are_shown(student: Student) -> None:
    examples = [{"view": "text", "text": "a cup", "label": "tea"}]
    task = dataclasses.replace(tiny_causal.TASK, examples=examples)
    (prompt,) = student(task=task, **BARELY).fit(training(), NOTHING, 0).read("text", ["brew"])
    assert "a cup" in prompt
    assert '{"label": "tea"}' in prompt


def test_of_several_questions_one_is_chosen(student: Student) -> None:
    task = dataclasses.replace(tiny_causal.TASK, prompts={"text": {"short": "Which?", "long": "Which is it?"}})
    with made.refused("model.prompt=None", "task.prompts.text has several", "short", "long"):
        student(task=task)
    (prompt,) = student(task=task, prompt="long", **BARELY).fit(training(), NOTHING, 0).read("text", ["brew"])
    assert "Which is it?" in prompt


def test_a_tokenizer_without_template_or_padding_does(folder: Path, cache: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(folder, tmp_path / "plain")
    for file in plain.glob("*.jinja"):
        file.unlink()
    tokenizer = tiny_causal.save_tokenizer(plain, template=None)
    assert (tokenizer.pad_token, tokenizer.chat_template) == (None, None)
    predictor = tiny_causal.student(plain, cache, views=["text"], epochs=3).fit(training(), NOTHING, 0)
    assert predictor.read("text", ["brew"])[0].endswith('\n\n{"label": "')
    assert predictor.history[-1]["loss"] < 0.5


# ------------------------------------------------------------------------------------------------ saved and loaded


def scores_by_plain_peft(network: Any, predictor: CausalPredictor, texts: list[str]) -> np.ndarray:
    """By what PEFT and transformers alone give, each prompt and ending in a row of its own."""
    import torch

    scores = []
    for text in texts:
        prompt = list(predictor.reader.tokens(text))
        with torch.inference_mode():
            scores.append(
                [float(answer_scores.scores(network, [prompt], [ending], cache=False)) for ending in predictor.endings]
            )
    return np.array(scores)


def test_plain_peft_loads_it_and_merges_it(tuned: CausalPredictor, folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tuned.save(tmp_path / "saved")
    prompts_read = tuned.read("text", ["hot cup", "barrel"])
    ours = dataclasses.replace(tuned, frozen=0).logits(prompts_read)
    base = AutoModelForCausalLM.from_pretrained(folder)
    bare = scores_by_plain_peft(base, tuned, prompts_read)
    loaded = PeftModel.from_pretrained(base, str(tmp_path / "saved")).eval()
    np.testing.assert_allclose(scores_by_plain_peft(loaded, tuned, prompts_read), ours, rtol=0, atol=1e-4)
    merged = loaded.merge_and_unload()
    np.testing.assert_allclose(scores_by_plain_peft(merged, tuned, prompts_read), ours, rtol=0, atol=1e-4)
    assert np.abs(bare - ours).max() > 0.1


def test_an_adapter_on_another_base_is_refused_and_a_moved_base_is_found(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(folder, tmp_path / "home")
    predictor = tiny_causal.student(home, cache, views=["text"], epochs=1).fit(training(), NOTHING, 0)
    predictor.save(tmp_path / "saved")
    moved = home.rename(tmp_path / "moved")
    with made.refused("saved: its base is not on this machine", "set labeler.base"):
        saved.load(tmp_path / "saved")
    np.testing.assert_allclose(
        saved.load(tmp_path / "saved", moved).predict_proba(ITEMS)["tea"], tea(predictor), rtol=0, atol=2e-3
    )
    other = tiny_causal.causal_lm(tmp_path / "other", seed=1)
    with made.refused("was tuned on", "what is there now has", "set labeler.base"):
        saved.load(tmp_path / "saved", other)


def test_nothing_is_left_of_a_saved_model_that_predicts_otherwise(
    tuned: CausalPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = CausalPredictor.logits
    monkeypatch.setattr(CausalPredictor, "logits", lambda self, texts: real(self, texts) + (self.cache is None))
    with pytest.raises(RuntimeError, match=r"differ from the tuned one's by 1\.0"):
        tuned.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"layers": 4}, ["model.layers=4", "has 3 layers", "want 1 to that"]),
        ({"layers": 0}, ["model.layers=0", "want 1 to that"]),
        ({"target_modules": ["query"]}, ["model.target_modules=['query']"]),
        ({"target_modules": "q_proj"}, ["model.target_modules=q_proj", "want a list"]),
        ({"max_tokens": 511}, ["model.max_tokens=511", "reads 512 tokens", "whole number up to 51"]),
        ({"dtype": "int8"}, ["model.dtype", "int8"]),
        ({"quantization": "int4"}, ["model.quantization=int4: want nf4 or null"]),
        ({"quantization": "nf4"}, ["model.quantization=nf4: needs a GPU", "want null"]),
        ({"accumulation": 0}, ["model.accumulation=0"]),
        ({"model": "/nowhere/model"}, ["model.model=/nowhere/model: can't be loaded"]),
        ({"task": dataclasses.replace(tiny_causal.TASK, answers={"tea": "x", "oil": "x"})}, ["task.answers"]),
        ({"task": dataclasses.replace(tiny_causal.TASK, descriptions={})}, ["nothing says what is to be told apart"]),
    ],
)
def test_a_setting_that_does_not_fit_is_told_before_anything_is_labelled(
    settings: dict[str, Any], told: list[str], student: Student
) -> None:
    with made.refused(*told):
        student(**settings)


def test_a_model_that_is_no_causal_one_is_refused(cache: Path, tmp_path: Path) -> None:
    from transformers import T5Config

    tiny_causal.save_tokenizer(tmp_path)
    T5Config().save_pretrained(tmp_path)
    with made.refused("model.model=", "is no causal language model"):
        tiny_causal.student(tmp_path, cache)


def test_weights_that_are_not_there_are_told(folder: Path, cache: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    lacking = shutil.copytree(folder, tmp_path / "lacking")
    network = AutoModelForCausalLM.from_pretrained(folder)
    weights = {name: weight for name, weight in network.state_dict().items() if "layers.1.mlp" not in name}
    network.save_pretrained(lacking, state_dict=weights)
    with made.refused("3 weights of LlamaForCausalLM are not there", "layers.1.mlp"):
        tiny_causal.student(lacking, cache).fit(training(), NOTHING, 0)


def test_a_loss_that_is_not_finite_is_told(student: Student) -> None:
    with made.refused("model.learning_rate=", "want a lower rate"):
        student(learning_rate=1e30, epochs=3).fit(training(), NOTHING, 0)


def test_kept_states_that_give_something_else_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from silvertune.models.prompt_states import PromptStates

    real = PromptStates.computed
    monkeypatch.setattr(PromptStates, "computed", lambda self, batch: [rows * 1.5 for rows in real(self, batch)])
    with made.refused("model.cached=true", "do not give what the whole LlamaForCausalLM", "want model.cached=false"):
        tiny_causal.student(folder, tmp_path, views=["text"]).fit(training(), NOTHING, 0)


def test_out_of_memory_halves_the_batch_and_learns_the_same(
    student: Student, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow: Any = {"learning_rate": 1e-3}
    unlimited = student(**slow).fit(training(), NOTHING, 1)
    real = answer_scores.scores

    def limited(network: Any, read: Any, endings: Any, **how: Any) -> Any:
        if len(read) > 3:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes")
        return real(network, read, endings, **how)

    monkeypatch.setattr(answer_scores, "scores", limited)
    predictor = student(**slow).fit(training(), NOTHING, 1)
    assert "out of memory with 8 texts at once: goes on with 4" in capsys.readouterr().err
    np.testing.assert_allclose(tea(predictor), tea(unlimited), rtol=0, atol=1e-3)


def test_a_base_is_loaded_once_a_process(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    causal_lora._pretrained.cache_clear()
    loads: list[str] = []
    real = Pretrained.network

    def counted(self: Pretrained, dtype: str, *arguments: Any, **settings: Any) -> Any:
        loads.append(dtype)
        return real(self, dtype, *arguments, **settings)

    monkeypatch.setattr(Pretrained, "network", counted)
    for seed in range(2):
        student().fit(training(), NOTHING, seed)
    assert loads == ["float32"]


# --------------------------------------------------------------------------------- a classification head on a text


@pytest.fixture(scope="module")
def headed(folder: Path, cache: Path) -> Any:
    return tiny.student(folder, cache, "causal_head", epochs=1).fit(training(), NOTHING, 0)


def test_a_head_on_the_last_token_gives_a_text_the_same_in_any_batch(headed: Any) -> None:
    texts = ["hot cup", "barrel price n1 n2 green leaf", "brew", "crude well n3"]
    together = headed.logits(texts)
    alone = np.concatenate([headed.logits([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert headed.network.config.pad_token_id == headed.encoder.tokenizer().pad_token_id is not None


def test_the_head_is_tuned_and_saved_with_the_adapters(headed: Any, tmp_path: Path) -> None:
    tuned = {name for name, weight in headed.network.named_parameters() if weight.requires_grad}
    assert {name for name in tuned if ".lora_" not in name} == {"score.modules_to_save.default.weight"}
    headed.save(tmp_path / "saved")
    again = saved.load(tmp_path / "saved")
    np.testing.assert_allclose(again.predict_proba(ITEMS), headed.predict_proba(ITEMS), rtol=0, atol=1e-5)


def test_kept_states_are_refused_under_a_head_on_the_last_token(folder: Path, cache: Path) -> None:
    with made.refused("model.cached=true", "want model.cached=false"):
        tiny.student(folder, cache, "causal_head", layers=1, cached=True)
