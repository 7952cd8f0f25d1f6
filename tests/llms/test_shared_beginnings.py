"""What prompts begin with is read once, and the answers are those of prompts that are read whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.llms import tiny_lm

from silvertune.llms import answer_scores
from silvertune.llms.interface import Message, Request
from silvertune.llms.local_causal_lm import _Scorer
from silvertune.llms.shared_beginnings import FEWEST, SharedBeginnings

SYSTEM = Message("system", "Say whether it is a schedule of events, and nothing else. " * 2)
EXAMPLES = (Message("user", "<a>Week 4 X X</a>"), Message("assistant", '{"label": "YES"}'))
TEXTS = ["X", "b c d e f g h i j k", "Week 2 " * 9, "", "é|[", "Week 4 X X X"]
SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.5,
}  # fmt: skip
GEMMA = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 16, "layer_types": GEMMA}),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_lm.save(tmp_path_factory.mktemp("tiny")))


def network(kind: str, tokenizer: Any) -> Any:
    name, settings = FAMILIES[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, name)(**(SMALL | settings), vocab_size=len(tokenizer), pad_token_id=0)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def request(text: str, system: Message = SYSTEM) -> Request:
    return Request((system, *EXAMPLES, Message("user", text)), ("NO", "YES", "a longer word"), ("label",))


def whole(model: Any, tokenizer: Any, asked: Request) -> dict[str, float]:
    """Each answer's probability by a model that reads one prompt and one answer at a time."""
    prompt = answer_scores.prompt_tokens(answer_scores.prompt(asked, tokenizer), tokenizer)
    endings = answer_scores.endings(asked.words, tokenizer)
    with torch.inference_mode():
        scores = torch.stack([answer_scores.scores(model, [prompt], [end], cache=False)[0, 0] for end in endings])
    return dict(zip(asked.words, scores.softmax(0).tolist(), strict=True))


@pytest.mark.parametrize("kind", FAMILIES)
def test_answers_are_those_of_prompts_that_are_read_whole(kind: str, tokenizer: Any) -> None:
    model = network(kind, tokenizer)
    asked = [request(text) for text in TEXTS]
    asked.insert(2, Request((Message("system", "Short."), Message("user", "X")), asked[0].words, ("label",)))
    for _ in range(2):  # the second time what was read before is not changed by what came after it
        for answer, one in zip(_Scorer(model, tokenizer, kind).answers(asked), asked, strict=True):
            assert answer.probs == pytest.approx(whole(model, tokenizer, one), abs=1e-4)


def test_what_prompts_begin_with_is_read_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("llama", tokenizer)
    scorer = _Scorer(model, tokenizer, "tiny")
    tokens: list[int] = []
    inner = model.forward
    monkeypatch.setattr(
        model, "forward", lambda **inputs: tokens.append(inputs["input_ids"].numel()) or inner(**inputs)
    )
    beginning = scorer.beginnings.of(request("X"), whole_prompt(request("X"), tokenizer))
    assert beginning is not None
    assert sum(tokens) == len(beginning.tokens) > 100
    scorer.answers([request(text) for text in TEXTS])
    longest = max(len(whole_prompt(request(text), tokenizer)) for text in TEXTS)
    assert tokens[1] == len(TEXTS) * (longest - len(beginning.tokens)) < len(TEXTS) * longest / 2


def whole_prompt(asked: Request, tokenizer: Any) -> list[int]:
    return answer_scores.prompt_tokens(answer_scores.prompt(asked, tokenizer), tokenizer)


def test_a_short_beginning_and_one_that_a_prompt_does_not_have_are_none(tokenizer: Any) -> None:
    beginnings = SharedBeginnings(network("llama", tokenizer), tokenizer)
    short = Request((Message("system", "a"), Message("user", "b")), ("YES", "NO"), ("label",))
    assert len(whole_prompt(short, tokenizer)) < FEWEST
    assert beginnings.of(short, whole_prompt(short, tokenizer)) is None
    long = request("X")
    assert beginnings.of(long, whole_prompt(long, tokenizer)) is not None
    assert beginnings.of(long, whole_prompt(long, tokenizer)[1:]) is None
    (kept,) = [read for read in beginnings._by_turns.values() if read is not None]
    assert beginnings.of(long, list(kept.tokens)) is None  # nothing is left to read


def test_only_some_beginnings_stay_in_memory(tokenizer: Any) -> None:
    beginnings = SharedBeginnings(network("llama", tokenizer), tokenizer)
    for number in range(20):
        asked = request("X", Message("system", f"{number}. " * 20))
        assert beginnings.of(asked, whole_prompt(asked, tokenizer)) is not None
    assert len(beginnings._by_turns) == 8


def test_a_shipped_path_reads_shared_beginnings(tmp_path: Path) -> None:
    """`LocalCausalLM` itself, whose answers another test holds against a model that reads each prompt whole."""
    from tests.llms.test_local_causal_lm import answers, asked, by_hand, model

    folder = tiny_lm.save(tmp_path)
    question = Request((SYSTEM, *EXAMPLES, asked("X X").messages[-1]), ("NO", "YES"), ("label",))
    for answer in answers(model(folder), question, question):
        assert answer.probs == pytest.approx(by_hand(folder, question), abs=1e-5)
