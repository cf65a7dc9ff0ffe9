"""The mechanisms by which methods are carried out. What a method is and what it trains stands in `app.domain.methods`.

To add a method that PEFT carries out, or that only selects parameters, nothing is needed here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.methods import Mechanism
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.runs.spec import RunSpec
from worker.engine.evaluation.change import Change
from worker.engine.methods import bottleneck, peft, scratch, selection

Untouched = Callable[[], nn.Module]


class Companion(Protocol):
    """What a method does beside the optimizer, once for each of its steps (AdaLoRA moves ranks about)."""

    def penalty(self) -> torch.Tensor:
        """Added to the loss of a step, once: a scalar with a gradient."""

    def after_step(self, step: int) -> None:
        """Called after the optimizer's step `step`, from 1, while the gradients are still there."""

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint must hold of it."""

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from there."""


class MechanismFile(Protocol):
    """What a file in this package holds."""

    def apply(self, model: PreTrainedModel, spec: Any, facts: TaskModel) -> nn.Module:
        """The model that trains, with `requires_grad` set; the forward pass is still the base model's. `facts` describe
        the untouched `model`. Raises `RunFailed(bad_configuration)`."""

    def companion(self, model: Any, spec: Any, total_steps: int) -> Companion | None:
        """What goes along with the training of `model`, or None."""

    def kept(self, model: Any, spec: Any) -> dict[str, torch.Tensor]:
        """The tensors of the file that `save` writes, under the names that they have in it; of a model of fake tensors
        as of one that has trained."""

    def save(self, model: Any, tokenizer: PreTrainedTokenizerBase, run: RunSpec, directory: Path) -> Path:
        """Write what one keeps, into a folder of `directory` called `adapter` or `model`; returns that folder."""

    def change(self, model: Any, spec: Any, layer: LinearFacts, untouched: Untouched) -> Change:
        """How training changed the matrix of one of `spec.changed_layers`. Leaves `model` as it is; `untouched` gives
        the base model, which is loaded at its first use."""


MECHANISMS: dict[Mechanism, MechanismFile] = {
    "selection": selection,
    "peft": peft,
    "bottleneck": bottleneck,
    "scratch": scratch,
}
