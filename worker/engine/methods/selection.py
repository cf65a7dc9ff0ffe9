"""Selective fine-tuning: some of the model's own parameters train, the others are frozen; nothing is added.

    W ← W − η · AdamW(∂L/∂W)      for every W that the method selects

Full fine-tuning saves the whole model. A selection saves only the trained tensors; load them into a fresh model with
the same labels:

    model = AutoModelForSequenceClassification.from_pretrained(base_model, num_labels=…)
    model.load_state_dict(safetensors.torch.load_file("adapter/selection.safetensors"), strict=False)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from app.domain.methods.selection import Selection
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.runs.spec import RunSpec
from worker.engine.evaluation.change import Change, matrix
from worker.engine.methods import tensors


def apply(model: PreTrainedModel, spec: Selection, facts: TaskModel) -> PreTrainedModel:
    """The model with everything frozen except what the method selects."""
    chosen = {tensor.name for tensor in spec.trains(facts)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in chosen
    return model


def companion(model: PreTrainedModel, spec: Selection, total_steps: int) -> None:
    return


def change(model: PreTrainedModel, spec: Selection, layer: LinearFacts, base_model: Callable[[], nn.Module]) -> Change:
    """The difference from the base model's weight."""
    now, then = (source.get_submodule(layer.name).weight for source in (model, base_model()))
    assert isinstance(now, torch.Tensor) and isinstance(then, torch.Tensor)  # noqa: S101 they are linear layers
    before = matrix(then, layer.transposed).to(now.device)
    return Change(before, matrix(now, layer.transposed) - before)


def saved_tensors(model: PreTrainedModel, spec: Selection) -> dict[str, torch.Tensor]:
    """The whole model, each tensor once, if all of it trained; otherwise the trained tensors."""
    if not _all_train(model):
        return tensors.trained(model)
    twice = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in twice}


def save(model: PreTrainedModel, processor: Any, run: RunSpec, directory: Path) -> Path:
    """Save the whole model if all of it trained, otherwise the trained tensors."""
    if _all_train(model):
        return _save_model(model, processor, run, directory / "model")
    usage = f"tensors of {type(model).__name__}, load with strict=False"
    return tensors.save(model, run, directory / "adapter", "selection", usage)


def _all_train(model: PreTrainedModel) -> bool:
    return all(p.requires_grad for p in model.parameters())


def _save_model(model: PreTrainedModel, processor: Any, run: RunSpec, folder: Path) -> Path:
    # otherwise config.json would contain a path of this machine
    model.config._name_or_path = run.base_model
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
