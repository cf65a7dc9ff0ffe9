"""The mechanisms that implement the methods. `app.domain.methods` defines each method and what it trains.

A new method that PEFT implements, or that only selects parameters, needs no change here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from app.domain.methods import Mechanism
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.runs.spec import RunSpec
from worker.engine.evaluation.change import Change
from worker.engine.methods import bottleneck, peft, scratch, selection

BaseModelLoader = Callable[[], nn.Module]


class Companion(Protocol):
    """Acts once for each optimizer step, beside the optimizer (AdaLoRA reallocates ranks)."""

    def penalty(self) -> torch.Tensor:
        """A term added to the loss of a step, once: a scalar with a gradient."""

    def after_step(self, step: int) -> None:
        """Called after optimizer step `step`, from 1, while the gradients are still present."""

    def state(self) -> dict[str, torch.Tensor]:
        """The state to store in a checkpoint."""

    def restore(self, state: dict[str, torch.Tensor]) -> None: ...


class MechanismFile(Protocol):
    """The interface of a module in this package."""

    def apply(self, model: PreTrainedModel, spec: Any, facts: TaskModel) -> nn.Module:
        """The model that trains, with `requires_grad` set; its forward pass still equals the base model's. `facts`
        describe the base `model`. Raises `RunFailed(bad_configuration)`."""

    def companion(self, model: Any, spec: Any, total_steps: int) -> Companion | None:
        """The companion for training `model`, or None."""

    def saved_tensors(self, model: Any, spec: Any) -> dict[str, torch.Tensor]:
        """The tensors of the file that `save` writes, by their names in it; of a real model or of one of fake
        tensors."""

    def save(self, model: Any, processor: Any, run: RunSpec, directory: Path) -> Path:
        """Write the trained weights into a folder of `directory` called `adapter` or `model`, and return that
        folder."""

    def change(self, model: Any, spec: Any, layer: LinearFacts, base_model: BaseModelLoader) -> Change:
        """The weight delta of one of `spec.changed_layers`. Does not change `model`; `base_model` returns the base
        model, which is loaded on first use."""


MECHANISMS: dict[Mechanism, MechanismFile] = {
    "selection": selection,
    "peft": peft,
    "bottleneck": bottleneck,
    "scratch": scratch,
}
