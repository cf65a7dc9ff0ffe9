"""LoRA from scratch (Hu et al. 2021, arXiv 2106.09685), to be read beside the paper's section 4.1.

    y = W·x + s·B·A·x      W [out, in] frozen,  A [r, in],  B [out, r],  s = lora_alpha / r

Common mistakes, and what is done here:

    B starts at zero, A does not    so that training starts at the base model; if both were zero, neither had a gradient
    s divides by r                  so that another rank needs no other learning rate
    A and B are float32             updates below half a bfloat16 ulp would be lost; W may be coarser
    dropout is on A's input only    the frozen path sees every x
    the bias stays with W           B·A has none of its own
    merged, W includes B·A          and it must not be added again; unmerging restores W's own bits

Saved in PEFT's adapter format: `PeftModel.from_pretrained(base_model, "adapter")` loads it, with the head.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.methods.base import WRAPPED
from app.domain.methods.scratch import LoraFromScratchSpec
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.runs.spec import RunSpec
from worker.engine.evaluation.change import Change, Product, matrix
from worker.engine.methods.tensors import sort_adapter_config, trained
from worker.engine.models.architecture import head_names
from worker.engine.tasks import TASKS


class LoRALayer(nn.Module):
    """A frozen linear layer with a trainable low-rank product in parallel."""

    def __init__(self, original: nn.Linear | Conv1D, r: int, alpha: int, dropout: float) -> None:
        super().__init__()
        self.original = original
        self.transposed = isinstance(original, Conv1D)  # GPT-2 stores W as [in, out]
        rows, columns = original.weight.shape
        inputs, outputs = (rows, columns) if self.transposed else (columns, rows)
        device = original.weight.device
        self.A = nn.Parameter(torch.empty(r, inputs, device=device))
        self.B = nn.Parameter(torch.zeros(outputs, r, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.scaling = alpha / r
        self.dropout = nn.Dropout(dropout)
        self.unmerged: torch.Tensor | None = None
        """The original W while B·A is merged into it."""

    @property
    def weight(self) -> torch.Tensor:
        """W; some models read its dtype."""
        return self.original.weight

    @property
    def bias(self) -> torch.Tensor | None:
        return self.original.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] -> y [..., out], in the dtype of W·x."""
        y: torch.Tensor = self.original(x)
        if self.unmerged is not None:
            return y
        h = x if torch.is_autocast_enabled(x.device.type) else x.to(self.A.dtype)
        change = functional.linear(functional.linear(self.dropout(h), self.A), self.B)
        return (y + change * self.scaling).to(y.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """W ← W + s·B·A, added in float32 and then rounded to W's dtype. Nothing trains while it is merged."""
        if self.unmerged is None:
            weight = self.original.weight
            self.unmerged = weight.detach().clone()
            change = self.B @ self.A * self.scaling  # [out, in]
            weight.copy_(weight.float() + (change.T if self.transposed else change))

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore W. Subtracting s·B·A would leave rounding errors."""
        if self.unmerged is not None:
            self.original.weight.copy_(self.unmerged)
            self.unmerged = None


def apply(model: PreTrainedModel, spec: LoraFromScratchSpec, facts: TaskModel) -> PreTrainedModel:
    """The frozen model with each target wrapped in a `LoRALayer`; A, B and the head train."""
    model.requires_grad_(False)
    for target in spec.targets(facts):
        original = model.get_submodule(target.name)
        assert isinstance(original, nn.Linear | Conv1D)  # noqa: S101 that is what `facts` lists
        model.set_submodule(target.name, LoRALayer(original, spec.r, spec.lora_alpha, spec.lora_dropout))
    for name, parameter in model.named_parameters():
        if facts.in_head(name):
            parameter.requires_grad = True
    return model


def companion(model: PreTrainedModel, spec: LoraFromScratchSpec, total_steps: int) -> None:
    return


def change(
    model: PreTrainedModel, spec: LoraFromScratchSpec, layer: LinearFacts, base_model: Callable[[], nn.Module]
) -> Change:
    """s·B·A."""
    adapted = model.get_submodule(layer.name)
    assert isinstance(adapted, LoRALayer)  # noqa: S101 it is a target
    b, a = adapted.B.detach().double() * adapted.scaling, adapted.A.detach().double()
    return Change(matrix(adapted.weight, layer.transposed), Product(b, a))


def saved_tensors(model: PreTrainedModel, spec: LoraFromScratchSpec) -> dict[str, torch.Tensor]:
    """A, B and the head under PEFT's names."""
    peft = {".A": ".lora_A.weight", ".B": ".lora_B.weight"}
    own = {f"{name}{part}": f"{name}{peft[part]}" for name in _layers(model) for part in peft}
    return {f"{WRAPPED}.{own.get(name, name)}": tensor for name, tensor in trained(model).items()}


def save(model: PreTrainedModel, processor: Any, run: RunSpec, directory: Path) -> Path:
    """A, B and the head under PEFT's names, with a `LoraConfig` that describes them."""
    folder, spec = directory / "adapter", run.method
    assert isinstance(spec, LoraFromScratchSpec)  # noqa: S101 the mechanism is chosen by the method
    layers = _layers(model)
    LoraConfig(
        task_type=TASKS[run.task].PEFT_TYPE,
        base_model_name_or_path=run.base_model,
        inference_mode=True,
        r=spec.r,
        lora_alpha=spec.lora_alpha,
        lora_dropout=spec.lora_dropout,
        target_modules=list(layers),
        modules_to_save=head_names(model, run.task) or None,
        fan_in_fan_out=all(layer.transposed for layer in layers.values()),
    ).save_pretrained(str(folder))
    sort_adapter_config(folder)
    tensors = {name: tensor.contiguous() for name, tensor in saved_tensors(model, spec).items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _layers(model: PreTrainedModel) -> dict[str, LoRALayer]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALayer)}
