"""What runs were made and measured under: the same for every arm, or named beside the verdict.

All of it is read off the runs, not off what their specs promise.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.comparison.fairness.confounders import ConditionName, RunConditions
from app.domain.comparison.model import RunOutcome
from app.domain.messages import _
from app.domain.runs.result import RunResult
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.arm_tuning import ArmTuning

HASH = 8
"""Characters of a hash that are shown."""
ALLOCATED = _("allocated on the device")
RESIDENT = _("resident in the process, above its idle state")


@dataclass(frozen=True)
class Condition:
    """Something that runs were made under, and its value by arm."""

    name: ConditionName
    values: dict[str, str]
    """By arm title; several values within an arm are joined by a comma."""
    equal: bool
    """All runs of all arms had one value; of what depends on the seed, all runs of each seed."""

    @classmethod
    def of(cls, name: ConditionName, by_arm: Mapping[str, Collection[str]]) -> "Condition":
        """From the values that an arm's runs had."""
        joined = {title: ", ".join(sorted(set(values))) for title, values in by_arm.items()}
        return cls(name, joined, equal=len({value for values in by_arm.values() for value in values}) <= 1)

    @classmethod
    def by_seed(cls, name: ConditionName, by_arm: Mapping[str, Mapping[int, str]]) -> "Condition":
        """From the value that each seed of an arm had: arms are to agree seed by seed."""
        joined = {
            title: ", ".join(dict.fromkeys(values[s] for s in sorted(values))) for title, values in by_arm.items()
        }
        seeds = {seed for values in by_arm.values() for seed in values}
        by_seed = [{values[seed] for values in by_arm.values() if seed in values} for seed in seeds]
        return cls(name, joined, equal=all(len(values) <= 1 for values in by_seed))

    @property
    def value(self) -> str:
        """The value of the first arm: all arms' where they are equal."""
        return next(iter(self.values.values()), "")


SHARED: tuple[ConditionName, ...] = (
    "device_kind",
    "device",
    "threads",
    "precision",
    "attention",
    "splits",
    "test_items",
    "torch",
    "transformers",
    "peft",
    "vezna",
)
"""Compared over all runs of a study. The precision of frozen weights is not among them: it is part of the method, as
the rank is."""
GIVEN: tuple[ConditionName, ...] = ("train_fraction", "epochs", "batch", "warmup", "weight_decay")
"""The spec states these. Where they are equal they are in the budget, except for weight decay."""
BY_SEED: tuple[ConditionName, ...] = ("row_order", "steps", "tokens")
"""Compared seed by seed: another seed reads other rows first, and in a part of an epoch other tokens."""
TUNING: dict[ConditionName, Callable[[ArmTuning], int]] = {
    "trials": lambda tuning: len(tuning.trials),
    "trial_steps": lambda tuning: tuning.steps,
    "trial_tokens": lambda tuning: tuning.tokens,
}
OUTCOMES: tuple[ConditionName, ...] = ("steps", "tokens", "trial_steps", "trial_tokens")
"""With early stopping these are the outcome of a run, not what it was given."""


def measured(result: RunResult, items_hash: str | None = None) -> RunConditions:
    """What a run was measured under, as far as it says."""
    where, data = result.environment, result.data
    on_gpu = result.memory.device.startswith("cuda")
    conditions: dict[ConditionName, str] = {
        "device_kind": where.device.split(":")[0],
        "device": where.device_name,
        "threads": str(where.threads),
        "precision": where.precision,
        "attention": where.attention,
        "splits": shortened(data.splits if data else None),
        "row_order": shortened(data.order if data else None),
        "test_items": shortened(items_hash),
        "steps": str(result.steps),
        "tokens": str(result.tokens),
        "metric_version": str(result.metrics_version),
        "memory_measure": ALLOCATED if on_gpu else RESIDENT,
        "torch": where.versions.get("torch", ""),
        "transformers": where.versions.get("transformers", ""),
        "peft": where.versions.get("peft", ""),
        "vezna": where.versions.get("vezna", ""),
    }
    return known(conditions)


def planned(training: TrainingBudget) -> dict[ConditionName, str]:
    """What a run was given: of its training arguments, those that an arm may have for itself."""
    share = f"{100 * training.train_fraction:g}\N{NO-BREAK SPACE}%"
    length: dict[ConditionName, str] = (
        {"steps": str(training.max_steps)} if training.max_steps else {"epochs": f"{training.num_train_epochs:g}"}
    )
    return length | {
        "train_fraction": share,
        "batch": str(training.per_device_train_batch_size * training.gradient_accumulation_steps),
        "weight_decay": f"{training.weight_decay:g}",
        "warmup": f"{training.warmup_steps:g}",
    }


