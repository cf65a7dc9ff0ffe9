"""Base models: the list with the form that registers one, and a page for each."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.messages import Message
from app.domain.methods import SPECS, AnyMethod, Family, MethodFacts
from app.domain.methods.base import LinearMethod
from app.domain.methods.targets import PEFT_DEFAULT
from app.domain.models.adaptations import Adaptation, adaptation, usual
from app.domain.models.architecture import TaskModel
from app.domain.models.base_model import SAMPLE_MODELS, SAMPLE_NOTES, ModelFacts, ModelRegistration
from app.domain.models.module_tree import Module, module_tree, targets_of, trains_in
from app.domain.resources.memory_map import MapReport
from app.domain.tasks import TASKS, Task
from app.domain.validation import Name
from app.services.models import models as model_service
from app.services.models.roots import shown_roots
from app.services.resources import memory_maps
from app.settings import Settings
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow
from app.web.forms.errors import HasErrors, validated
from app.web.forms.fields import readable
from app.web.forms.sent import MAX_TEXT, SentForm, creating, source_of
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.pages.models.methods import DEFAULT_LABELS, TaskMethods
from app.web.pages.models.modules_form import ModulesForm
from app.web.templating import Render
from app.words.data.data import task_options
from app.words.format import capitalized
from app.words.i18n import gettext as _
from app.words.i18n import marked
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


SOURCES = {"sample": marked("packaged model"), "hub": marked("hub"), "directory": marked("directory")}


def origin(row: BaseModelRow) -> str:
    """`hub`, or `directory: /models/x` where the location is not the name."""
    shown = row.shown_location
    location = "" if shown == row.name or row.source == "sample" else shown
    return ": ".join(part for part in (_(SOURCES[row.source]), location) if part)


@dataclass(frozen=True)
class ModelsPage(HasErrors):
    """Every base model, and the form that registers one."""

    models: Sequence[BaseModelRow]
    form: Mapping[str, str]
    roots: tuple[str, ...] | None
    """Directories below which models may be registered; None where the user may not read them."""
    errors: tuple[FieldError, ...] = ()
    origin = staticmethod(origin)

    @property
    def waiting(self) -> bool:
        """One of them is being inspected."""
        return any(row.status == "inspecting" for row in self.models)

    @property
    def samples(self) -> dict[str, str]:
        """Names of the packaged models that are not registered, by location."""
        registered = {row.location for row in self.models if row.source == "sample"}
        return {location: name for location, name in SAMPLE_MODELS.items() if location not in registered}

    def tasks_of(self, facts: ModelFacts) -> str:
        return ", ".join(_(TASKS[task].title) for task in facts.tasks)


@dataclass(frozen=True)
class ModelPage:
    """A base model: its facts, its tasks, and what each method does to it."""

    row: BaseModelRow
    chosen: TaskMethods | None = None
    """None until the model is inspected, like the following."""
    tree: ModuleTree | None = None
    memory: MapReport | None = None
    """Peak memory of each method, from the memory map; None also where it cannot be requested."""

    @property
    def origin(self) -> str:
        return origin(self.row)

    @property
    def note(self) -> Message | None:
        """What to know about a packaged model's weights."""
        return SAMPLE_NOTES.get(self.row.location) if self.row.source == "sample" else None

    @property
    def able(self) -> list[tuple[Task, str]]:
        return task_options(self.chosen.facts.tasks) if self.chosen else []

    @property
    def unable(self) -> list[tuple[str, str]]:
        reasons = self.chosen.facts.unable if self.chosen else {}
        return [(title, capitalized(reasons[task])) for task, title in task_options(reasons)]

    @property
    def special_tokens(self) -> list[tuple[str, str]]:
        """Roles and tokens: `pad`, `[PAD]`."""
        tokenizer = self.chosen.facts.tokenizer if self.chosen else None
        tokens = tokenizer.special if tokenizer else {}
        return [(name.removesuffix("_token"), token) for name, token in tokens.items()]

    @property
    def peaks(self) -> dict[str, tuple[float, str]]:
        """Peak bytes by method, and whether they fit: a state of `components/state.html`."""
        if self.memory is None:
            return {}
        return {self.memory.methods[c.method].facts.kind: (c.peak.value, c.fit) for c in self.memory.cells}

    def address(self, task: str) -> str:
        """The address of this page for another task."""
        labels = self.chosen.labels if self.chosen else DEFAULT_LABELS
        return f"?{urlencode({'task': task} | ({'labels': str(labels)} if labels != DEFAULT_LABELS else {}))}"


