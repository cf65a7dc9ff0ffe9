"""The parts of a transformer in the order in which a text passes through them, with shapes and parameters.

ids [n] → embeddings → (attention → feed-forward) × blocks → head      n: tokens
"""

from dataclasses import dataclass
from math import prod

from app.domain.models.architecture import ParameterFacts, TaskModel
from app.features.lab.rules.techniques import EMBEDDING, NORM

BLOCK_PARTS = EMBEDDINGS, ATTENTION, FEED_FORWARD, HEAD, NORMS = (
    "embeddings",
    "attention",
    "feed-forward",
    "head",
    "norms",
)
"""The last one is the normalization before or after the others, wherever it stands."""


@dataclass(frozen=True)
class Matrix:
    """Matrices of the same name and shape, one in each block or one in the model."""

    name: str
    """Without the block: `attention.self.query`."""
    shape: tuple[int, ...]
    count: int

    @property
    def parameters(self) -> int:
        """Of all of them."""
        return self.count * prod(self.shape)


@dataclass(frozen=True)
class BlockPart:
    """A part of the model, over all its blocks."""

    name: str
    """One of `BLOCK_PARTS`."""
    parameters: int
    matrices: tuple[Matrix, ...]
    """Its weights of two dimensions or more, [out, in]; the other parameters are vectors."""


def block_parts(model: TaskModel) -> tuple[BlockPart, ...]:
    """Its parts, which together have all parameters. A head without any uses the matrix of the embeddings."""
    found: dict[str, list[ParameterFacts]] = {part: [] for part in BLOCK_PARTS}
    for parameter in model.parameters:
        found[_part_of(model, parameter.name)].append(parameter)
    return tuple(_part(model, name, parameters) for name, parameters in found.items())


def _part_of(model: TaskModel, name: str) -> str:
    """By the block, and by the names that architectures share."""
    low = name.lower()
    if any(word in low.rpartition(".")[0].rpartition(".")[2] for word in NORM) and not model.in_head(name):
        return NORMS
    if model.block_of(name) is not None:
        return ATTENTION if model.in_attention(name) else FEED_FORWARD
    return EMBEDDINGS if any(word in low for word in EMBEDDING) and not model.in_head(name) else HEAD


def _part(model: TaskModel, name: str, parameters: list[ParameterFacts]) -> BlockPart:
    counts: dict[tuple[str, tuple[int, ...]], int] = {}
    transposed = {layer.name for layer in model.linear if layer.transposed}
    for parameter in parameters:
        if len(parameter.shape) < 2:
            continue
        module, block = parameter.name.removesuffix(".weight"), model.block_of(parameter.name)
        shape = parameter.shape[::-1] if module in transposed else parameter.shape
        if block is not None:
            module = module.removeprefix(f"{model.blocks[block]}.")
        counts[module, shape] = counts.get((module, shape), 0) + 1
    matrices = tuple(Matrix(module, shape, count) for (module, shape), count in counts.items())
    return BlockPart(name, sum(parameter.size for parameter in parameters), matrices)
