"""A base model with the head of a task, as the methods see it: parameters, linear layers, blocks. No weights.

An inspection fills it in from tensors on torch's `meta` device, which have shapes and no memory. It determines, before
anything is loaded, what each method changes and trains; the freeze audit compares the model in training with it.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from app.domain.tasks import Task

ATTENTION = ("attn", "attention")
"""In the name of a module that contains the projections of an attention layer."""
LABELS = -1
"""Placeholder in a shape for the number of labels."""


class Tensor(NamedTuple):
    """A parameter that trains."""

    name: str
    """As in `named_parameters()` of the model in training."""
    shape: tuple[int, ...]
    group: str
    """A readable group for counts and for the audit: `lora_A of query`, `classifier`."""
    may_return: bool = False
    """The method may reset it to its initial value."""

    @property
    def size(self) -> int:
        return prod(self.shape)


class ParameterFacts(BaseModel):
    """One parameter of the base model; tied parameters occur once."""

    model_config = ConfigDict(frozen=True)

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)


class LinearFacts(BaseModel):
    """One linear layer of a base model: y [out] = W [out, in] · x [in]."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Full dotted name, `bert.encoder.layer.0.attention.self.query`."""
    in_features: int
    out_features: int
    bias: bool = True
    transposed: bool = False
    """The weight is stored as [in, out] (GPT-2's Conv1D)."""


class TaskModel(BaseModel):
    """A base model with the head of a task."""

    model_config = ConfigDict(frozen=True)

    task: Task
    architecture: str
    """Class of the whole model, `BertForSequenceClassification`."""
    model_type: str
    parameters: list[ParameterFacts]
    head: list[str]
    """Parts that the task adds and that start from random weights, by attribute name: `classifier`. Empty for language
    models, whose head comes with the checkpoint."""
    linear: list[LinearFacts]
    """Every linear layer of the base model, in order; neither the head nor the projection onto the vocabulary."""
    blocks: list[str]
    """Transformer blocks in the order of the forward pass (`bert.encoder.layer.0`); an encoder's come first."""
    behind: list[str] | None = None
    """Modules that run only after the last block, including the head's; None if no forward pass was possible."""
    hidden_size: int
    """Width of a token's vector; of the decoder where the two differ."""
    layers: int
    """Blocks of the decoder, or of the encoder where there is no decoder."""
    attention_heads: int
    key_value_heads: int
    """Heads with keys and values of their own; several heads of attention may share one."""
    key_value_width: int
    """Width of a token's keys in one layer: key-value heads × width of a head."""
    encoder_decoder: bool = False
    rope_scaling: str = ""
    """How rotary embeddings are scaled for longer texts, by transformers' name (`llama3`, `yarn`); empty without."""
    default_targets: dict[str, list[str]]
    """PEFT's default target modules for this architecture, by PEFT type in lower case (`lora`, `ia3`, `vera`, …) and
    `ia3_feedforward`; types without a default are missing."""

    def with_labels(self, labels: int) -> "TaskModel":
        """The same with the number of labels filled in."""
        if not self.head:
            return self
        filled = [
            p.model_copy(update={"shape": tuple(labels if d == LABELS else d for d in p.shape)})
            for p in self.parameters
        ]
        return self.model_copy(update={"parameters": filled})

    @property
    def total(self) -> int:
        """Number of parameters with the head."""
        return sum(p.size for p in self.parameters)

    def in_head(self, name: str) -> bool:
        """Whether a parameter or module belongs to the new head."""
        return name.split(".")[0] in self.head

    @property
    def head_parameters(self) -> list[ParameterFacts]:
        return [p for p in self.parameters if self.in_head(p.name)]

    def block_of(self, name: str) -> int | None:
        """Which block a parameter or module belongs to, from 0."""
        return next((i for i, block in enumerate(self.blocks) if name.startswith(f"{block}.")), None)

    def in_attention(self, name: str) -> bool:
        """Whether a module is part of a block's attention, by the names of the modules that contain it."""
        block = self.block_of(name)
        if block is None:
            return False
        containers = name.removeprefix(f"{self.blocks[block]}.").lower().split(".")[:-1]
        return any(part in container for container in containers for part in ATTENTION)

    def follows_blocks(self, name: str) -> bool:
        """Whether a parameter is used only after the last block: a final norm's, a pooler's. A projection onto the
        vocabulary that is tied to the embeddings counts as an embedding. If the forward pass is unknown, the order in
        which the model declares its parameters decides."""
        if self.behind is not None:
            return name.rpartition(".")[0] in self.behind
        names = [p.name for p in self.parameters]
        last = max((i for i, n in enumerate(names) if self.block_of(n) is not None), default=-1)
        return self.block_of(name) is None and names.index(name) > last

    @property
    def has_bias(self) -> bool:
        """Whether any module outside the head has a bias vector."""
        return any(p.name.endswith(".bias") for p in self.parameters if not self.in_head(p.name))


def matching(targets: Sequence[str], modules: Iterable[LinearFacts]) -> list[LinearFacts]:
    """The modules that a list of targets names, by PEFT's rule: the whole name, or its end after a dot."""
    return [m for m in modules if any(m.name == t or m.name.endswith(f".{t}") for t in targets)]


def short_names(modules: Iterable[LinearFacts]) -> list[str]:
    """The distinct last parts of module names, in order of appearance, as they are written in a list of targets."""
    return list(dict.fromkeys(m.name.rsplit(".", 1)[-1] for m in modules))
