"""What each method does to a base model, on its page."""

from dataclasses import dataclass
from functools import cached_property
from math import log10

from app.domain.models.adaptations import Adaptation, adaptations
from app.domain.models.architecture import TaskModel
from app.domain.models.base_model import ModelFacts
from app.domain.models.outline import Group, Layer, folded, groups, layers
from app.domain.tasks import Task
from app.web.numbers import NotANumber, parse_whole
from app.web.pages.models.map_form import MapForm
from app.words.format import NBSP
from app.words.models.methods import by_family
from app.words.models.outline import in_blocks, kinds

DEFAULT_LABELS = 2
DEFAULT_LENGTH, DEFAULT_BATCH = 128, 16
MAPPED_METHODS = (
    "full", "lora", "qlora", "last-layers", "head-only", "bitfit", "ia3", "bottleneck-adapter", "prefix", "prompt"
)  # fmt: skip
MOST_METHODS = 8
MOST_LABELS = 100_000
FEWEST_SHOWN = 1_000
"""Where the logarithmic scale of trainable parameters begins."""
UNITS = ("", "k", "M", "G", "T")
"""Prefixes of the powers of 1,000 on it."""


@dataclass(frozen=True)
class TaskMethods:
    """What each method with default settings does to a model with a head for a task."""

    name: str
    facts: ModelFacts
    task: Task
    labels: int

    @classmethod
    def of(cls, name: str, facts: ModelFacts, task: str, labels: str) -> "TaskMethods":
        """From the address; the task defaults to the first that the model supports."""
        try:
            number = min(max(parse_whole(labels), 1), MOST_LABELS)
        except NotANumber:
            number = DEFAULT_LABELS
        return cls(name, facts, next((t for t in facts.tasks if t == task), next(iter(facts.tasks))), number)

    @cached_property
    def model(self) -> TaskModel:
        return self.facts.task_model(self.task, self.labels)

    @cached_property
    def methods(self) -> list[Adaptation]:
        """Every method, in the order of a form."""
        by_kind = {adapted.facts.kind: adapted for adapted in adaptations(self.model)}
        return [by_kind[method.kind] for _family, _title, methods in by_family() for method in methods]

    @property
    def groups(self) -> list[Group]:
        return groups(self.model)

    @property
    def layers(self) -> list[tuple[Layer, str]]:
        """Its linear layers with their blocks."""
        return [(layer, in_blocks(layer.blocks)) for layer in layers(self.model)]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Ticks of the logarithmic scale: positions and labels."""
        low, high = log10(FEWEST_SHOWN), log10(self.model.total)
        powers = range(int(low), int(high) + 1)
        return [((n - low) / (high - low), f"{10 ** (n % 3)}{NBSP}{UNITS[n // 3]}") for n in powers]

    def position(self, trainable: int) -> float:
        """A number of parameters on the logarithmic scale from FEWEST_SHOWN to the whole model, 0 to 1."""
        low, high = log10(FEWEST_SHOWN), log10(self.model.total)
        return (log10(max(trainable, FEWEST_SHOWN)) - low) / max(high - low, 1e-9)

    def touched(self, adapted: Adaptation) -> str:
        """The modules that a method changes or wraps, summarised."""
        return kinds([line.name for line in folded(adapted.touches, self.model)])

    def modules(self, adapted: Adaptation) -> list[tuple[str, str]]:
        """Their names, each once for all blocks, and the blocks."""
        return [(line.name, in_blocks(line.blocks)) for line in folded(adapted.touches, self.model)]

    @property
    def map_form(self) -> MapForm:
        """The memory map of compatible methods, one of each kind, at the default length and batch size."""
        compatible = {adapted.facts.kind for adapted in self.methods if not adapted.incompatibility}
        length = min(DEFAULT_LENGTH, self.facts.max_positions or DEFAULT_LENGTH)
        kinds = tuple(kind for kind in MAPPED_METHODS if kind in compatible)[:MOST_METHODS]
        return MapForm(self.task, device="", methods=kinds, lengths=str(length), batch_sizes=str(DEFAULT_BATCH))
