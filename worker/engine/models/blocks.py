"""The transformer blocks of any model."""

from torch import nn


def block_names(model: nn.Module) -> list[str]:
    """Names of the transformer blocks in order: the longest list of modules of one class that is in no other list."""
    lists: list[str] = []
    longest: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not name.startswith(tuple(f"{outer}." for outer in lists)):
            lists.append(name)
            if len(module) > len(longest) and len({type(block) for block in module}) == 1:
                longest = [f"{name}.{i}" for i in range(len(module))]
    return longest
