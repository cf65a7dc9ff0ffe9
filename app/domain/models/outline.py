"""A model in a few lines: its modules and parameters, with what is the same in every block written once.

`bert.encoder.layer.0.attention.self.query` … `bert.encoder.layer.5.attention.self.query` become one line,
`bert.encoder.layer.*.attention.self.query`, in blocks 0 to 5.
"""

from collections.abc import Iterable
from typing import NamedTuple

from app.domain.models.architecture import TaskModel

ANY_BLOCK = "*"
"""Stands in a name for the block's number."""


class Folded(NamedTuple):
    """Modules whose names differ in nothing but the block that they are in."""

    name: str
    """With `*` for the number, or the whole name of a module outside of the blocks."""
    blocks: tuple[int, ...]
    """Numbers of the blocks within their stack, in order; none outside of the blocks."""


class Layer(NamedTuple):
    """A linear layer, in every block in which it has the same shape."""

    name: str
    blocks: tuple[int, ...]
    out_features: int
    in_features: int
    bias: bool
    parameters: int
    """Of all of them together."""


class Group(NamedTuple):
    """Parameters that belong together: a stack of blocks, or a part beside it."""

    name: str
    blocks: int
    """How many blocks, 0 for a part that is none."""
    parameters: int
    new: bool
    """It is the task's head, which starts from random weights."""


def folded(names: Iterable[str], model: TaskModel) -> list[Folded]:
    """Modules with those of the blocks written once, in order of appearance."""
    blocks: dict[str, list[int]] = {}
    for name in names:
        line, number = fold(name, model)
        blocks.setdefault(line, []).extend([] if number is None else [number])
    return [Folded(line, tuple(sorted(set(numbers)))) for line, numbers in blocks.items()]


def fold(name: str, model: TaskModel) -> tuple[str, int | None]:
    """A name with its block's number taken out, and that number within its stack; None outside of the blocks."""
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
    """All parameters: what stands before the blocks, each stack of them, what follows, the head."""
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
