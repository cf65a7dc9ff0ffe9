"""Activation offload: the numbers of gradient checkpointing, with the inputs of blocks in the host's memory."""

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import BertForSequenceClassification

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import LeanFullSpec
from app.domain.resources.ledger import Ledger, Moment
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.memory.ledger import Journal
from worker.engine.models import load
from worker.engine.models.load import checkpoint_blocks, offload_blocks, recompute, refuse_offload

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


def test_an_architecture_without_recomputed_blocks_is_refused() -> None:
    with pytest.raises(RunFailed, match="are not recomputed one by one") as failed:
        offload_blocks(torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(2, 2)])))
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


def test_on_a_cpu_it_is_refused_since_nothing_would_be_saved() -> None:
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
