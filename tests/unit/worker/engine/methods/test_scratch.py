"""LoRA from scratch equals PEFT's in outputs, gradients, merged weights and losses; and PEFT loads what it keeps."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config
from transformers.pytorch_utils import Conv1D

from app.domain.methods import LoraFromScratchSpec, LoraSpec
from app.domain.tasks import Task
from tests.support.tiny import texts as tiny
from worker.engine.loop import attempt as attempt_module
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import MECHANISMS, scratch
from worker.engine.methods.scratch import LoRALayer
from worker.engine.models.architecture import describe
from worker.engine.models.inspect import on_task

GPT2 = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=40, bos_token_id=1, eos_token_id=2)
IDS = torch.tensor([[5, 6, 7, 8, 2], [9, 5, 4, 3, 2]])
CLASSIFICATION: Task = "sequence-classification"


def _fresh(kind: str) -> nn.Module:
    torch.manual_seed(7)
    if kind == "bert":
        return AutoModelForSequenceClassification.from_config(tiny.config(num_labels=3))
    return AutoModelForCausalLM.from_config(GPT2)


def _pairs(mine: nn.Module, theirs: nn.Module) -> Iterator[tuple[LoRALayer, nn.Module]]:
    for name, layer in mine.named_modules():
        if isinstance(layer, LoRALayer):
            yield layer, theirs.get_submodule(f"base_model.model.{name}")


def _both(
    kind: str, dropout: float = 0.0, targets: list[str] | str | None = "all-linear"
) -> tuple[nn.Module, nn.Module]:
    """The same model adapted by either, with the same random A and B."""
    task: Task = CLASSIFICATION if kind == "bert" else "causal-lm"
    settings = {"r": 4, "lora_alpha": 12, "lora_dropout": dropout}
    mine, theirs = _fresh(kind), _fresh(kind)
    facts, spec = describe(mine, task), LoraFromScratchSpec(**settings, target_modules=targets)
    names = [m.name for m in spec.targets(facts)]
    mine = scratch.apply(mine, spec, facts)
    theirs = get_peft_model(theirs, LoraConfig(**settings, target_modules=names, modules_to_save=facts.head or None))
    with torch.no_grad():
        for layer, other in _pairs(mine, theirs):
            layer.B.normal_(std=0.1)
            other.lora_A["default"].weight.copy_(layer.A)
            other.lora_B["default"].weight.copy_(layer.B)
    return mine, theirs


def _logits(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(3)  # the same dropout
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_outputs_and_gradients_equal_pefts(kind: str, dropout: float) -> None:
    mine, theirs = (model.train() for model in _both(kind, dropout))
    ours, reference = _logits(mine), _logits(theirs)
    torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-6)
    ours.square().mean().backward()
    reference.square().mean().backward()
    compared = 0
    for layer, other in _pairs(mine, theirs):
        for gradient, wanted in (
            (layer.A.grad, other.lora_A["default"].weight.grad),
            (layer.B.grad, other.lora_B["default"].weight.grad),
        ):
            assert gradient is not None and gradient.any()
            torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-6)
            compared += 1
    assert compared == (26 if kind == "bert" else 16)  # with BERT's pooler
    if kind == "bert":
        head, copy = mine.classifier, theirs.base_model.model.classifier.modules_to_save["default"]
        torch.testing.assert_close(head.weight.grad, copy.weight.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_merged_outputs_equal_pefts_and_unmerging_restores_every_bit(kind: str) -> None:
    mine, theirs = (model.eval() for model in _both(kind))
    apart = _logits(mine)
    layers = [layer for layer, _ in _pairs(mine, theirs)]
    before = [layer.weight.detach().clone() for layer in layers]
    for layer in layers:
        layer.merge()
        layer.merge()  # once is enough
    theirs.merge_adapter()
    torch.testing.assert_close(_logits(mine), _logits(theirs), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(_logits(mine), apart, atol=1e-5, rtol=1e-5)
    for layer, other in _pairs(mine, theirs):
        torch.testing.assert_close(layer.weight, other.base_layer.weight, atol=1e-6, rtol=1e-6)
    assert not any(torch.equal(layer.weight, w) for layer, w in zip(layers, before, strict=True))
    for layer in layers:
        layer.unmerge()
    assert all(torch.equal(layer.weight, w) for layer, w in zip(layers, before, strict=True))
    assert torch.equal(_logits(mine), apart)


def test_training_starts_at_the_base_model_and_a_is_kaiming_uniform() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(400, 300)
    layer = LoRALayer(linear, r=8, alpha=16, dropout=0.0)
    x = torch.randn(5, 400)
    assert torch.equal(layer(x), linear(x))
    assert not layer.B.any()
    bound = 1 / math.sqrt(400)  # √(6 / ((1 + 5) · in))
    assert 0.95 * bound < layer.A.abs().max() <= bound
    assert layer.scaling == 2
    assert [name for name, p in layer.named_parameters() if p.requires_grad][:2] == ["A", "B"]


def test_gpt2s_layer_is_adapted_the_right_way_round() -> None:
    torch.manual_seed(0)
    layer = LoRALayer(Conv1D(6, 4), r=2, alpha=2, dropout=0.0)  # from 4 to 6 features
    assert (layer.A.shape, layer.B.shape) == ((2, 4), (6, 2))
    nn.init.normal_(layer.B)
    x = torch.randn(3, 4)
    expected = x @ layer.weight + layer.original.bias + x @ (layer.B @ layer.A).T
    torch.testing.assert_close(layer(x), expected)
    layer.merge()
    torch.testing.assert_close(layer(x), expected)


def test_a_bfloat16_base_keeps_float32_adapters_and_its_own_bits() -> None:
    torch.manual_seed(0)
    layer = LoRALayer(nn.Linear(64, 64).to(torch.bfloat16), r=4, alpha=4, dropout=0.0)
    nn.init.normal_(layer.B)
    before = layer.weight.detach().clone()
    assert layer.A.dtype is torch.float32
    x = torch.randn(3, 64, dtype=torch.bfloat16)
    y = layer(x)
    assert y.dtype is torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.float()).dtype is torch.bfloat16
    layer.merge()
    assert layer.weight.dtype is torch.bfloat16
    torch.testing.assert_close(layer(x), y, atol=0.1, rtol=0.05)
    layer.unmerge()
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("targets", [None, ["query"], "all-linear", r".*\.(query|output\.dense)"], ids=str)
def test_it_trains_as_many_as_lora(targets: list[str] | str | None) -> None:
    facts = on_task(tiny.config(), CLASSIFICATION).with_labels(3)
    lora, mine = LoraSpec(r=4, target_modules=targets), LoraFromScratchSpec(r=4, target_modules=targets)
    assert mine.trainable(facts) == lora.trainable(facts) > 0
    assert mine.touches(facts) == lora.touches(facts)


def _losses(directory: Path, base: Path, spec: LoraSpec | LoraFromScratchSpec, monkeypatch, **changes) -> list[float]:  # type: ignore[no-untyped-def]
    """Of a run whose every A is drawn from one generator, in the order of the model."""
    real = MECHANISMS[spec.mechanism]

    def from_one_generator(model, spec, facts):  # type: ignore[no-untyped-def]
        adapted, generator = real.apply(model, spec, facts), torch.Generator().manual_seed(11)
        for name, parameter in adapted.named_parameters():
            if name.endswith((".A", "lora_A.default.weight")):
                parameter.data.uniform_(-0.1, 0.1, generator=generator)
        return adapted

    fake = SimpleNamespace(apply=from_one_generator, companion=real.companion, save=real.save)
    monkeypatch.setitem(attempt_module.MECHANISMS, spec.mechanism, fake)
    recorder = tiny.Recorder()
    Attempt(tiny.job(directory, base, spec, tiny.FAST.model_copy(update=changes)), recorder).run()
    return [step.loss for step in recorder.seen] + [evaluation.loss for evaluation, *_ in recorder.evaluations]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}], ids=str)
def test_a_run_has_the_losses_of_pefts(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, bool]
) -> None:
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["query", "value", "output.dense"]}
    mine = _losses(tmp_path / "mine", base, LoraFromScratchSpec(**settings), monkeypatch, **changes)
    theirs = _losses(tmp_path / "theirs", base, LoraSpec(**settings), monkeypatch, **changes)
    assert len(mine) == len(theirs) > 20
    assert len(set(mine)) > 20, "something is learnt"
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


def test_peft_loads_what_it_keeps_of_gpt2(tmp_path: Path) -> None:
    mine, _ = _both("gpt2", targets=None)
    mine.config._name_or_path = ""
    spec = LoraFromScratchSpec(r=4, lora_alpha=12)
    run = tiny.job(tmp_path, tmp_path, spec).spec.model_copy(update={"task": "causal-lm"})
    folder = scratch.save(mine, tiny.tokenizer(), run, tmp_path)
    loaded = PeftModel.from_pretrained(_fresh("gpt2"), folder)
    torch.testing.assert_close(_logits(loaded.eval()), _logits(mine.eval()), atol=1e-6, rtol=1e-6)
