"""Count a model's parameters and its trainable parameters."""

from collections.abc import Mapping
from math import prod

from torch import nn

from app.domain.runs.result import Parameters
from worker.engine.models.quantized.quantization import shape


def count(model: nn.Module, groups: Mapping[str, str]) -> Parameters:
    """Count the model's parameters; a tied one counts once, a packed one with its unpacked size. `groups` gives the
    group of each trainable one."""
    by_group: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_group[groups[name]] = by_group.get(groups[name], 0) + parameter.numel()
    total = sum(prod(shape(p)) for p in model.parameters())
    return Parameters(total=total, trainable=sum(by_group.values()), by_module=by_group)
