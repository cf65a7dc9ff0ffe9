"""Every method of the union, in a size that fits tiny models, and tiny models of every kind to put it on."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from app.domain.methods import SPECS, MethodSpec
from app.domain.models.architecture import TaskModel
from app.domain.tasks import Task
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe

SIZES: dict[str, dict[str, Any]] = {
    "lean-full": {"weight_storage": "float32"},
    "lora": {"r": 4},
    "qlora": {"r": 4},
    "lora-from-scratch": {"r": 4},
    "bottleneck-adapter": {"bottleneck_size": 8},
    "last-layers": {"layers": 1},
    "adalora": {"init_r": 6, "target_r": 4},
    "vera": {"r": 16},
    "oft": {"oft_block_size": 8},
    "prefix": {"num_virtual_tokens": 4},
    "prompt": {"num_virtual_tokens": 4},
    "p-tuning": {"num_virtual_tokens": 4},
}
"""Fields of methods whose defaults are for larger models or bfloat16; a method that is not here is taken as it is."""
EVERY: list[MethodSpec] = [spec.model_validate(SIZES.get(kind, {})) for kind, spec in SPECS.items()]
MODELS: dict[str, Task] = {
    "bert": "sequence-classification",
    "gpt2": "causal-lm",
    "llama": "causal-lm",
    "t5": "seq2seq-lm",
}
"""Kinds of tiny models, and a task for each."""
STILL = {"gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, "t5": {"dropout_rate": 0.0}}
"""No dropout, so that a loss that rises is no accident."""
UNFIT = {
    ("prefix", "bert"), ("head-only", "gpt2"), ("head-only", "llama"), ("head-only", "t5"), ("bitfit", "llama"),
    ("bitfit", "t5"), ("loha", "gpt2"), ("lokr", "gpt2"), ("oft", "gpt2"),
}  # fmt: skip
"""Methods that do not fit a kind of model."""
TRIES = [(spec, name) for spec in EVERY for name in MODELS if (spec.kind, name) not in UNFIT]
ALWAYS = ("lora",)
"""Tried on every kind of model each time; other methods on one of them, and with the tests of the night on all."""
RARE = ("gpt2", "t5")
"""Kinds that are left to the tests of the night."""


def tries_on(tries: Iterable[tuple[MethodSpec, str]]) -> pytest.MarkDecorator:
    """A test for each of some methods on a kind of model, `spec` and `name`."""
    return pytest.mark.parametrize(
        ("spec", "name"),
        [pytest.param(spec, name, id=f"{spec.kind}-{name}", marks=_marks(spec, name)) for spec, name in tries],
    )


def _marks(spec: MethodSpec, name: str) -> list[pytest.MarkDecorator]:
    return [] if spec.kind in ALWAYS or name == _turn(spec.kind) else [pytest.mark.nightly]


def _turn(kind: str) -> str:
    """The kind of model that a method is tried on each time: BERT and Llama take turns."""
    fit = [name for name in MODELS if name not in RARE and (kind, name) not in UNFIT]
    return fit[[*SPECS].index(kind) % len(fit)]


def model(name: str, seed: int = 0) -> PreTrainedModel:
    """A tiny model for its task, the same every time, without dropout."""
    if name != "bert":
        return tiny_lm.model(name, **STILL.get(name, {}))
    torch.manual_seed(seed)
    config = tiny.config(num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    found: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    return found.eval()


@cache
def facts(name: str) -> TaskModel:
    """The structure of a tiny model."""
    return describe(model(name), MODELS[name])


class Inputs(NamedTuple):
    """Two rows, the second padded on the right, and what is to be learnt of them."""

    arguments: dict[str, torch.Tensor]
    targets: torch.Tensor


def inputs(name: str) -> Inputs:
    """A batch for a tiny model."""
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]])
    arguments = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if MODELS[name] == "seq2seq-lm":
        arguments["decoder_input_ids"] = torch.tensor([[0, 14, 15], [0, 16, 17]])
    return Inputs(arguments, torch.tensor([1, 2]))


def logits(adapted: nn.Module, name: str, *, bf16: bool = False) -> torch.Tensor:
    """What a model answers to the batch, [2, labels], or for the last token [2, vocabulary]."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found: torch.Tensor = adapted(**inputs(name).arguments).logits.float()
    return found[:, -1] if found.ndim == 3 else found


def steps(adapted: nn.Module, spec: MethodSpec, name: str, n: int, *, bf16: bool = False) -> Iterator[float]:
    """Train on the batch for `n` steps as the loop does; yields the losses. Leaves the model in evaluation mode."""
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    companion = MECHANISMS[spec.mechanism].companion(adapted, spec, n)
    adapted.train()
    for step in range(1, n + 1):
        loss = nn.functional.cross_entropy(logits(adapted, name, bf16=bf16), inputs(name).targets)
        loss.backward()
        if companion is not None:
            companion.penalty().backward()
        optimizer.step()
        if companion is not None:
            companion.after_step(step)
        optimizer.zero_grad(set_to_none=True)
        yield loss.item()
    adapted.eval()
