"""Weights that are NaN or infinite, as opposed to a training that diverges."""

import torch
from torch import nn

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _


def blamed_on_weights(error: RunFailed, base_model: nn.Module) -> RunFailed:
    """The error to raise for a failure before training: `error`, unless it is `diverged` because the base model's
    weights are not finite."""
    if error.code is not FailureCode.DIVERGED:
        return error
    for name, parameter in base_model.named_parameters():
        if parameter.is_floating_point() and not torch.isfinite(parameter).all():
            text = _(
                "The base model's weights contain NaN or infinite values (in %(name)s), before any training. Choose "
                "another revision, or save the model again.",
                name=name,
            )
            return RunFailed(FailureCode.MODEL_UNAVAILABLE, text)
    return error
