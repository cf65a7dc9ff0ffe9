"""The context of a model's module tree: what a method touches and trains in each module, and what that adds up to."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError

from app.domain.messages import Message
from app.domain.methods import SPECS, AnyMethod
from app.domain.methods.base import LinearMethod
from app.domain.models.adaptations import Adaptation, adaptation, adaptations, usual
from app.domain.models.architecture import TaskModel
from app.domain.models.base_model import ModelFacts
from app.domain.models.module_tree import Module, module_tree, targets_of, trains_in
from app.domain.tasks import Task
from app.web.forms.fields import MAX_TEXT, readable
from app.web.forms.sentences import sentences
from app.web.i18n import gettext as _
from app.web.pages.models.modules_form import ModulesForm
from app.web.text import methods
from app.web.text.methods import by_family


@dataclass(frozen=True)
class ModuleLine:
    """A module, or several that are alike."""

    module: Module
    trains: int
    """Parameters that train in it or beside it, and below it."""
    own: bool
    """They are the model's own; else they stand beside its frozen ones."""
    ticked: bool
    """A layer that the method adapts."""
    children: tuple["ModuleLine", ...]

    @property
    def times(self) -> int:
        """How many modules it stands for."""
        return len(self.module.names)

    @property
    def open(self) -> bool:
        """What is in it is shown at once: something trains there, or it is the way to that."""
        return any(child.trains for child in self.children)

    @property
    def choices(self) -> int:
        """Layers to choose that stand right below it; at least one where there are any further down."""
        right_below = sum(child.module.linear is not None for child in self.children)
        return right_below or int(any(True for _leaf in self.module.leaves()))


@dataclass(frozen=True)
class ModuleTree:
    """The tree, for a method."""

    name: str
    task: Task
    labels: int
    form: ModulesForm
    model: TaskModel
    adapted: Adaptation | None
    """What the method would do; None where its fields make no method."""
    lines: tuple[ModuleLine, ...]
    error: str
    beside: int
    """Parameters that train and belong to no module, such as virtual tokens."""

    @classmethod
    def of(cls, name: str, facts: ModelFacts, task: Task, labels: int, form: ModulesForm) -> "ModuleTree":
        """From the inspection and the address."""
        model = facts.task_model(task, labels)
        tree = module_tree(model)
        layers = form.layers(tree, model) if form.ticked else []
        spec, error = _spec(form, model, layers)
        adapted = adaptation(spec, model) if spec else None
        if adapted and adapted.incompatibility:
            error = adapted.incompatibility.sentence
        if form.ticked and form.targets_layers and not layers:
            error = _("No layer is ticked: choose at least one.")
        fits = spec is not None and not error
        trains = trains_in(spec, model) if spec and fits else {}
        ticked = set(layers)
        if spec and fits and not form.ticked and isinstance(spec, LinearMethod):
            ticked = {layer.name for layer in spec.targets(model)}
        own = spec is not None and spec.mechanism == "selection"
        lines = tuple(_line(module, trains, ticked, own) for module in tree)
        return cls(name, task, labels, form, model, adapted if fits else None, lines, error, trains.get("", 0))

    @property
    def offers(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The methods that fit, by family."""
        fitting = {found.facts.kind for found in adaptations(self.model) if found.incompatibility is None} | {
            self.form.method
        }
        found = ((title, [(f.kind, methods.name(f)) for f in offered]) for _family, title, offered in by_family())
        return [(title, able) for title, offered in found if (able := [o for o in offered if o[0] in fitting])]

    @property
    def usual_rank(self) -> int:
        """Where none is typed."""
        default: int = SPECS[self.form.method].model_fields["r"].default
        return default

    @property
    def targets(self) -> str:
        """`target_modules` as a form takes them; empty for methods without."""
        if self.adapted is None or not isinstance(self.adapted.spec, LinearMethod):
            return ""
        said = self.adapted.spec.target_modules
        if said is None:
            said = targets_of([layer.name for layer in self.adapted.spec.targets(self.model)], self.model)
        return said if isinstance(said, str) else ", ".join(said)

    @property
    def layers(self) -> int:
        """How many linear layers are adapted."""
        spec = self.adapted.spec if self.adapted else None
        return len(spec.targets(self.model)) if isinstance(spec, LinearMethod) else 0

    @property
    def take(self) -> str:
        """Address of the form of a study with this arm; empty where a form has no room for the list of layers."""
        if self.adapted is None or len(self.targets) > MAX_TEXT:
            return ""
        spec = self.adapted.spec
        method = {"kind": spec.facts.kind} | spec.model_dump(mode="json", exclude_defaults=True)
        said = {"base_model": self.name, "task": self.task, "set": json.dumps({"method": method})}
        return f"/studies/new?{urlencode(said)}"

    @cached_property
    def ids(self) -> dict[str, int]:
        """A number for each module that is shown, by key."""
        return {module.key: number for number, module in enumerate(_every(line.module for line in self.lines))}

    def id_of(self, module: Module) -> int:
        """Of a module."""
        return self.ids[module.key]

    @property
    def number_ids(self) -> str:
        """Selectors of what changes with a tick in every line."""
        return ",".join(f"#trains-{number}" for number in self.ids.values())

    @property
    def reset(self) -> str:
        """Address of the method's own choice."""
        return self.form.address(task=self.task, labels=str(self.labels))


def _every(modules: Iterable[Module]) -> Iterator[Module]:
    for module in modules:
        yield module
        yield from _every(module.children)


def _spec(form: ModulesForm, model: TaskModel, layers: Sequence[str]) -> tuple[AnyMethod | None, str]:
    """The method with the chosen rank and layers; or why there is none."""
    plain = usual(form.method, model)
    changes: dict[str, Any] = {}
    if form.ranked and form.rank:
        changes["r"] = readable(form.rank)
    if form.ticked and form.targets_layers and layers:
        changes["target_modules"] = targets_of(layers, model)
    try:
        return SPECS[form.method].model_validate(plain.model_dump() | changes), ""
    except ValidationError as error:
        return None, Message.joined(found.sentence for found in sentences(error.errors()))


def _line(module: Module, trains: Mapping[str, int], ticked: set[str], own: bool) -> ModuleLine:
    children = tuple(_line(child, trains, ticked, own) for child in module.children)
    here = sum(trains.get(name, 0) for name in module.names)
    return ModuleLine(
        module=module,
        trains=here + sum(child.trains for child in children),
        own=own or module.new,
        ticked=module.linear is not None and ticked.issuperset(module.names),
        children=children,
    )
