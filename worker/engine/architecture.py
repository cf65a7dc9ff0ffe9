"""What a model is made of, read off the model itself: a base model, a head, blocks, linear layers.

transformers puts the base model under one attribute, `base_model_prefix` (`bert`, `roberta`, `transformer`); of a
classifier every other direct child is the head that classification adds. Some heads have several parts: DistilBERT's
is `pre_classifier` and `classifier`, DeBERTa's is `pooler` and `classifier`. All of them start from random weights, so
all of them must train. A language model's head is its projection onto the vocabulary, which its checkpoint brings.
"""

import peft.utils.constants as peft_tables
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.tasks import Task
from worker.engine.quantization import shape

_TARGETS = "TRANSFORMERS_MODELS_TO_"


def describe(model: PreTrainedModel, task: Task) -> TaskModel:
    """A model as the methods see it; real or on `meta`, before any method is applied to it."""
    config = model.config
    head = head_names(model, task)
    lists = _block_lists(model)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    return TaskModel(
        task=task,
        architecture=type(model).__name__,
        model_type=config.model_type,
        parameters=[ParameterFacts(name=name, shape=shape(p)) for name, p in model.named_parameters()],
        head=head,
        linear=_linear(model, head),
        blocks=[block for blocks in lists for block in blocks],
        hidden_size=config.hidden_size,
        layers=len(lists[-1]) if lists else 0,
        attention_heads=heads,
        key_value_width=(getattr(config, "num_key_value_heads", None) or heads) * width,
        encoder_decoder=bool(config.is_encoder_decoder),
        default_targets=default_targets(config.model_type),
    )


def head_names(model: PreTrainedModel, task: Task) -> list[str]:
    """The parts that the task adds and that have parameters, by attribute name; none for language models."""
    if task != "sequence-classification":
        return []
    return [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
    ]


def default_targets(model_type: str) -> dict[str, list[str]]:
    """PEFT's own choice of modules for an architecture, by PEFT type in lower case; `ia3_feedforward` beside `ia3`."""
    found = {}
    for name, table in vars(peft_tables).items():
        if name.startswith(_TARGETS) and isinstance(table, dict) and model_type in table:
            chosen = table[model_type]
            kind = name.removeprefix(_TARGETS).removesuffix("_MODULES_MAPPING").removesuffix("_TARGET").lower()
            if isinstance(chosen, list):
                found[kind] = chosen
    return found


def _linear(model: PreTrainedModel, head: list[str]) -> list[LinearFacts]:
    """Every linear layer of the base model: neither the head nor the projection onto the vocabulary."""
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    found = []
    for name, module in model.named_modules():
        if module is output or name.split(".")[0] in head:
            continue
        if isinstance(module, nn.Linear):
            shape, transposed = (module.in_features, module.out_features), False
        elif isinstance(module, Conv1D):  # GPT-2's linear layer; its weight is stored as [in, out]
            shape, transposed = (module.weight.shape[0], module.weight.shape[1]), True
        else:
            continue
        found.append(
            LinearFacts(
                name=name,
                in_features=shape[0],
                out_features=shape[1],
                bias=module.bias is not None,
                transposed=transposed,
            )
        )
    return found


def _block_lists(model: PreTrainedModel) -> list[list[str]]:
    """The stacks of transformer blocks: the longest list of equal modules, or two of one kind in an encoder-decoder."""
    stacks = [
        [f"{name}.{i}" for i in range(len(module))]
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module)
        and len({type(block) for block in module}) == 1
        # A list within a block (T5's sublayers, experts) is no stack of blocks.
        and not any(part.isdigit() for part in name.split("."))
    ]
    if model.config.is_encoder_decoder:
        return stacks
    return [max(stacks, key=len)] if stacks else []
