"""What makes runs incomparable, and what each confounder rules out.

verdict   no verdict between arms that differ in it
cost      no comparison of memory or time
doubt     a difference may come from it, and not from the method
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from app.domain.runs.listing.fields import Field

ConditionName = Literal[
    "task",
    "dataset",
    "dataset_version",
    "base_model",
    "metric",
    "metric_version",
    "train_fraction",
    "weight_decay",
    "warmup",
    "device_kind",
    "device",
    "threads",
    "precision",
    "attention",
    "memory_measure",
    "splits",
    "test_items",
    "row_order",
    "epochs",
    "steps",
    "tokens",
    "batch",
    "torch",
    "transformers",
    "peft",
    "vezna",
    "trials",
    "trial_steps",
    "trial_tokens",
]
"""What a run was made and measured under."""
RunConditions = Mapping[ConditionName, str]
"""Conditions of one run; an unknown condition is absent."""
UNKNOWN = ""


class ConfounderKind(StrEnum):
    """What confounds a comparison, the gravest first."""

    TEST_ITEMS = "test_items"
    METRIC = "metric"
    METRIC_VERSION = "metric_version"
    NO_ITEMS = "no_items"
    SPLITS = "splits"
    METRIC_UNPROVEN = "metric_unproven"
    TASK = "task"
    BASE_MODEL = "base_model"
    DATASET = "dataset"
    DATASET_VERSION = "dataset_version"
    DEVICE = "device"
    PRECISION = "precision"
    MEMORY_MEASURE = "memory_measure"
    OVERLAP = "overlap"
    SHARED_HOST = "shared_host"
    WORKER = "worker"
    LIBRARIES = "libraries"
    TRAIN_FRACTION = "train_fraction"
    BUDGET = "budget"
    BATCH_SIZE = "batch_size"
    WARMUP = "warmup"
    WEIGHT_DECAY = "weight_decay"
    IMPORTED = "imported"
    ELSEWHERE = "elsewhere"
    MIXED_SETTINGS = "mixed_settings"
    MISSING_SEEDS = "missing_seeds"
    NO_NEWS = "no_news"
    TRIED_AGAIN = "tried_again"
    REFERENCE = "reference"
    UNTUNED = "untuned"
    ONE_SEED = "one_seed"


class Effect(StrEnum):
    """What a confounder rules out."""

    VERDICT = "verdict"
    COST = "cost"
    DOUBT = "doubt"


EFFECTS: dict[ConfounderKind, Effect] = {
    ConfounderKind.TEST_ITEMS: Effect.VERDICT,
    ConfounderKind.METRIC: Effect.VERDICT,
    ConfounderKind.METRIC_VERSION: Effect.VERDICT,
    ConfounderKind.NO_ITEMS: Effect.VERDICT,
    ConfounderKind.SPLITS: Effect.VERDICT,
    ConfounderKind.METRIC_UNPROVEN: Effect.VERDICT,
    ConfounderKind.TASK: Effect.DOUBT,
    ConfounderKind.BASE_MODEL: Effect.DOUBT,
    ConfounderKind.DATASET: Effect.DOUBT,
    ConfounderKind.DATASET_VERSION: Effect.DOUBT,
    ConfounderKind.DEVICE: Effect.COST,
    ConfounderKind.PRECISION: Effect.COST,
    ConfounderKind.MEMORY_MEASURE: Effect.COST,
    ConfounderKind.OVERLAP: Effect.COST,
    ConfounderKind.SHARED_HOST: Effect.DOUBT,
    ConfounderKind.WORKER: Effect.COST,
    ConfounderKind.LIBRARIES: Effect.DOUBT,
    ConfounderKind.TRAIN_FRACTION: Effect.DOUBT,
    ConfounderKind.BUDGET: Effect.DOUBT,
    ConfounderKind.BATCH_SIZE: Effect.DOUBT,
    ConfounderKind.WARMUP: Effect.DOUBT,
    ConfounderKind.WEIGHT_DECAY: Effect.DOUBT,
    ConfounderKind.IMPORTED: Effect.DOUBT,
    ConfounderKind.ELSEWHERE: Effect.DOUBT,
    ConfounderKind.MIXED_SETTINGS: Effect.DOUBT,
    ConfounderKind.MISSING_SEEDS: Effect.DOUBT,
    ConfounderKind.NO_NEWS: Effect.DOUBT,
    ConfounderKind.TRIED_AGAIN: Effect.DOUBT,
    ConfounderKind.REFERENCE: Effect.DOUBT,
    ConfounderKind.UNTUNED: Effect.DOUBT,
    ConfounderKind.ONE_SEED: Effect.DOUBT,
}
CONDITIONS: dict[ConfounderKind, tuple[ConditionName, ...]] = {
    ConfounderKind.METRIC: ("metric",),
    ConfounderKind.METRIC_VERSION: ("metric_version",),
    ConfounderKind.TASK: ("task",),
    ConfounderKind.BASE_MODEL: ("base_model",),
    ConfounderKind.DATASET: ("dataset",),
    ConfounderKind.DATASET_VERSION: ("dataset_version",),
    ConfounderKind.DEVICE: ("device",),
    ConfounderKind.PRECISION: ("precision",),
    ConfounderKind.MEMORY_MEASURE: ("memory_measure",),
    ConfounderKind.LIBRARIES: ("torch", "transformers", "peft"),
    ConfounderKind.TRAIN_FRACTION: ("train_fraction",),
    ConfounderKind.BUDGET: ("epochs", "steps"),
    ConfounderKind.BATCH_SIZE: ("batch",),
    ConfounderKind.WARMUP: ("warmup",),
    ConfounderKind.WEIGHT_DECAY: ("weight_decay",),
}
"""Confounders read off conditions: arms differ in one of them, or it is known of some arms only."""
UNKNOWN_IS_EQUAL = (
    ConfounderKind.METRIC_VERSION,
    ConfounderKind.TASK,
    ConfounderKind.DATASET_VERSION,
    ConfounderKind.TRAIN_FRACTION,
    ConfounderKind.WARMUP,
    ConfounderKind.WEIGHT_DECAY,
)
"""An unknown value of these confounds nothing."""


@dataclass(frozen=True)
class Confounder:
    """Something that makes arms incomparable."""

    kind: ConfounderKind
    values: dict[str, tuple[str, ...]]
    """Arms by the value that they have; by one empty value where it either applies or not. UNKNOWN is a value too."""

    @property
    def effect(self) -> Effect:
        return EFFECTS[self.kind]

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(arm for arms in self.values.values() for arm in arms)


def find_confounders(
    conditions: Mapping[str, Sequence[RunConditions]], facts: Mapping[ConfounderKind, Sequence[str]]
) -> tuple[Confounder, ...]:
    """From the conditions of each arm's runs, and from facts that hold for some arms; the gravest first."""
    confounders: dict[ConfounderKind, Confounder] = {}
    for kind in ConfounderKind:
        if kind in CONDITIONS:
            values = _arms_by_value(conditions, CONDITIONS[kind])
            if kind in UNKNOWN_IS_EQUAL:
                values.pop(UNKNOWN, None)
            # The version of the data says nothing more where the dataset differs.
            implied = kind is ConfounderKind.DATASET_VERSION and ConfounderKind.DATASET in confounders
            if len(values) > 1 and not implied:
                confounders[kind] = Confounder(kind, values)
        elif facts.get(kind):
            confounders[kind] = Confounder(kind, {"": tuple(facts[kind])})
    return tuple(confounders.values())


