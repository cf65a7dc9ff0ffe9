"""Dropout, and activations that are offloaded: torch's numbers beside them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForSequenceClassification

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import LeanFullSpec
from app.domain.resources.ledger import Ledger, Moment
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.memory.ledger import Journal
from worker.engine.models import attention, load
from worker.engine.models.attention import attend, use_cpu_kernels
from worker.engine.models.dropout import Dropout, drop
from worker.engine.models.load import checkpoint_blocks, offload_blocks, recompute, refuse_offload


@pytest.mark.parametrize("p", [0.1, 0.5, 0.013])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_and_the_mean_are_right(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.rand(1000, 1001).add(1).to(dtype)
    dropped = drop(x, p)
    kept = dropped != 0
    assert 1 - kept.float().mean().item() == pytest.approx(p, abs=0.002)
    factor = (dropped.double()[kept] / x.double()[kept]).mean().item()
    assert factor == pytest.approx(1 / (1 - p), rel=2e-4)  # a factor of 1.1094 for 0.1 is off by 1.6e-3


def test_dropout_is_independent_reproducible_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    dropped = (drop(torch.ones(1_000_000), 0.5) == 0).float()
    for distance in (1, 2, 3, 4, 7):
        both = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert both == pytest.approx(0.25, abs=0.003)

    def draw() -> torch.Tensor:
        torch.manual_seed(7)
        return drop(torch.ones(50), 0.3)

    assert torch.equal(draw(), draw())
    layer, x = Dropout(0.5), torch.randn(10)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)


class Causal(nn.Module):
    is_causal = True
    num_key_value_groups = 1


class Both(nn.Module):
    is_causal = False
    num_key_value_groups = 1


def padding(lengths: list[int], width: int) -> torch.Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None])[:, None, None, :].expand(-1, 1, width, -1)


MASKS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor | None]]] = {
    "everything": lambda: (Both(), None),
    "causal": lambda: (Causal(), None),
    "padding": lambda: (Both(), padding([10, 7, 4], 10)),
    "added": lambda: (Both(), torch.randn(3, 1, 10, 10)),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("keys", [4, 2], ids=["own keys", "shared keys"])
def test_it_is_torchs_attention_but_for_what_is_dropped(name: str, keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "drop", lambda x, p: x)
    torch.manual_seed(0)
    module, mask = MASKS[name]()
    query = torch.randn(3, 4, 10, 8, requires_grad=True)
    key, value = (torch.randn(3, keys, 10, 8, requires_grad=True) for _ in range(2))
    ours, _ = attend(module, query, key, value, mask, dropout=0.1, scaling=8**-0.5)
    wide = [t.repeat_interleave(4 // keys, dim=1) for t in (key, value)]
    causal = module.is_causal and mask is None
    theirs = functional.scaled_dot_product_attention(query, *wide, attn_mask=mask, is_causal=causal).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-6)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (query, key, value), upstream, retain_graph=True),
        torch.autograd.grad(theirs, (query, key, value), upstream),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=2e-6)


def test_dropped_attention_has_the_same_mean() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 6, 8) for _ in range(3))
    expected, _ = attend(Both(), query, key, value, None)
    mean = torch.stack([attend(Both(), query, key, value, None, dropout=0.2)[0] for _ in range(4000)]).mean(0)
    assert torch.allclose(mean, expected, atol=0.05)


def test_a_model_takes_it_over_and_answers_as_before() -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = BertForSequenceClassification(config).eval()
    ids, mask = torch.randint(0, 30, (3, 9)), torch.ones(3, 9, dtype=torch.int64)
    mask[1, 5:] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    use_cpu_kernels(model)
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)
    assert all(isinstance(m, Dropout) for m in model.modules() if isinstance(m, nn.Dropout))
    model.train()
    torch.manual_seed(1)
    first = model(input_ids=ids, attention_mask=mask).logits
    second = model(input_ids=ids, attention_mask=mask).logits
    assert not torch.equal(first, second) and torch.isfinite(first).all()


@pytest.mark.parametrize("mask", [None, torch.arange(9) > torch.tensor([0, 3, 8])[:, None]], ids=["all", "some"])
def test_heads_that_share_keys_are_queries_of_one_head(mask: torch.Tensor | None) -> None:
    """One query per head, as in generation."""
    torch.manual_seed(0)
    query, (key, value) = torch.randn(3, 6, 1, 8), (torch.randn(3, 2, 9, 8) for _ in range(2))
    mask = None if mask is None else mask[:, None, None, :]
    ours, _ = attend(Causal(), query, key, value, mask)
    wide = [t.repeat_interleave(3, dim=1) for t in (key, value)]
    theirs = functional.scaled_dot_product_attention(query, *wide, attn_mask=mask).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-6)


OFFLOADED = LeanFullSpec(optim="adafactor", offload_activations=True)
ROWS, LENGTH, WIDTH, LAYERS = 64, 16, 32, 4
INPUT = ROWS * LENGTH * WIDTH * 4


def model_of(kind: str, offloaded: bool) -> Any:
    torch.manual_seed(1)
    if kind == "bert":
        config = tiny.config(num_labels=3, num_hidden_layers=LAYERS)
        model: Any = BertForSequenceClassification._from_config(config, attn_implementation="sdpa")
    else:
        model = tiny_lm.model(kind, num_hidden_layers=LAYERS)
    if offloaded:
        recompute(model, OFFLOADED)
    else:
        checkpoint_blocks(model)
    return model.train()


def step(model: Any) -> tuple[float, torch.Tensor, Ledger]:
    moment: list[Moment] = ["data"]
    optimizer = torch.optim.SGD(model.parameters())
    torch.manual_seed(2)
    ids = torch.randint(6, 32, (ROWS, LENGTH))
    bert = model.config.model_type == "bert"
    options: dict[str, Any] = {"labels": torch.arange(ROWS) % 3} if bert else {"labels": ids, "use_cache": False}
    model.zero_grad()
    with Journal(model, optimizer, lambda: moment[0], lambda size: size) as journal:
        moment[0] = "forward"
        loss = model(input_ids=ids, **options).loss
        moment[0] = "backward"
        loss.backward()
        journal.settle()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return loss.item(), gradients, journal.ledger("measured", 1, ROWS, LENGTH)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_inputs_of_blocks_leave_the_device_and_no_number_changes(kind: str) -> None:
    loss, gradients, kept = step(model_of(kind, offloaded=False))
    loss_offloaded, gradients_offloaded, offloaded = step(model_of(kind, offloaded=True))
    assert loss_offloaded == loss
    assert torch.equal(gradients_offloaded, gradients), "with dropout"
    assert kept.host == 0
    assert offloaded.host == LAYERS * INPUT
    # at the peak, within one block, its own input is on the device, and another tensor of that size at most
    assert kept.total - LAYERS * INPUT <= offloaded.total <= kept.total - (LAYERS - 2) * INPUT


def test_a_second_step_begins_with_an_empty_host() -> None:
    model = model_of("bert", offloaded=True)
    assert step(model)[2].host == step(model)[2].host == LAYERS * INPUT


def test_offloading_needs_recomputed_blocks_and_a_gpu() -> None:
    with pytest.raises(RunFailed, match="are not recomputed one by one") as failed:
        offload_blocks(torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(2, 2)])))
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
    refuse_offload(OFFLOADED, "cuda")
    refuse_offload(LeanFullSpec(), "cpu")
    with pytest.raises(RunFailed, match="On a CPU offload_activations saves nothing"):
        refuse_offload(OFFLOADED, "cpu")


@pytest.mark.parametrize(
    ("training", "path"),
    [
        ({"gradient_checkpointing": True}, None),
        ({}, "training.gradient_checkpointing"),
        ({"gradient_checkpointing": True, "compile_blocks": True}, "training.compile_blocks"),
    ],
)
def test_it_needs_gradient_checkpointing_and_plain_blocks(training: dict[str, bool], path: str | None) -> None:
    clash = OFFLOADED.clash(TrainingArguments(**training))  # type: ignore[arg-type]
    assert (clash.path if clash else None) == path


def test_a_recomputation_has_the_random_state_of_the_blocks_device(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[set[torch.device]] = []

    def recorded(run: Any, *args: Any, **options: Any) -> Any:
        devices.append({value.device for value in args if isinstance(value, torch.Tensor)})
        return checkpoint(run, *args, **options)

    monkeypatch.setattr(load, "checkpoint", recorded)
    step(model_of("bert", offloaded=True))  # without padding, so that no mask brings its device
    assert devices == [{torch.device("cpu")}] * LAYERS
