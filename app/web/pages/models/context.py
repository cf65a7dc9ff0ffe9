"""The contexts of the pages of base models: the list, and one model with what each method does to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log10
from urllib.parse import urlencode

from app.domain.errors import FieldError
from app.domain.messages import Message
from app.domain.models.adaptations import Adaptation, adaptations
from app.domain.models.architecture import TaskModel
from app.domain.models.base_model import ModelFacts
from app.domain.models.outline import Group, Layer, folded, groups, layers
from app.domain.resources.memory_map import MapReport
from app.domain.tasks import TASKS, Task
from app.store.tables import BaseModelRow
from app.web.format import NBSP, capitalized
from app.web.forms.field_errors import HasErrors
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.pages.models.map_form import MapForm
from app.web.pages.models.modules import ModuleTree
from app.web.text import methods
from app.web.text.methods import by_family
from app.web.text.outline import in_blocks, kinds

SOURCES = {"sample": marked("packaged sample"), "hub": marked("hub"), "directory": marked("directory")}
DEFAULT_LABELS = 2
DEFAULT_LENGTH, DEFAULT_BATCH = 128, 16
MAPPED_METHODS = (
    "full", "lora", "qlora", "last-layers", "head-only", "bitfit", "ia3", "bottleneck-adapter", "prefix", "prompt"
)  # fmt: skip
MOST_METHODS = 8
"""Of one map."""
MOST_LABELS = 100_000
FEWEST_SHOWN = 1_000
"""Where the logarithmic scale of trainable parameters begins."""
UNITS = ("", "k", "M", "G", "T")
"""Of the powers of 1,000 on it."""


@dataclass(frozen=True)
class ModelLine:
    """A base model in the list, and at the top of its page."""

    row: BaseModelRow

    @cached_property
    def facts(self) -> ModelFacts | None:
        """None until it is inspected."""
        return self.row.facts

    @property
    def origin(self) -> str:
        """`hub`, or `directory: /models/x` where the location is not the name."""
        location = "" if self.row.location == self.row.name else self.row.location
        return ": ".join(part for part in (_(SOURCES[self.row.source]), location) if part)

    @property
    def tasks(self) -> str:
        """The tasks it supports."""
        return ", ".join(_(TASKS[task].title) for task in self.facts.tasks) if self.facts else ""


@dataclass(frozen=True)
class ModelsPage(HasErrors):
    """Every base model, and the form that registers one."""

    models: tuple[ModelLine, ...]
    form: Mapping[str, str]
    roots: tuple[str, ...]
    """Directories below which models may be registered."""
    errors: tuple[FieldError, ...] = ()

    @property
    def waiting(self) -> bool:
        """One of them is being inspected."""
        return any(model.row.status == "inspecting" for model in self.models)

    @property
    def offers_sample(self) -> bool:
        """The packaged sample is not registered."""
        return all(model.row.source != "sample" for model in self.models)


@dataclass(frozen=True)
class MethodRow:
    """What a method with default settings does to the model."""

    adapted: Adaptation
    model: TaskModel

    @property
    def incompatibility(self) -> str:
        """Why it is incompatible."""
        return self.adapted.incompatibility.sentence if self.adapted.incompatibility else ""

    @property
    def advice(self) -> list[Message]:
        """What to know though it is compatible."""
        return [advice.sentence for advice in self.adapted.advice]

    @property
    def summary(self) -> str:
        """What it does."""
        return methods.summary(self.adapted.facts)

    @property
    def formula(self) -> str:
        """The formula of its trainable parameters."""
        return methods.formula(self.adapted.facts)

    @property
    def papers(self) -> list[tuple[str, str]]:
        """Papers with their addresses."""
        return methods.papers(self.adapted.facts)

    @property
    def touched(self) -> str:
        """The modules that it changes or wraps, summarised."""
        return kinds([line.name for line in folded(self.adapted.touches, self.model)])

    @property
    def modules(self) -> list[tuple[str, str]]:
        """Names of modules, each once for all blocks, and the blocks."""
        return [(line.name, in_blocks(line.blocks)) for line in folded(self.adapted.touches, self.model)]

    @property
    def at(self) -> float:
        """Its position on the logarithmic scale from FEWEST_SHOWN to the whole model, 0 to 1."""
        trained, low = max(self.adapted.trainable or 0, FEWEST_SHOWN), log10(FEWEST_SHOWN)
        return (log10(trained) - low) / max(log10(self.adapted.total) - low, 1e-9)


@dataclass(frozen=True)
class Adapted:
    """What each method does to the model for a task."""

    task: Task
    labels: int
    model: TaskModel
    rows: tuple[MethodRow, ...]

    @classmethod
    def of(cls, facts: ModelFacts, task: Task, labels: int) -> "Adapted":
        """From the facts of the inspection."""
        model = facts.task_model(task, labels)
        found = {adapted.facts.kind: adapted for adapted in adaptations(model)}
        ordered = (found[method.kind] for _family, _title, offered in by_family() for method in offered)
        return cls(task, labels, model, tuple(MethodRow(adapted, model) for adapted in ordered))

    @property
    def groups(self) -> list[Group]:
        """The parts of the model."""
        return groups(self.model)

    @property
    def layers(self) -> list[tuple[Layer, str]]:
        """Its linear layers with their blocks."""
        return [(layer, in_blocks(layer.blocks)) for layer in layers(self.model)]

    @property
    def head(self) -> str:
        """Modules that the task adds."""
        return ", ".join(self.model.head)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Ticks of the logarithmic scale: positions and labels."""
        low, high = log10(FEWEST_SHOWN), log10(self.model.total)
        powers = range(int(low), int(high) + 1)
        return [((n - low) / (high - low), f"{10 ** (n % 3)}{NBSP}{UNITS[n // 3]}") for n in powers]


