"""The context of a model's module tree: what a method changes and trains in each module, and in total."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from app.domain.errors import Invalid
from app.domain.methods import SPECS, AnyMethod, Family, MethodFacts
from app.domain.methods.base import LinearMethod
from app.domain.methods.targets import PEFT_DEFAULT
from app.domain.models.adaptations import Adaptation, adaptation, usual
from app.domain.models.architecture import TaskModel
from app.domain.models.module_tree import Module, module_tree, targets_of, trains_in
from app.web.forms.errors import validated
from app.web.forms.fields import readable
from app.web.forms.sent import MAX_TEXT
from app.web.pages.models.methods import TaskMethods
from app.web.pages.models.modules_form import ModulesForm
from app.words.i18n import gettext as _
from app.words.models.methods import by_family


@dataclass(frozen=True)
class ModuleLine:
    """A module, or several identical ones."""

    module: Module
    trains: int
    """Trainable parameters in it, added to it, and below it."""
    own: bool
    """They are the model's own; otherwise the method adds them."""
    ticked: bool
    """The method adapts this layer."""
    children: tuple["ModuleLine", ...]

    @property
    def times(self) -> int:
        return len(self.module.names)

    @property
    def open(self) -> bool:
        """Whether its children are shown at once: something below them trains."""
        return any(child.trains for child in self.children)

    @property
    def choices(self) -> int:
        """Number of selectable layers directly below it; at least 1 if there are any further down."""
        right_below = sum(child.module.linear is not None for child in self.children)
        return right_below or int(any(True for _leaf in self.module.leaves()))


@dataclass(frozen=True)
class ModuleTree:
    chosen: TaskMethods
    form: ModulesForm
    adapted: Adaptation | None
    """What the method would do; None where its fields make no method."""
    lines: tuple[ModuleLine, ...]
    error: str
    beside: int
    """Parameters that train and belong to no module, such as virtual tokens."""

    @classmethod
    def of(cls, chosen: TaskMethods, form: ModulesForm) -> "ModuleTree":
        model = chosen.model
        tree = module_tree(model)
        layers = form.layers(tree, model) if form.ticked else []
        spec, error = _spec(form, model, layers)
        adapted = adaptation(spec, model) if spec else None
        if adapted and adapted.incompatibility:
            error = adapted.incompatibility.sentence
        if form.ticked and form.targets_layers and not layers:
            error = _("No layer is ticked: choose at least one.")
        if error:
            spec = adapted = None
        trains = trains_in(spec, model) if spec else {}
        ticked = set(layers)
        if spec and not form.ticked and isinstance(spec, LinearMethod):
            ticked = {layer.name for layer in spec.targets(model)}
        own = spec is not None and spec.mechanism == "selection"
        lines = tuple(_line(module, trains, ticked, own) for module in tree)
        return cls(chosen, form, adapted, lines, error, trains.get("", 0))

    @property
    def families(self) -> list[tuple[Family, str, list[MethodFacts]]]:
        """The compatible methods and the chosen one, by family."""
        compatible = {adapted.facts.kind for adapted in self.chosen.methods if adapted.incompatibility is None}
        return by_family(compatible | {self.form.method})

    @property
    def usual_rank(self) -> int:
        """The rank if none is typed."""
        default: int = SPECS[self.form.method].model_fields["r"].default
        return default

    @property
    def targets(self) -> str:
        """`target_modules` as typed into a form; empty for methods without."""
        if self.adapted is None or not isinstance(self.adapted.spec, LinearMethod):
            return ""
        targets, model = self.adapted.spec.target_modules, self.chosen.model
        if targets == PEFT_DEFAULT:
            targets = targets_of([layer.name for layer in self.adapted.spec.targets(model)], model)
        return targets if isinstance(targets, str) else ", ".join(targets)

    @property
    def layers(self) -> int:
        """How many linear layers are adapted."""
        spec = self.adapted.spec if self.adapted else None
        return len(spec.targets(self.chosen.model)) if isinstance(spec, LinearMethod) else 0

    @property
    def take(self) -> str:
        """Address of a new study with this arm; empty if the list of layers is too long for a form."""
        if self.adapted is None or len(self.targets) > MAX_TEXT:
            return ""
        spec = self.adapted.spec
        method = {"kind": spec.facts.kind} | spec.model_dump(mode="json", exclude_defaults=True)
        chosen = {"base_model": self.chosen.name, "task": self.chosen.task, "set": json.dumps({"method": method})}
        return f"/studies/new?{urlencode(chosen)}"

    @cached_property
    def ids(self) -> dict[str, int]:
        """A number for each module that is shown, by key."""
        return {module.key: number for number, module in enumerate(_every(line.module for line in self.lines))}

    @property
    def number_ids(self) -> str:
        """Selectors of the elements that change with a tick."""
        return ",".join(f"#trains-{number}" for number in self.ids.values())

    @property
    def reset(self) -> str:
        """Address with the method's default layers."""
        return self.form.address(task=self.chosen.task, labels=str(self.chosen.labels))


def _every(modules: Iterable[Module]) -> Iterator[Module]:
    for module in modules:
        yield module
        yield from _every(module.children)


def _spec(form: ModulesForm, model: TaskModel, layers: Sequence[str]) -> tuple[AnyMethod | None, str]:
    """The method with the chosen rank and layers; or why there is none."""
    values: dict[str, Any] = usual(form.method, model).model_dump()
    if form.ranked and form.rank:
        values["r"] = readable(form.rank)
    if form.ticked and form.targets_layers and layers:
        values["target_modules"] = targets_of(layers, model)
    try:
        return validated(SPECS[form.method], values), ""
    except Invalid as error:
        return None, error.message


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
