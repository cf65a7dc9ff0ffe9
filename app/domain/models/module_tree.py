"""A model as a tree of its modules; identical neighbours are folded into one: `encoder.layer.0-11`, 12 times.

Two modules are identical if everything below them is: names, shapes, linear layers. So a first block with an additional
table is a line of its own, and a model with thousands of modules becomes some dozens of lines, in linear time.

A folded module has a key, its name with ranges for numbers (`bert.encoder.layer.0-5.attention.self.query`), which
identifies it in an address.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from app.domain.methods import AnyMethod
from app.domain.methods.base import WRAPPED
from app.domain.methods.targets import ALL_LINEAR, chosen
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.models.patterns import LONGEST

LONG_LIST = 100
"""Characters of a list of targets; a longer one is written as a pattern."""


@dataclass(frozen=True)
class Module:
    """Identical modules."""

    key: str
    label: str
    """Its own part of the key; of a chain of modules with a single child each, the parts of all."""
    names: tuple[str, ...]
    linear: LinearFacts | None
    """The first module, if a method can adapt them as linear layers."""
    parameters: int
    """Of all its modules, with those below."""
    new: bool
    """Part of the task's head."""
    children: tuple["Module", ...]

    def leaves(self) -> Iterator["Module"]:
        """The linear layers in it."""
        if self.linear is not None:
            yield self
        for child in self.children:
            yield from child.leaves()


@dataclass
class _Raw:
    """One module, unfolded."""

    name: str
    own: list[ParameterFacts] = field(default_factory=list)
    children: dict[str, "_Raw"] = field(default_factory=dict)
    alike: int = 0
    """The same number for identical modules."""


def module_tree(model: TaskModel) -> tuple[Module, ...]:
    """The top-level modules with everything below them."""
    root = _Raw("")
    for parameter in model.parameters:
        at = root
        *path, _last = parameter.name.split(".")
        for part in path:
            at = at.children.setdefault(part, _Raw(f"{at.name}.{part}" if at.name else part))
        at.own.append(parameter)
    linear = {layer.name: layer for layer in model.linear}
    _compare(root, linear, {})
    return tuple(_folded([root], "", model, linear))


def _compare(raw: _Raw, linear: Mapping[str, LinearFacts], shapes: dict[object, int]) -> None:
    for child in raw.children.values():
        _compare(child, linear, shapes)
    layer = linear.get(raw.name)
    shape = (
        tuple((p.name.rpartition(".")[2], p.shape) for p in raw.own),
        layer and (layer.in_features, layer.out_features, layer.bias, layer.transposed),
        tuple((name, child.alike) for name, child in raw.children.items()),
    )
    raw.alike = shapes.setdefault(shape, len(shapes))


def _folded(parents: Sequence[_Raw], key: str, model: TaskModel, linear: Mapping[str, LinearFacts]) -> Iterator[Module]:
    first = parents[0].children
    for _alike, group in groupby(
        first, key=lambda name: (name.isdecimal() and first[name].alike, name.isdecimal() or name)
    ):
        names = list(group)
        label = names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"
        raws = [parent.children[name] for parent in parents for name in names]
        yield _module(raws, label, f"{key}.{label}" if key else label, model, linear)


def _module(raws: Sequence[_Raw], label: str, key: str, model: TaskModel, linear: Mapping[str, LinearFacts]) -> Module:
    children = tuple(_folded(raws, key, model, linear))
    if len(children) == 1 and not raws[0].own and raws[0].name not in linear:
        [only] = children
        return Module(
            only.key, f"{label}.{only.label}", only.names, only.linear, only.parameters, only.new, only.children
        )
    own = len(raws) * sum(p.size for p in raws[0].own)
    return Module(
        key=key,
        label=label,
        names=tuple(raw.name for raw in raws),
        linear=linear.get(raws[0].name),
        parameters=own + sum(child.parameters for child in children),
        new=model.in_head(raws[0].name),
        children=children,
    )


def chosen_layers(tree: Iterable[Module], keys: Collection[str]) -> list[str]:
    """Full names of the linear layers below the modules with these keys; unknown keys are ignored."""
    ticked = set(keys)
    return [
        name
        for module in tree
        for name in (
            [name for leaf in module.leaves() for name in leaf.names]
            if module.key in ticked
            else chosen_layers(module.children, ticked)
        )
    ]


def targets_of(layers: Sequence[str], model: TaskModel) -> list[str] | str:
    """`target_modules` for exactly these linear layers: "all-linear", or the shortest unambiguous ends of their names.
    Instead of a long list, a pattern with any number in place of theirs, if it selects the same layers."""
    chosen_names, every = set(layers), [m.name for m in model.linear]
    if chosen_names == set(every):
        return ALL_LINEAR
    ends_of_others: set[str] = set()
    for name in every:
        if name not in chosen_names:
            ends_of_others.update(_ends(name))
    targets = list(dict.fromkeys(next(end for end in _ends(name) if end not in ends_of_others) for name in layers))
    if len(", ".join(targets)) > LONG_LIST:
        kinds = dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", r"\\d+", end).replace(".", r"\.") for end in targets)
        pattern = rf"(?:.*\.)?(?:{'|'.join(kinds)})"
        if len(pattern) <= LONGEST and {m.name for m in chosen(pattern, model.linear)} == chosen_names:
            return pattern
    return targets


def _ends(name: str) -> list[str]:
    """`query`, `self.query`, …, the whole name."""
    parts = name.split(".")
    return [".".join(parts[at:]) for at in range(len(parts) - 1, -1, -1)]


def trains_in(spec: AnyMethod, model: TaskModel) -> dict[str, int]:
    """Number of parameters that a method trains in each module of the base model, by full name.

    Parameters that belong to no module, such as virtual tokens, have the empty name.
    """
    modules = {name for p in model.parameters for name in _above(p.name)}
    trainable: dict[str, int] = {}
    for tensor in spec.trains(model):
        name = tensor.name.removeprefix(f"{WRAPPED}.")
        owner = next((above for above in _above(name) if above in modules), "")
        trainable[owner] = trainable.get(owner, 0) + tensor.size
    return trainable


def _above(name: str) -> Iterator[str]:
    """The modules that contain a parameter, the innermost first."""
    while name := name.rpartition(".")[0]:
        yield name
