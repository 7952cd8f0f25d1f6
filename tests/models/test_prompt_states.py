"""Kept states are those of the whole network, whatever was read at once, and no more of them than there is room for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import made, tiny_causal

from silvertune.encoders.layers import hidden_states
from silvertune.models.prompt_states import SCALE, PromptStates, Tokens

PREFIX = tuple(range(20, 100))
PROMPTS: list[Tokens] = [
    *((*PREFIX, *range(start, start + length)) for start, length in ((110, 5), (130, 30), (200, 5), (300, 17))),
    tuple(range(40, 60)),  # begins with something else
]
ENDINGS: tuple[Tokens, ...] = ((7, 8, 9), (10, 11))
ROWS = [8, 33, 8, 20, 23]
"""Rows that are kept of each prompt: after its prefix, and three of the endings."""


@pytest.fixture(scope="module", params=tiny_causal.FAMILIES)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    folder = tiny_causal.causal_lm(tmp_path_factory.mktemp("networks") / request.param, request.param)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_causal.causal_lm(tmp_path_factory.mktemp("llama"))).eval()


def states_of(network: Any, folder: Path, **settings: Any) -> PromptStates:
    usual = {"layer": 2, "endings": ENDINGS, "prefixes": (PREFIX,), "folder": folder, "name": "tiny", "cache_gb": 1.0}
    return PromptStates(network, **(usual | settings))


def by_hand(network: Any, tokens: Tokens, layer: int = 2) -> np.ndarray:
    """The states of a text in a row of its own, without a cache."""
    import torch

    with torch.inference_mode():
        states = hidden_states(network, layer, {"input_ids": torch.tensor([tokens]), "use_cache": False})
    return np.asarray(states[0])


def test_states_are_those_of_each_prompt_and_ending_alone(network: Any, tmp_path: Path) -> None:
    states = states_of(network, tmp_path).of(PROMPTS)
    padded, ends = states.of(np.arange(len(PROMPTS)), cache=True)
    (rows,) = states.of(np.arange(len(PROMPTS)), cache=False)
    largest = max(np.abs(by_hand(network, prompt)).max() for prompt in PROMPTS)
    for place, prompt in enumerate(PROMPTS):
        for number, ending in enumerate(ENDINGS):
            exact = by_hand(network, (*prompt, *ending[:-1]))
            kept = np.concatenate(
                [padded[place, -len(prompt) :], ends[place * len(ENDINGS) + number, : len(ending) - 1]]
            )
            np.testing.assert_allclose(kept, exact, rtol=0, atol=2e-3 * largest)
            np.testing.assert_array_equal(rows[place * len(ENDINGS) + number, -len(exact) :], kept)


def test_they_are_computed_once_and_the_prefix_is_not_kept_with_each(
    llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = states_of(llama, tmp_path)
    before = first.of(PROMPTS).of(np.arange(5), cache=True)
    assert first.store.size() == sum(ROWS) * 32 * 2
    again = states_of(llama, tmp_path)
    monkeypatch.setattr(PromptStates, "computed", lambda *_: pytest.fail("computed again"))
    for one, other in zip(before, again.of(PROMPTS).of(np.arange(5), cache=True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_endings_and_other_weights_have_states_of_their_own(llama: Any, tmp_path: Path) -> None:
    stores = [
        states_of(llama, tmp_path, **settings).store.path.name
        for settings in ({}, {"endings": ENDINGS[:1]}, {"name": "other"}, {"layer": 1})
    ]
    assert len(set(stores)) == 4


def test_what_finds_no_room_is_computed_again_and_the_same(
    llama: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.arange(len(PROMPTS))
    all_kept = states_of(llama, tmp_path / "all").of(PROMPTS).of(rows, cache=True)
    small = states_of(llama, tmp_path / "small", cache_gb=sum(ROWS[:2]) * 64 / 1e9)
    some_kept = small.of(PROMPTS).of(rows, cache=True)
    assert 0 < small.store.size() <= small.cache_gb * 1e9
    assert "model.cache_gb=" in (said := capsys.readouterr().err)
    assert "of 5 prompts find no room and are computed again each time" in said
    for one, other in zip(all_kept, some_kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=0.02 * float(np.abs(one).max()))
    none = states_of(llama, tmp_path / "none", cache_gb=0.0)
    none.of(PROMPTS).of(rows, cache=True)
    assert none.store.size() == 0


def test_endings_of_one_token_have_no_states(llama: Any, tmp_path: Path) -> None:
    (padded,) = states_of(llama, tmp_path, endings=((7,), (8,))).of(PROMPTS).of(np.array([1, 4]), cache=True)
    assert padded.shape == (2, len(PROMPTS[1]), 32)


def test_batches_have_one_prefix_and_with_a_window_one_length(network: Any, tmp_path: Path) -> None:
    states = states_of(network, tmp_path)
    batches = states.batches(PROMPTS)
    assert sorted(prompt for batch in batches for prompt in batch) == sorted(PROMPTS)
    windowed = type(network).__name__.startswith("Gemma")
    assert len(batches) == (4 if windowed else 2)


def test_states_beyond_half_precision_are_refused(llama: Any, tmp_path: Path) -> None:
    import torch

    states = states_of(llama, tmp_path)
    np.testing.assert_allclose(states._half(torch.full((2, 2), 1e5)).astype(float) * SCALE, 1e5, rtol=1e-3)
    with made.refused("model.cached=true", "too large to be kept in half precision", "want model.cached=false"):
        states._half(torch.full((2, 2), 1e7))
