import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests import made
from tests.llms import made_llms, tiny_lm

from silvertune.llms.interface import Answer, Message, Request, UnusableError
from silvertune.llms.local_causal_lm import LocalCausalLM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm.save(tmp_path_factory.mktemp("tiny"))


def model(folder: Path, batch_size: int = 4) -> LocalCausalLM:
    return LocalCausalLM(model=str(folder), revision=None, device="cpu", dtype="float32", batch_size=batch_size)


def asked(text: str, words: tuple[str, ...] = ("NO", "YES")) -> Request:
    return Request((Message("system", "Say which."), Message("user", text)), words, ("label",))


def answers(llm: LocalCausalLM, *requests: Request) -> list[Answer]:
    async def go() -> list[Answer]:
        async with llm.connect() as ask:
            return list(await asyncio.gather(*map(ask, requests)))

    return asyncio.run(go())


def by_hand(folder: Path, request: Request) -> dict[str, float]:
    """Each word in a sequence of its own, unpadded, without a cache."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) + '{"label": "'
    start = tokenizer(text, add_special_tokens=False)["input_ids"]
    scores = []
    for word in request.words:
        end = tokenizer(f'{word}"', add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = network(torch.tensor([start + end])).logits[0].log_softmax(-1)
        scores.append(sum(float(logits[len(start) + k - 1, token]) for k, token in enumerate(end)) / len(end))
    odds = torch.tensor(scores).softmax(0).tolist()
    return dict(zip(request.words, odds, strict=True))


def test_the_words_probabilities_are_those_of_the_model(folder: Path) -> None:
    # Words of one token and of many, in the same list.
    for request in (asked("a b c"), asked("X X X X"), asked("X Y", ("YES", "NO", "a longer word", "é"))):
        (found,) = answers(model(folder), request)
        assert found.probs == pytest.approx(by_hand(folder, request), abs=1e-5)
        assert sum(found.probs.values()) == pytest.approx(1.0)  # type: ignore[union-attr]
        assert json.loads(found.text)["label"] == max(found.probs, key=found.probs.__getitem__)  # type: ignore[union-attr]


def test_a_text_gets_the_same_in_any_batch(folder: Path) -> None:
    requests = [asked("X" * k + "b" * (50 - 7 * k)) for k in range(7)]
    alone = [answers(model(folder, 1), request)[0] for request in requests]
    for size in (2, 7):
        together = answers(model(folder, size), *requests)
        for one, other in zip(alone, together, strict=True):
            assert other.probs == pytest.approx(one.probs, abs=1e-5)
            assert other.tokens_in == one.tokens_in


def test_a_prompt_that_is_too_long_is_told_and_does_not_hurt_the_others(folder: Path) -> None:
    long, short = answers(model(folder), asked("b" * 5000), asked("X X"))
    assert (long.finish, long.probs) == ("length", None)
    assert short.finish == "stop"


def test_it_labels_with_exact_confidences(folder: Path, tmp_path: Path) -> None:
    task = made.Task(**(vars(made.SOE) | {"answers": {"soe": "YES", "other": "NO"}}))
    items = made.items(6).assign(text=["X X X X X X X X"] * 3 + ["b"] * 3, json=None)
    table = made_llms.labeler(task, {"tiny": model(folder)}, tmp_path, views=["text"]).label(items)
    assert set(table["status"]) == {"ok"}
    assert (table["confidence"] == table[["prob:other", "prob:soe"]].max(axis=1)).all()
    assert table["prob:soe"].iloc[0] > table["prob:soe"].iloc[-1]


def test_reasons_can_not_be_had_of_it(folder: Path, tmp_path: Path) -> None:
    with made.refused("want reason and confidence false"):
        made_llms.labeler(made.SOE, {"tiny": model(folder)}, tmp_path, reason=True).label(made.items(2))


def test_a_template_without_a_system_turn_gets_it_with_the_question(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + tiny_lm.TEMPLATE
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = strict
    tokenizer.save_pretrained(tmp_path)
    (found,) = answers(model(tmp_path), asked("X X"))
    assert found.finish == "stop"


def test_its_weights_are_its_identity(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert model(tmp_path).identity() == model(folder).identity()
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(b"x")
    from silvertune.llms import pretrained

    pretrained._folder_digest.cache_clear()
    assert model(tmp_path).identity() != model(folder).identity()


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="can't be loaded"):
        answers(model(tmp_path / "no"), asked("x"))
    (found,) = model(tmp_path / "no").check()
    assert not found.ok


def test_a_calibrated_one_takes_off_what_a_word_has_where_nothing_is_judged(folder: Path) -> None:
    import math

    def odds(probs: Mapping[str, float]) -> float:
        return math.log(probs["YES"] / probs["NO"])

    plain, calibrated = model(folder), replace(model(folder), calibrated=True)
    requests = [asked("X X X"), asked("a b")]
    of_nothing = [odds(by_hand(folder, asked(text))) for text in ("", "N/A", "[MASK]")]
    for one, other in zip(answers(plain, *requests), answers(calibrated, *requests), strict=True):
        assert one.probs is not None
        assert other.probs is not None
        # by_hand gives mean log probabilities too, so that their differences are what is taken off.
        assert odds(other.probs) == pytest.approx(odds(one.probs) - sum(of_nothing) / 3, abs=1e-4)
        assert json.loads(other.text)["label"] == max(other.probs, key=other.probs.__getitem__)
    assert calibrated.identity() == plain.identity() | {"calibrated": True}
