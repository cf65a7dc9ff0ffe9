"""Give a base model what a run trained: the weights of full fine-tuning, or LoRA's update of its layers.

A run trained the model with a head, whose names have one more part in front: `bert.encoder…`, `model.layers…`.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers.pytorch_utils import Conv1D

from app.domain.messages import _
from worker.engine.baselines.small_model import impossible
from worker.features.lab.layers import linear_layer

PEFT_PREFIX, A, B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


def take_weights(model: nn.Module, file: Path) -> None:
    """Replace the model's weights by those of a file. Raises `RunFailed` if the file lacks a weight that the forward
    pass uses."""
    own = dict(model.named_parameters())
    with torch.no_grad(), safe_open(str(file), "pt") as stored:
        for name in stored.keys():  # noqa: SIM118 a file, not a mapping
            known = next((n for n in (name, name.partition(".")[2]) if n in own), None)
            if known is not None:
                own.pop(known).copy_(stored.get_tensor(name))
    if lacking := [name for name in own if not name.startswith("pooler.")]:
        raise impossible(_("The weights of the run lack %(name)s of the base model.", name=lacking[0]))


def add_lora(model: nn.Module, file: Path, scale: float) -> None:
    """Add scale · B·A to every layer that an adapter names. Raises `RunFailed` if the model lacks one."""
    with torch.no_grad(), safe_open(str(file), "pt") as stored:
        for name in stored.keys():  # noqa: SIM118 a file, not a mapping
            if not name.endswith(A):
                continue
            layer = linear_layer(model, name.removeprefix(PEFT_PREFIX).removesuffix(A))
            update = scale * (stored.get_tensor(name.removesuffix(A) + B).float() @ stored.get_tensor(name).float())
            layer.weight.add_(update.T if isinstance(layer, Conv1D) else update)