def _arms_by_value(
    conditions: Mapping[str, Sequence[RunConditions]], names: Sequence[ConditionName]
) -> dict[str, tuple[str, ...]]:
    """Arms by what their runs had of some conditions; several values within an arm are joined."""
    arms: dict[str, list[str]] = {}
    for arm, runs in conditions.items():
        parts = []
        for name in names:
            values = " / ".join(sorted({run[name] for run in runs if name in run}))
            if values:
                parts.append(values if len(names) == 1 else f"{name} {values}")
        arms.setdefault(", ".join(parts), []).append(arm)
    return {value: tuple(titles) for value, titles in arms.items()}


DATA = (ConfounderKind.DATASET, ConfounderKind.DATASET_VERSION)
TIME = (ConfounderKind.DEVICE, ConfounderKind.PRECISION)
MEMORY = (*TIME, ConfounderKind.MEMORY_MEASURE)
OF_FIELDS: Mapping[str, tuple[ConfounderKind, ...]] = {
    "loss": DATA,
    "train_loss": DATA,
    "peak": MEMORY,
    "train": TIME,
    "wall": TIME,
    "speed": TIME,
}
"""What confounds a number of a list of runs, by its field; every fraction is a score, other fields depend on nothing
but the run."""


def field_confounder(field: Field, run: RunConditions, baseline: RunConditions) -> ConfounderKind | None:
    """What keeps a number of a run from being compared with the baseline's, the gravest; None where nothing does.

    What a cost or a score depends on must be known; for the version of the data it is enough that the known ones agree.
    """
    kinds = (ConfounderKind.METRIC, *DATA) if field.kind == "fraction" else OF_FIELDS.get(field.name, ())
    for kind in kinds:
        for name in CONDITIONS[kind]:
            own, other = run.get(name, UNKNOWN), baseline.get(name, UNKNOWN)
            unknown = UNKNOWN in (own, other)
            if (unknown and kind not in UNKNOWN_IS_EQUAL) or (not unknown and own != other):
                return kind
    return None


def measured_alike(runs: Sequence[RunConditions], kinds: Sequence[ConfounderKind]) -> bool:
    """All runs have the same known value of each of the conditions behind some kinds."""
    names = [name for kind in kinds for name in CONDITIONS[kind]]
    return all(name in run and run[name] == runs[0].get(name) for run in runs for name in names)