def known(conditions: Mapping[ConditionName, str]) -> RunConditions:
    """Without those that have no value."""
    return {name: value for name, value in conditions.items() if value}


REPORTED: tuple[ConditionName, ...] = (
    "metric",
    "metric_version",
    "test_items",
    "splits",
    "dataset",
    "base_model",
    "steps",
    "tokens",
    "device",
    "precision",
    "memory_measure",
    "torch",
    "transformers",
    "peft",
)
"""What is said of any runs: what a verdict rests on comes first."""


class Knowledge(StrEnum):
    """What is known of a condition over all arms."""

    EQUAL = "equal"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class StatedCondition:
    """A condition as runs of any origin state it."""

    name: ConditionName
    knowledge: Knowledge
    values: dict[str, str]
    """By arm title; empty where a run of the arm does not state it."""


def stated_conditions(arms: Mapping[str, Sequence[RunConditions]]) -> tuple[StatedCondition, ...]:
    """Conditions of each arm's runs. What one run does not state is unknown, unless the stated values differ
    already."""
    stated = []
    for name in REPORTED:
        values = {title: sorted({run.get(name, "") for run in runs}) for title, runs in arms.items()}
        every = {value for arm in values.values() for value in arm}
        knowledge = Knowledge.EQUAL if len(every) == 1 else Knowledge.DIFFERS
        if "" in every or not every:
            knowledge = Knowledge.DIFFERS if len(every) > 2 else Knowledge.UNKNOWN
        shown = {title: "" if "" in arm else ", ".join(arm) for title, arm in values.items()}
        stated.append(StatedCondition(name, knowledge, shown))
    return tuple(stated)


def shortened(digest: str | None) -> str:
    """The first characters of a hash; empty without one."""
    return f"{digest[:HASH]}…" if digest else ""


def study_conditions(
    spec: StudySpec, runs: Mapping[str, Sequence[RunOutcome]], tuning: Mapping[str, ArmTuning]
) -> tuple[Condition, ...]:
    """What an arm may set for itself beside its method and its rate, then what its runs were measured under, then what
    tuning took. `runs` and `tuning` by arm; an arm without results has no value."""
    settled = {arm.title: _settled(spec, arm, tuning.get(arm.title)) for arm in spec.arms}
    given = {title: planned(spec.training_of(arm)) for title, arm in settled.items()}
    own = [Condition.of(name, {title: {of[name]} for title, of in given.items() if name in of}) for name in GIVEN]
    read = {
        title: [(run.seed, measured(run.result, run.items_hash)) for run in outcomes if run.result]
        for title, outcomes in runs.items()
    }
    tuned = {title: arm_tuning for title, arm_tuning in tuning.items() if arm_tuning.trials}
    every = (
        *(condition for condition in own if condition.name == "weight_decay" or not condition.equal),
        *(Condition.of(name, _values(read, name)) for name in SHARED),
        *(Condition.by_seed(name, _seeds(read, name)) for name in BY_SEED),
        *(Condition.of(name, {title: {str(count(t))} for title, t in tuned.items()}) for name, count in TUNING.items()),
    )
    stops_early = spec.training.early_stopping_patience
    return tuple(one for one in every if one.values and not (stops_early and one.name in OUTCOMES))


def _settled(spec: StudySpec, arm: ArmSpec, tuning: ArmTuning | None) -> ArmSpec:
    return arm.at(tuning.chosen, spec.training) if tuning and tuning.chosen else arm


Read = Mapping[str, Sequence[tuple[int, RunConditions]]]
"""Seed and conditions of the runs of each arm."""


def _values(read: Read, name: ConditionName) -> dict[str, set[str]]:
    """What is known; a run from before something was recorded has no value."""
    values = {title: {run[name] for _seed, run in runs if name in run} for title, runs in read.items()}
    return {title: known_values for title, known_values in values.items() if known_values}


def _seeds(read: Read, name: ConditionName) -> dict[str, dict[int, str]]:
    values = {title: {seed: run[name] for seed, run in runs if name in run} for title, runs in read.items()}
    return {title: known_values for title, known_values in values.items() if known_values}
