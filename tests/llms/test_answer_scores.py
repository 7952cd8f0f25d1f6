from pathlib import Path
from typing import Any

import pytest
from tests import made
from tests.llms import tiny_lm

from silvertune.llms import answer_scores
from silvertune.llms.interface import Message, Request

PROMPTS = ["a b c", "X X X X X", "a much longer one, X"]
WORDS = ["YES", "NO", "a longer word", "é"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def network() -> Any:
    """A random one: every token's score depends on all tokens before it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tiny_lm.vocabulary()), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def asked(text: str) -> Request:
    return Request((Message("system", "Say which."), Message("user", text)), tuple(WORDS), ("label",))


@pytest.fixture(scope="module")
def read(tokenizer: Any) -> tuple[list[list[int]], list[list[int]]]:
    texts = [answer_scores.prompt(asked(text), tokenizer) for text in PROMPTS]
    prompts = [answer_scores.prompt_tokens(text, tokenizer) for text in texts]
    return prompts, answer_scores.endings(WORDS, tokenizer)


def by_hand(network: Any, prompt: list[int], ending: list[int]) -> float:
    """One ending in a row of its own, unpadded."""
    import torch

    with torch.inference_mode():
        log_probs = network(torch.tensor([prompt + ending])).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(ending) - 1)
    return sum(float(log_probs[place, token]) for place, token in zip(places, ending, strict=True)) / len(ending)


@pytest.mark.parametrize("cache", [True, False])
def test_a_score_is_the_mean_log_probability_of_an_endings_tokens(
    cache: bool, network: Any, read: tuple[list[list[int]], list[list[int]]]
) -> None:
    prompts, endings = read
    assert len({len(prompt) for prompt in prompts}) == 3
    assert {len(ending) for ending in endings} > {2}
    expected = [[by_hand(network, prompt, ending) for ending in endings] for prompt in prompts]
    scored = answer_scores.scores(network, prompts, endings, cache=cache).tolist()
    assert scored == [pytest.approx(row, abs=1e-5) for row in expected]


def test_both_ways_give_the_same_gradients(network: Any, read: tuple[list[list[int]], list[list[int]]]) -> None:
    import torch

    weight = network.model.layers[0].self_attn.k_proj.weight
    gradients = []
    for cache in (True, False):
        network.zero_grad()
        answer_scores.scores(network, *read, cache=cache).log_softmax(-1)[:, 0].sum().backward()
        gradients.append(weight.grad.clone())
    assert float(gradients[0].abs().max()) > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


def test_endings_of_one_token_need_no_second_reading(network: Any) -> None:
    prompts, endings = [[5, 6, 7]], [[8], [9]]
    scored = answer_scores.scores(network, prompts, endings)[0].tolist()
    assert scored == pytest.approx([by_hand(network, prompts[0], ending) for ending in endings], abs=1e-5)


def test_without_a_template_blank_lines_stand_between_the_turns(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    text = answer_scores.prompt(asked("X"), tokenizer)
    assert text == 'Say which.\n\nX\n\n{"label": "'
    assert tokenizer.decode(answer_scores.prompt_tokens(text, tokenizer)) == text


def test_words_that_can_not_be_told_apart_are_refused(tokenizer: Any) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0, '"': 1, "tea": 2}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Punctuation()
    few_words = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    assert answer_scores.endings(["tea", "oil"], few_words) == [[2, 1], [0, 1]]
    with made.refused("task.answers: 'oil' and 'ore' are the same tokens", "that it tells apart"):
        answer_scores.endings(["tea", "oil", "ore"], few_words)


def test_a_word_without_tokens_is_refused() -> None:
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE({'"': 0, "a": 1}, []))
    inner.normalizer = normalizers.Strip()
    letters = PreTrainedTokenizerFast(tokenizer_object=inner)
    with made.refused("task.answers: the model's tokenizer makes nothing of the word 'é'", "want another word"):
        answer_scores.endings(["a", "é"], letters)
