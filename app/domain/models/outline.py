"""A model in a few lines: its modules and parameters; identical parts of all blocks are written once.

`bert.encoder.layer.0.attention.self.query` … `bert.encoder.layer.5.attention.self.query` become one line,
`bert.encoder.layer.*.attention.self.query`, in blocks 0 to 5.
"""

from collections.abc import Iterable
from typing import NamedTuple

from app.domain.models.architecture import TaskModel

ANY_BLOCK = "*"
"""Placeholder in a name for the block's number."""


class Folded(NamedTuple):
    """Modules whose names differ only in the block."""

    name: str
    """With `*` for the number; outside the blocks, the full name."""
    blocks: tuple[int, ...]
    """Numbers of the blocks within their stack, in order; empty outside the blocks."""


class Layer(NamedTuple):
    """A linear layer, in all blocks where it has the same shape."""

    name: str
    blocks: tuple[int, ...]
    out_features: int
    in_features: int
    bias: bool
    parameters: int
    """Parameters of all blocks together."""


class Group(NamedTuple):
    """A group of parameters: a stack of blocks, or another part."""

    name: str
    blocks: int
    """Number of blocks; 0 for other parts."""
    parameters: int
    new: bool
    """The task's head, which starts from random weights."""


def folded(names: Iterable[str], model: TaskModel) -> list[Folded]:
    """Modules, those of the blocks once, in order of appearance."""
    blocks: dict[str, list[int]] = {}
    for name in names:
        line, number = fold(name, model)
        blocks.setdefault(line, []).extend([] if number is None else [number])
    return [Folded(line, tuple(sorted(set(numbers)))) for line, numbers in blocks.items()]


def fold(name: str, model: TaskModel) -> tuple[str, int | None]:
    """A name without its block's number, and that number within its stack; None outside the blocks."""
    place = model.block_of(f"{name}.")
    if place is None:
        return name, None
    block = model.blocks[place]
    stack, _, number = block.rpartition(".")
    return f"{stack}.{ANY_BLOCK}{name.removeprefix(block)}", int(number)


def layers(model: TaskModel) -> list[Layer]:
    """Every linear layer of the base model, folded by block and shape."""
    places: dict[tuple[str, int, int, bool], list[int]] = {}
    for m in model.linear:
        line, number = fold(m.name, model)
        key = (line, m.out_features, m.in_features, m.bias)
        places.setdefault(key, []).append(-1 if number is None else number)
    return [
        Layer(
            line,
            tuple(n for n in numbers if n >= 0),
            out_features,
            in_features,
            bias,
            len(numbers) * (out_features * in_features + bias * out_features),
        )
        for (line, out_features, in_features, bias), numbers in places.items()
    ]


def groups(model: TaskModel) -> list[Group]:
    """All parameters by part: before the blocks, each stack of blocks, after them, the head."""
    sizes: dict[str, int] = {}
    stacks: dict[str, set[int]] = {}
    for p in model.parameters:
        line, number = fold(p.name, model)
        name = _part(p.name) if number is None else line.partition(f".{ANY_BLOCK}")[0]
        sizes[name] = sizes.get(name, 0) + p.size
        if number is not None:
            stacks.setdefault(name, set()).add(number)
    return [Group(name, len(stacks.get(name, ())), size, model.in_head(name)) for name, size in sizes.items()]


def _part(name: str) -> str:
    """`bert.embeddings` of `bert.embeddings.word_embeddings.weight`, `classifier` of `classifier.weight`."""
    parts = name.split(".")[:-1] or [name]
    return ".".join(parts[:2])
