"""The contexts of the pages of base models: the list, and what can be adapted in one of them."""

from dataclasses import dataclass
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
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.pages.models.form import ModelForm
from app.web.pages.models.map_form import MapForm
from app.web.pages.models.modules import ModuleTree
from app.web.text import methods
from app.web.text.families import by_family
from app.web.text.outline import in_blocks, kinds

SOURCES = {"sample": marked("packaged sample"), "hub": marked("hub"), "directory": marked("directory")}
USUAL_LABELS = 2
USUAL_LENGTH, USUAL_BATCH = 128, 16
FORESEEN = (
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
    """A base model in the list."""

    name: str
    source: str
    location: str
    status: str
    message: str
    facts: ModelFacts | None

    @classmethod
    def of(cls, row: BaseModelRow) -> "ModelLine":
        """From its row."""
        return cls(row.name, row.source, row.location, row.status, row.message, row.facts)

    @property
    def where(self) -> str:
        """Where it comes from: the kind of place, and the place unless the name says it."""
        place = "" if self.location == self.name else self.location
        return ": ".join(part for part in (_(SOURCES[self.source]), place) if part)

    @property
    def tasks(self) -> str:
        """What it can do."""
        return ", ".join(_(TASKS[task].title) for task in self.facts.tasks) if self.facts else ""


@dataclass(frozen=True)
class ModelsPage:
    """Every base model, and a form for another."""

    models: tuple[ModelLine, ...]
    form: ModelForm
    roots: tuple[str, ...]
    """Directories below which a model may lie."""
    errors: tuple[FieldError, ...] = ()

    @property
    def waiting(self) -> bool:
        """One of them is still being inspected."""
        return any(model.status == "inspecting" for model in self.models)

    @property
    def offers_sample(self) -> bool:
        """The packaged sample is not among them."""
        return all(model.source != "sample" for model in self.models)

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path]


@dataclass(frozen=True)
class MethodRow:
    """What a method with its usual settings would do to the model."""

    adapted: Adaptation
    model: TaskModel

    @property
    def incompatibility(self) -> str:
        """Why it does not fit."""
        return self.adapted.incompatibility.sentence if self.adapted.incompatibility else ""

    @property
    def advice(self) -> list[Message]:
        """What one should know though it fits."""
        return [advice.sentence for advice in self.adapted.advice]

    @property
    def summary(self) -> str:
        """What it does."""
        return methods.summary(self.adapted.facts)

    @property
    def formula(self) -> str:
        """How its trainable parameters are counted."""
        return methods.formula(self.adapted.facts)

    @property
    def papers(self) -> list[tuple[str, str]]:
        """Who proposed it, and where that can be read."""
        return methods.papers(self.adapted.facts)

    @property
    def touched(self) -> str:
        """The modules that it changes or wraps, in a few words."""
        return kinds([line.name for line in folded(self.adapted.touches, self.model)])

    @property
    def modules(self) -> list[tuple[str, str]]:
        """Their names, those of the blocks written once, and in which blocks."""
        return [(line.name, in_blocks(line.blocks)) for line in folded(self.adapted.touches, self.model)]

    @property
    def at(self) -> float:
        """Its place on the logarithmic scale from FEWEST_SHOWN to the whole model, from 0 to 1."""
        trained, low = max(self.adapted.trainable or 0, FEWEST_SHOWN), log10(FEWEST_SHOWN)
        return (log10(trained) - low) / max(log10(self.adapted.total) - low, 1e-9)


