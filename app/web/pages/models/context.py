"""The contexts of the pages of base models: the list, and one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from app.domain.errors import FieldError
from app.domain.messages import Message
from app.domain.models.base_model import SAMPLE_MODELS, SAMPLE_NOTES, ModelFacts
from app.domain.resources.memory_map import MapReport
from app.domain.tasks import TASKS, Task
from app.store.tables import BaseModelRow
from app.web.forms.errors import HasErrors
from app.web.pages.models.methods import DEFAULT_LABELS, TaskMethods
from app.web.pages.models.modules import ModuleTree
from app.words.data.data import task_options
from app.words.format import capitalized
from app.words.i18n import gettext as _
from app.words.i18n import marked

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
