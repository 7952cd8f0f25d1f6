"""A decoder that goes on from the output of its first layers gives what the whole one gives."""

from typing import Any

import pytest
from tests import tiny_causal

from silvertune.encoders.layers import given_below, hidden_states, last_tokens_only, layers_of
from silvertune.llms import answer_scores

PROMPTS = [list(range(20, 90)), list(range(50, 62)), list(range(5, 105))]
ENDINGS = [[7, 8, 9], [10, 11]]


@pytest.fixture(scope="module", params=tiny_causal.FAMILIES)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    folder = tiny_causal.causal_lm(tmp_path_factory.mktemp("networks") / request.param, request.param)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def states_below(network: Any, layer: int) -> list[Any]:
    """The output of the first layers for both calls of the network that scoring makes."""
    from transformers import DynamicCache

    ids, mask = answer_scores.left_padded(PROMPTS, network.device)
    cache = DynamicCache(config=network.config)
    first = {"input_ids": ids, "attention_mask": mask, "position_ids": answer_scores.positions(mask)}
    states = hidden_states(network, layer, {**first, "past_key_values": cache, "use_cache": True})
    return [states, hidden_states(network, layer, answer_scores.continued(mask, ENDINGS, cache))]


@pytest.mark.parametrize("layer", [1, 2])
def test_scores_are_the_whole_networks(network: Any, layer: int) -> None:
    import torch

    with torch.inference_mode():
        whole = answer_scores.scores(network, PROMPTS, ENDINGS)
        with given_below(network, states_below(network, layer), layer), last_tokens_only(network, 3):
            above = answer_scores.scores(network, PROMPTS, ENDINGS)
        torch.testing.assert_close(above, whole, rtol=0, atol=2e-5)
        other = [torch.zeros_like(states) for states in states_below(network, layer)]
        with given_below(network, other, layer):
            assert not torch.allclose(answer_scores.scores(network, PROMPTS, ENDINGS), whole, atol=1e-2)


def test_the_layers_below_do_not_run_inside_and_run_again_afterwards(network: Any) -> None:
    import torch

    runs: list[int] = []
    first = layers_of(network)[1][0]
    part = next(module for name, module in first.named_modules() if name.endswith(("q_proj", "c_attn")))
    counter = part.register_forward_pre_hook(lambda *_: runs.append(1))
    try:
        with torch.inference_mode():
            states = states_below(network, 2)
            runs.clear()
            with given_below(network, states, 2):
                del runs[:]  # a first token shows what a layer returns
                answer_scores.scores(network, PROMPTS, ENDINGS)
            assert runs == []
            answer_scores.scores(network, PROMPTS, ENDINGS)
            assert len(runs) == 2
    finally:
        counter.remove()


def test_the_last_feed_forward_part_runs_for_the_last_tokens_alone(network: Any) -> None:
    import torch

    lengths: list[int] = []
    mlp = layers_of(network)[1][-1].mlp
    inner = next(module for name, module in mlp.named_modules() if name in ("up_proj", "c_fc"))
    hook = inner.register_forward_pre_hook(lambda module, arguments: lengths.append(arguments[0].shape[1]))
    try:
        with torch.inference_mode(), last_tokens_only(network, 3):
            answer_scores.scores(network, PROMPTS, ENDINGS)
        assert lengths == [3, 2]
        answer_scores.scores(network, PROMPTS, ENDINGS)
        assert lengths[2:] == [100, 2]
    finally:
        hook.remove()


def test_a_network_is_as_before_after_a_failure(network: Any) -> None:
    import torch

    with torch.inference_mode():
        whole = answer_scores.scores(network, PROMPTS, ENDINGS)
        with pytest.raises(RuntimeError), given_below(network, [torch.zeros(1, 2, 32)], 1):
            raise RuntimeError
        torch.testing.assert_close(answer_scores.scores(network, PROMPTS, ENDINGS), whole)
