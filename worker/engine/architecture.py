"""What a classification model is made of: a base model, a head, and linear layers that a method may adapt.

transformers puts the base model under one attribute, `base_model_prefix` (`bert`, `roberta`, `transformer`); every
other direct child is the head that classification adds. Some heads have several parts: DistilBERT's is
`pre_classifier` and `classifier`, DeBERTa's is `pooler` and `classifier`. All of them start from random weights, so all
of them must train.
"""

from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.methods import LinearFacts


def base_of(model: PreTrainedModel) -> nn.Module:
    """The base model under its head."""
    base = getattr(model, model.base_model_prefix)
    assert isinstance(base, nn.Module)  # noqa: S101 — a property of every transformers model
    return base


def head_names(model: PreTrainedModel) -> list[str]:
    """The parts of the head that have parameters, by attribute name."""
    return [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
    ]


def head_of(model: PreTrainedModel) -> nn.ModuleDict:
    """The head's parts together."""
    return nn.ModuleDict({name: model.get_submodule(name) for name in head_names(model)})


def linear_modules(model: PreTrainedModel) -> list[LinearFacts]:
    """Every linear layer of the base model, named from the base model's own root, in order."""
    found = []
    for name, module in base_of(model).named_modules():
        if isinstance(module, nn.Linear):
            shape = module.in_features, module.out_features
        elif isinstance(module, Conv1D):  # GPT-2's linear layer; its weight is stored transposed, [in, out]
            shape = module.weight.shape[0], module.weight.shape[1]
        else:
            continue
        found.append(LinearFacts(name=name, in_features=shape[0], out_features=shape[1], bias=module.bias is not None))
    return found


def default_target_modules(model_type: str) -> list[str]:
    """PEFT's own choice of layers for LoRA; empty if it has none for this architecture."""
    return list(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type, []))