@dataclass(frozen=True)
class Adapted:
    """What each method would do for a task."""

    task: Task
    labels: int
    model: TaskModel
    rows: tuple[MethodRow, ...]

    @classmethod
    def of(cls, facts: ModelFacts, task: Task, labels: int) -> "Adapted":
        """From the inspection."""
        model = facts.task_model(task, labels)
        found = {adapted.facts.kind: adapted for adapted in adaptations(model)}
        ordered = (found[method.kind] for _family, _title, offered in by_family() for method in offered)
        return cls(task, labels, model, tuple(MethodRow(adapted, model) for adapted in ordered))

    @property
    def groups(self) -> list[Group]:
        """What the model is made of."""
        return groups(self.model)

    @property
    def layers(self) -> list[tuple[Layer, str]]:
        """Its linear layers, and in which blocks."""
        return [(layer, in_blocks(layer.blocks)) for layer in layers(self.model)]

    @property
    def head(self) -> str:
        """Parts that the task adds."""
        return ", ".join(self.model.head)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Powers of ten on the logarithmic scale: their places and names."""
        low, high = log10(FEWEST_SHOWN), log10(self.model.total)
        powers = range(int(low), int(high) + 1)
        return [((n - low) / (high - low), f"{10 ** (n % 3)}{NBSP}{UNITS[n // 3]}") for n in powers]


@dataclass(frozen=True)
class Needs:
    """What training takes with each method, for one batch on one device: what a map has found, or how to ask."""

    form: MapForm
    report: MapReport | None
    """None where it cannot be asked."""

    @classmethod
    def form_of(cls, adapted: Adapted, facts: ModelFacts) -> MapForm:
        """The question: methods that fit, one of each kind, at a usual length and batch."""
        fitting = {row.adapted.facts.kind for row in adapted.rows if not row.incompatibility}
        length = min(USUAL_LENGTH, facts.max_positions or USUAL_LENGTH)
        asked = {"lengths": [str(length)], "batch_sizes": [str(USUAL_BATCH)]}
        asked["methods"] = [kind for kind in FORESEEN if kind in fitting][:MOST_METHODS]
        return MapForm.of(facts, asked | {"task": [adapted.task]})

    @property
    def peaks(self) -> dict[str, tuple[float, str]]:
        """Peak bytes by method, and whether they fit: a state of `components/state.html`."""
        if self.report is None:
            return {}
        return {self.report.methods[c.method].facts.kind: (c.peak.value, c.fit) for c in self.report.cells}

    @property
    def where(self) -> str:
        """On which device, and for which batch."""
        machine = self.report.machine.name if self.report else ""
        return _(
            "%(rows)s rows of %(length)s tokens, on %(device)s",
            rows=self.form.batch_sizes, length=self.form.lengths, device=machine,
        )  # fmt: skip


@dataclass(frozen=True)
class ModelPage:
    """A base model: what it is, what it can do, and what each method would touch."""

    line: ModelLine
    revision: str
    adapted: Adapted | None
    """None until it has been inspected."""
    tree: ModuleTree | None = None
    """The same."""
    needs: Needs | None = None
    """The same."""

    @property
    def facts(self) -> ModelFacts | None:
        """What the inspection found."""
        return self.line.facts

    @property
    def able(self) -> list[tuple[str, str, str]]:
        """Tasks that it can do: name, title, and the class that does it."""
        found = self.facts.tasks if self.facts else {}
        return [(task, capitalized(_(TASKS[task].title)), model.architecture) for task, model in found.items()]

    @property
    def unable(self) -> list[tuple[str, str]]:
        """Tasks that it cannot do, and why."""
        found = self.facts.unable if self.facts else {}
        return [(capitalized(_(TASKS[task].title)), capitalized(why)) for task, why in found.items()]

    @property
    def weights(self) -> str:
        """In how many files the weights lie."""
        files = sum(file.holds_weights for file in self.facts.files) if self.facts else 0
        return ngettext("%(num)s safetensors file", "%(num)s safetensors files", files)

    @property
    def special_tokens(self) -> list[tuple[str, str]]:
        """What each is for, and the token: `pad`, `[PAD]`."""
        found = self.facts.tokenizer.special if self.facts and self.facts.tokenizer else {}
        return [(name.removesuffix("_token"), token) for name, token in found.items()]

    def address(self, task: str) -> str:
        """This page for another task."""
        labels = self.adapted.labels if self.adapted else USUAL_LABELS
        chosen = {"task": task} | ({"labels": str(labels)} if labels != USUAL_LABELS else {})
        return f"?{urlencode(chosen)}"