@dataclass(frozen=True)
class MethodMemory:
    """Peak memory of each method for one batch on one device, from the memory map; or the form that requests it."""

    form: MapForm
    report: MapReport | None
    """None where it cannot be requested."""

    @classmethod
    def form_of(cls, adapted: Adapted, facts: ModelFacts) -> MapForm:
        """Compatible methods, one of each kind, at the default length and batch size."""
        fitting = {row.adapted.facts.kind for row in adapted.rows if not row.incompatibility}
        length = min(DEFAULT_LENGTH, facts.max_positions or DEFAULT_LENGTH)
        asked = {"lengths": [str(length)], "batch_sizes": [str(DEFAULT_BATCH)]}
        asked["methods"] = [kind for kind in MAPPED_METHODS if kind in fitting][:MOST_METHODS]
        return MapForm.of(facts, asked | {"task": [adapted.task]})

    @property
    def peaks(self) -> dict[str, tuple[float, str]]:
        """Peak bytes by method, and whether they fit: a state of `components/state.html`."""
        if self.report is None:
            return {}
        return {self.report.methods[c.method].facts.kind: (c.peak.value, c.fit) for c in self.report.cells}

    @property
    def where(self) -> str:
        """Batch and device."""
        device = self.report.device.name if self.report else ""
        return _(
            "%(rows)s rows of %(length)s tokens on %(device)s",
            rows=self.form.batch_sizes, length=self.form.lengths, device=device,
        )  # fmt: skip


@dataclass(frozen=True)
class ModelPage:
    """A base model: its facts, its tasks, and what each method does to it."""

    line: ModelLine
    adapted: Adapted | None
    """None until it is inspected."""
    tree: ModuleTree | None = None
    """None until it is inspected."""
    memory: MethodMemory | None = None
    """None until it is inspected."""

    @property
    def facts(self) -> ModelFacts | None:
        """None until it is inspected."""
        return self.line.facts

    @property
    def able(self) -> list[tuple[str, str, str]]:
        """Supported tasks: name, title, architecture."""
        found = self.facts.tasks if self.facts else {}
        return [(task, capitalized(_(TASKS[task].title)), model.architecture) for task, model in found.items()]

    @property
    def unable(self) -> list[tuple[str, str]]:
        """Unsupported tasks and the reasons."""
        found = self.facts.unable if self.facts else {}
        return [(capitalized(_(TASKS[task].title)), capitalized(why)) for task, why in found.items()]

    @property
    def weights(self) -> str:
        """The number of weight files."""
        files = sum(file.holds_weights for file in self.facts.files) if self.facts else 0
        return ngettext("%(num)s safetensors file", "%(num)s safetensors files", files)

    @property
    def special_tokens(self) -> list[tuple[str, str]]:
        """Roles and tokens: `pad`, `[PAD]`."""
        found = self.facts.tokenizer.special if self.facts and self.facts.tokenizer else {}
        return [(name.removesuffix("_token"), token) for name, token in found.items()]

    def address(self, task: str) -> str:
        """The address of this page for another task."""
        labels = self.adapted.labels if self.adapted else DEFAULT_LABELS
        chosen = {"task": task} | ({"labels": str(labels)} if labels != DEFAULT_LABELS else {})
        return f"?{urlencode(chosen)}"