FIELDS = ("location", "revision", "name", "source")


def typed(form: Mapping[str, str]) -> dict[str, str]:
    """The fields as they were typed; empty ones where nothing was sent."""
    return {name: form.get(name, "").strip()[:MAX_TEXT] for name in FIELDS}


def registration(values: Mapping[str, str]) -> ModelRegistration:
    """The request; the name defaults to the hub id or the directory's. Raises Invalid with an error for each field."""
    location = values["location"]
    if values["source"] == "sample":
        source, default = "sample", SAMPLE_MODELS.get(location, location)
    else:
        source = source_of(location)
        default = PurePath(location).name if source == "directory" else location
    name = values["name"] or default
    return validated(ModelRegistration, {**values, "source": source, "name": name})


router = APIRouter(include_in_schema=False)

LIST, SHOW = "models/index.html", "models/show.html"


@router.get("/models")
def index(session: Reading, settings: Config, render: Render) -> HTMLResponse:
    return render.page(LIST, _list(session, settings, {}))


@router.post("/models")
def register(db: Db, bell: Bell, session: Reading, settings: Config, render: Render, form: SentForm) -> Response:
    """Register a model and have a worker inspect it; or the form again with its errors."""
    try:
        request = registration(typed(form))
        with creating(db, form).transaction() as writing:
            model_service.register(writing, bell, request, settings.model_roots)
    except (Invalid, Conflict) as error:
        page = _list(session, settings, form)
        return render.page(LIST, replace(page, errors=error.at("name")), status=422)
    return RedirectResponse(f"/models/{quote(request.name)}", status_code=303)


@router.post("/models/{name:path}/inspection")
def inspect_again(db: Db, bell: Bell, name: Name) -> RedirectResponse:
    """Inspect a model again whose inspection failed."""
    with db.transaction() as session:
        model_service.inspect_again(session, bell, name)
    return RedirectResponse(f"/models/{quote(name)}", status_code=303)


@router.get("/models/{name:path}/modules")
def modules(
    session: Reading, render: Render, request: Request, name: Name, task: str = "", labels: str = ""
) -> Response:
    """The module tree alone, for htmx; the address becomes that of the whole page."""
    facts, page = base_models.get(session, name).facts, f"/models/{quote(name)}?{request.url.query}"
    if facts is None or "hx-request" not in request.headers:
        return RedirectResponse(page, status_code=303)
    tree = ModuleTree.of(TaskMethods.of(name, facts, task, labels), ModulesForm.of(request.query_params))
    answer = render.page("models/modules.html", tree)
    answer.headers["HX-Push-Url"] = page
    return answer


@router.get("/models/{name:path}")
def show(
    session: Reading,
    settings: Config,
    render: Render,
    request: Request,
    name: Name,
    task: str = "",
    labels: str = "",
) -> HTMLResponse:
    """A base model, for a task and a number of labels."""
    row = base_models.get(session, name)
    if (facts := row.facts) is None:
        return render.page(SHOW, ModelPage(row), of=("models", name))
    chosen = TaskMethods.of(name, facts, task, labels)
    tree = ModuleTree.of(chosen, ModulesForm.of(request.query_params))
    return render.page(SHOW, ModelPage(row, chosen, tree, _memory(session, settings, chosen)), of=("models", name))


def _memory(session: Session, settings: Settings, chosen: TaskMethods) -> MapReport | None:
    """What the memory map already has; showing a page requests nothing."""
    try:
        return memory_maps.map_report(session, None, settings, chosen.map_form.spec(chosen.name))
    except Invalid:
        return None


def _list(session: Session, settings: Settings, form: Mapping[str, str]) -> ModelsPage:
    return ModelsPage(base_models.everyone(session), typed(form), shown_roots(session, settings.model_roots))
