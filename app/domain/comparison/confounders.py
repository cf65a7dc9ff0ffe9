"""What makes runs incomparable, and what each obstacle takes away.

verdict   there is no verdict between arms that differ in it
cost      there is no winner in memory or time
doubt     a difference may come from it, and not from the method
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Term = Literal[
    "task",
    "dataset",
    "dataset version",
    "base model",
    "metric",
    "metric version",
    "device",
    "precision",
    "memory measure",
    "torch",
    "transformers",
    "peft",
    "steps",
    "tokens",
    "batch",
    "epochs",
    "worker time",
]
"""What a run was made and measured under."""


class What(StrEnum):
    """What is in the way, the gravest first."""

    TEST_ITEMS = "test_items"
    METRIC = "metric"
    METRIC_VERSION = "metric_version"
    NO_ITEMS = "no_items"
    TASK = "task"
    BASE_MODEL = "base_model"
    DATASET = "dataset"
    DATASET_VERSION = "dataset_version"
    DEVICE = "device"
    PRECISION = "precision"
    MEMORY_MEASURE = "memory_measure"
    OVERLAP = "overlap"
    LIBRARIES = "libraries"
    BUDGET = "budget"
    IMPORTED = "imported"
    REFERENCE = "reference"
    UNTUNED = "untuned"
    ONE_SEED = "one_seed"


class Takes(StrEnum):
    """What an obstacle takes away."""

    VERDICT = "verdict"
    COST = "cost"
    DOUBT = "doubt"


TAKES: dict[What, Takes] = {
    What.TEST_ITEMS: Takes.VERDICT,
    What.METRIC: Takes.VERDICT,
    What.METRIC_VERSION: Takes.VERDICT,
    What.NO_ITEMS: Takes.VERDICT,
    What.TASK: Takes.DOUBT,
    What.BASE_MODEL: Takes.DOUBT,
    What.DATASET: Takes.DOUBT,
    What.DATASET_VERSION: Takes.DOUBT,
    What.DEVICE: Takes.COST,
    What.PRECISION: Takes.COST,
    What.MEMORY_MEASURE: Takes.COST,
    What.OVERLAP: Takes.COST,
    What.LIBRARIES: Takes.DOUBT,
    What.BUDGET: Takes.DOUBT,
    What.IMPORTED: Takes.DOUBT,
    What.REFERENCE: Takes.DOUBT,
    What.UNTUNED: Takes.DOUBT,
    What.ONE_SEED: Takes.DOUBT,
}
OF_TERMS: dict[What, tuple[Term, ...]] = {
    What.METRIC: ("metric",),
    What.METRIC_VERSION: ("metric version",),
    What.TASK: ("task",),
    What.BASE_MODEL: ("base model",),
    What.DATASET: ("dataset",),
    What.DATASET_VERSION: ("dataset version",),
    What.DEVICE: ("device",),
    What.PRECISION: ("precision",),
    What.MEMORY_MEASURE: ("memory measure",),
    What.LIBRARIES: ("torch", "transformers", "peft"),
    What.BUDGET: ("epochs", "steps", "tokens", "batch"),
}
"""What is read off the terms: an obstacle where arms differ in one of them, or where it is known of some only."""
SILENT = (What.METRIC_VERSION, What.TASK, What.DATASET_VERSION)
"""Of these, one that nobody has told is in nobody's way."""
UNKNOWN = ""
"""Of a term that nobody has told."""


@dataclass(frozen=True)
class Obstacle:
    """Something that is in the way of a comparison."""

    what: What
    values: dict[str, tuple[str, ...]]
    """Arms by the value that they have; by one empty value where it is only so or not so. UNKNOWN is a value too."""

    @property
    def takes(self) -> Takes:
        """What it takes away."""
        return TAKES[self.what]

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that is named."""
        return tuple(arm for those in self.values.values() for arm in those)


def obstacles(
    terms: Mapping[str, Sequence[Mapping[Term, str]]], facts: Mapping[What, Sequence[str]]
) -> tuple[Obstacle, ...]:
    """From what the runs of each arm were made under, and what is so of some arms; the gravest first."""
    found: list[Obstacle] = []
    for what in What:
        if what in OF_TERMS:
            values = _by_value(terms, OF_TERMS[what])
            if what in SILENT:
                values.pop(UNKNOWN, None)
            # Of other data it need not be said that their version is another too.
            told = what is What.DATASET_VERSION and any(one.what is What.DATASET for one in found)
            if len(values) > 1 and not told:
                found.append(Obstacle(what, values))
        elif what is What.OVERLAP:
            if side_by_side := _overlapping(terms):
                found.append(Obstacle(what, {"": side_by_side}))
        elif facts.get(what):
            found.append(Obstacle(what, {"": tuple(facts[what])}))
    return tuple(found)


def _by_value(terms: Mapping[str, Sequence[Mapping[Term, str]]], which: Sequence[Term]) -> dict[str, tuple[str, ...]]:
    """Arms by what their runs had of some terms; several values within an arm are joined."""
    found: dict[str, list[str]] = {}
    for arm, runs in terms.items():
        said = []
        for term in which:
            values = sorted({run.get(term, UNKNOWN) for run in runs} - {UNKNOWN})
            if values:
                said.append(" / ".join(values) if len(which) == 1 else f"{term} {' / '.join(values)}")
        found.setdefault(", ".join(said), []).append(arm)
    return {value: tuple(arms) for value, arms in found.items()}


def _overlapping(terms: Mapping[str, Sequence[Mapping[Term, str]]]) -> tuple[str, ...]:
    """Arms with a run that stood beside another on one worker; the term is `worker|begin|end` in seconds."""
    spans: dict[str, list[tuple[float, float, str]]] = {}
    for arm, runs in terms.items():
        for run in runs:
            worker, _, span = run.get("worker time", "").partition("|")
            begin, _, end = span.partition("|")
            if worker and begin and end:
                spans.setdefault(worker, []).append((float(begin), float(end), arm))
    beside: dict[str, None] = {}
    for those in spans.values():
        latest, its = float("-inf"), ""
        for start, stop, name in sorted(those):
            if start < latest:
                beside |= {its: None, name: None}
            if stop > latest:
                latest, its = stop, name
    return tuple(beside)
