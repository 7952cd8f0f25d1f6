"""Half a transformer gives what the whole one gives."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from silvertune.encoders.layers import hidden_states, layers_of, only_above  # noqa: E402
from silvertune.models.encoder_predictor import peft_without_warnings  # noqa: E402

SMALL = {"vocab_size": 50, "max_position_embeddings": 40, "initializer_range": 0.3}
BERT_LIKE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertConfig(**SMALL, **BERT_LIKE),
    "roberta": lambda: RobertaConfig(**SMALL, **BERT_LIKE, pad_token_id=1),
    "electra": lambda: ElectraConfig(**SMALL, **BERT_LIKE, embedding_size=32),
    "distilbert": lambda: DistilBertConfig(**SMALL, dim=32, n_layers=3, n_heads=2, hidden_dim=48),
}
MASK = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] * 7 + [0] * 2])


def network(kind: str) -> Any:
    torch.manual_seed(1)
    return AutoModelForSequenceClassification.from_config(CONFIGS[kind](), attn_implementation="sdpa").eval()


def inputs(model: Any) -> dict[str, Any]:
    ids = torch.randint(4, 50, MASK.shape, generator=torch.Generator().manual_seed(0))
    padding = model.config.pad_token_id or 0
    return {"input_ids": torch.where(MASK == 1, ids, padding), "attention_mask": MASK}


@pytest.mark.parametrize("kind", CONFIGS)
class TestLayers:
    def test_the_list_of_layers_is_found(self, kind: str) -> None:
        name, layers = layers_of(network(kind))
        assert len(layers) == 3
        assert name.endswith("layer")

    @pytest.mark.parametrize("layer", [1, 2, 3])
    def test_hidden_states_are_the_ones_that_the_network_tells(self, kind: str, layer: int) -> None:
        model = network(kind)
        with torch.inference_mode():
            every = model.base_model(**inputs(model), output_hidden_states=True).hidden_states
            found = hidden_states(model.base_model, layer, inputs(model))
        real = MASK.bool()
        torch.testing.assert_close(found[real], every[layer][real])
        assert not torch.allclose(found[real], every[layer - 1][real])

    @pytest.mark.parametrize("layer", [1, 2, 3])
    def test_the_upper_layers_on_hidden_states_are_the_whole_network(self, kind: str, layer: int) -> None:
        model = network(kind)
        with torch.inference_mode():
            wanted = model(**inputs(model)).logits
            states = hidden_states(model.base_model, layer, inputs(model))
            with only_above(model, layer):
                found = model(inputs_embeds=states * MASK[..., None], attention_mask=MASK).logits
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
        assert wanted.std() > 1e-3  # there is something to get wrong

    def test_gradients_of_the_upper_layers_are_the_whole_networks(self, kind: str) -> None:
        model = network(kind)
        with torch.inference_mode():
            states = hidden_states(model.base_model, 2, inputs(model))
        top = dict(model.named_parameters())
        name = next(path for path in top if ".2." in path and path.endswith("weight"))

        def gradient(run: Callable[[], Any]) -> Any:
            model.zero_grad()
            run().logits[:, 0].sum().backward()
            return top[name].grad.clone()

        whole = gradient(lambda: model(**inputs(model)))
        with only_above(model, 2):
            above = gradient(lambda: model(inputs_embeds=states.clone(), attention_mask=MASK))
        torch.testing.assert_close(above, whole, atol=1e-5, rtol=1e-3)

    def test_the_network_is_whole_again_afterwards_also_after_an_error(self, kind: str) -> None:
        model = network(kind)
        before = [name for name, _ in model.named_modules()]
        with torch.inference_mode():
            wanted = model(**inputs(model)).logits
            with pytest.raises(ZeroDivisionError), only_above(model, 1):
                raise ZeroDivisionError
            hidden_states(model.base_model, 1, inputs(model))
            assert torch.equal(model(**inputs(model)).logits, wanted)
        assert [name for name, _ in model.named_modules()] == before
        assert not any(module._forward_hooks for module in model.modules())

    def test_a_failing_network_keeps_no_hook(self, kind: str) -> None:
        model = network(kind)
        with pytest.raises(Exception):  # noqa: B017 whatever the network raises
            hidden_states(model.base_model, 2, {"no_such_input": MASK})
        assert not any(module._forward_hooks for module in model.modules())

    def test_the_layers_above_do_not_run(self, kind: str) -> None:
        model = network(kind)

        def ran(*_: object) -> None:
            raise AssertionError("ran")

        layers_of(model)[1][2].register_forward_pre_hook(ran)
        with torch.inference_mode():
            hidden_states(model.base_model, 2, inputs(model))


def with_adapters(kind: str, dropout: float = 0.0) -> Any:
    """The network with LoRA on its top two layers, in which no adapter is without effect."""
    from peft import LoraConfig, get_peft_model

    model = network(kind)
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=4,
        lora_alpha=8,
        lora_dropout=dropout,
        target_modules=["query", "key", "value", "attention.output.dense"],
        layers_to_transform=[1, 2],
        layers_pattern="layer",
    )
    with peft_without_warnings():
        get_peft_model(model, config).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(2))
    return model


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_gradients_of_all_adapters_are_the_whole_networks(kind: str, layer: int) -> None:
    model = with_adapters(kind)
    with torch.inference_mode():
        states = hidden_states(model.base_model, layer, inputs(model))
    above = [f".layer.{number}." for number in range(layer, 3)]
    adapters = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.requires_grad and any(part in name for part in above)
    }
    assert len(adapters) == 4 * 2 * len(above)

    def gradients(logits: Any) -> dict[str, Any]:
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1]))
        return dict(zip(adapters, torch.autograd.grad(losses, list(adapters.values())), strict=True))

    whole = gradients(model(**inputs(model)).logits)
    with only_above(model, layer):
        found = gradients(model(inputs_embeds=states.clone(), attention_mask=MASK).logits)
    for name, gradient in whole.items():
        assert gradient.norm() > 1e-6, name
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize(("dropout", "training"), [(0.0, True), (0.5, False), (0.5, True)])
def test_in_the_last_layer_tokens_get_keys_and_values_where_adapters_drop_from_each(
    dropout: float, training: bool
) -> None:
    model = with_adapters("bert", dropout)
    with torch.inference_mode():
        states = hidden_states(model.base_model, 1, inputs(model))
        wanted = model(**inputs(model)).logits
    block = model.base_model.encoder.layer[2].attention.self
    shapes: list[tuple[int, ...]] = []
    for module in (block.key, block.value):
        module.register_forward_pre_hook(lambda _, arguments: shapes.append(tuple(arguments[0].shape)))
    for name, module in model.named_modules():
        if ".lora_dropout." in name:
            module.train(training)
    with torch.inference_mode(), only_above(model, 1):
        one, other = (model(inputs_embeds=states, attention_mask=MASK).logits for _ in range(2))
    every_token = tuple(states.shape) in shapes
    assert every_token == (dropout > 0 and training)
    assert torch.equal(one, other) != every_token
    if not every_token:
        torch.testing.assert_close(one, wanted, atol=1e-5, rtol=1e-4)


def test_a_network_without_a_list_of_layers_is_told() -> None:
    model = torch.nn.Linear(2, 2)
    model.config = BertConfig(**SMALL, **BERT_LIKE)
    with pytest.raises(LookupError, match="Linear has no list of its 3 layers"):
        layers_of(model)


def test_a_layer_that_does_not_run_is_told() -> None:
    model = network("bert")

    class Lazy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config, self.layers = model.config, torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(3))

        def forward(self, **_: object) -> None: ...

    with pytest.raises(LookupError, match="Lazy did not run its layer 2"):
        hidden_states(Lazy(), 2, {})
