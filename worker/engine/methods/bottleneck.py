"""Bottleneck adapters behind the projections of every block (Houlsby et al. 2019, Pfeiffer et al. 2020).

    y = x + W_up·f(W_down·x + b_down) + b_up        x, y [..., d]    W_down [m, d]    W_up [d, m]

`app.domain.methods.adapters` gives the positions, the shapes and the papers. An adapter is a child of the projection
that it follows, and a hook passes the projection's output through it: the base model keeps its classes and tensor
names. To load the saved adapters into a fresh model with the same labels:

    from worker.engine.methods.bottleneck import load
    model = load(AutoModelForSequenceClassification.from_pretrained(base_model, num_labels=…), "adapter")
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from app.domain.methods.adapters import BottleneckAdapterSpec
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.runs.spec import RunSpec
from app.domain.tasks import Task
from worker.engine.evaluation.change import Change
from worker.engine.methods import tensors
from worker.engine.models.architecture import describe

NON_LINEARITIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


class Adapter(nn.Module):
    """y = x + up(dropout(f(down(x)))), in float32 unless autocast; y has x's dtype."""

    def __init__(self, width: int, spec: BottleneckAdapterSpec, device: torch.device) -> None:
        super().__init__()
        self.down = nn.Linear(width, spec.bottleneck_size, device=device)
        self.up = nn.Linear(spec.bottleneck_size, width, device=device)
        self.f = NON_LINEARITIES[spec.non_linearity]
        self.dropout = nn.Dropout(spec.adapter_dropout)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        # With W_up and b_up at zero, the first forward pass is bit-identical to the base model's.
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., d] -> y [..., d]."""
        h = x if torch.is_autocast_enabled(x.device.type) else x.to(self.down.weight.dtype)
        change: torch.Tensor = self.up(self.dropout(self.f(self.down(h))))
        return x + change.to(x.dtype)


def apply(model: PreTrainedModel, spec: BottleneckAdapterSpec, facts: TaskModel) -> PreTrainedModel:
    """The frozen model with an adapter at every position; adapters and head train."""
    model.requires_grad_(False)
    for layer, _ in spec.places(facts):
        projection = model.get_submodule(layer.name)
        device = next(projection.parameters()).device
        projection.add_module("adapter", Adapter(layer.out_features, spec, device))
        projection.register_forward_hook(_through_adapter)
    for name, parameter in model.named_parameters():
        if facts.in_head(name):
            parameter.requires_grad = True
    return model


def _through_adapter(projection: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
    adapted: torch.Tensor = projection.get_submodule("adapter")(output)
    return adapted


def companion(model: PreTrainedModel, spec: BottleneckAdapterSpec, total_steps: int) -> None:
    return


def change(
    model: PreTrainedModel, spec: BottleneckAdapterSpec, layer: LinearFacts, base_model: Callable[[], nn.Module]
) -> Change:
    """Never called: `spec.changed_layers` is empty."""
    raise NotImplementedError


def saved_tensors(model: PreTrainedModel, spec: BottleneckAdapterSpec) -> dict[str, torch.Tensor]:
    return tensors.trained(model)


def save(model: PreTrainedModel, processor: Any, run: RunSpec, directory: Path) -> Path:
    """Write adapters and head to `adapter/bottleneck.safetensors`, and their description to
    `adapter/bottleneck.json`."""
    usage = f"adapters and head of {type(model).__name__}, load with worker.engine.methods.bottleneck.load"
    return tensors.save(model, run, directory / "adapter", "bottleneck", usage)


def load(base_model: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """Load saved adapters, and the head that trained with them, into a fresh base model with the same labels.

    Raises ValueError if the tensor names do not match, and RuntimeError if a shape differs.
    """
    about = json.loads((Path(folder) / "bottleneck.json").read_text(encoding="utf-8"))
    task: Task = TypeAdapter(Task).validate_python(about["task"])
    spec = BottleneckAdapterSpec.model_validate(about["method"])
    model = apply(base_model, spec, describe(base_model, task))
    stored = load_file(Path(folder) / "bottleneck.safetensors")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    if odd := sorted(stored.keys() ^ trained):
        raise ValueError(
            f"{type(base_model).__name__} and the saved adapters differ in {odd[0]}: choose the base model"
        )
    model.load_state_dict(stored, strict=False)
    return model
