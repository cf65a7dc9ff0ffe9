"""A linear layer of a base model by its name in the model with a head."""

from torch import nn
from transformers.pytorch_utils import Conv1D

from app.domain.messages import _
from worker.engine.baselines.small_model import impossible


def linear_layer(model: nn.Module, name: str) -> nn.Linear | Conv1D:
    """`bert.encoder.layer.3.attention.self.query` of a model that may lack the first part. Raises `RunFailed`."""
    modules = dict(model.named_modules())
    for known in (name, name.partition(".")[2]):
        found = modules.get(known)
        if isinstance(found, nn.Linear | Conv1D):
            return found
    raise impossible(_("The base model has no linear layer %(name)s.", name=name))
