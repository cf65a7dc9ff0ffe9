"""What a study's runs were made under: held equal for every arm, or named beside the verdict.

All of it is read off the runs themselves, not off what their specs promise.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.domain.runs.result import RunResult
from app.domain.studies.arm_tuning import ArmTuning
from app.domain.studies.spec import StudySpec

HASH = 8
"""Characters of a hash that are told."""


def _told(digest: str | None) -> str:
    return f"{digest[:HASH]}…" if digest else ""


class Made(NamedTuple):
    """A run that succeeded, as far as conditions go."""

    seed: int
    result: RunResult
    items_hash: str | None
    """Of the test items that it was judged on, in order."""


@dataclass(frozen=True)
class Condition:
    """Something that runs were made under, and its value by arm."""

    name: str
    values: dict[str, str]
    """By arm title; several values within an arm are joined by a comma."""
    equal: bool
    """All runs of all arms had one value; of what hangs on the seed, all runs of each seed."""

    @classmethod
    def of(cls, name: str, seen: Mapping[str, Collection[str]]) -> "Condition":
        """From the values that an arm's runs had."""
        joined = {title: ", ".join(sorted(set(values))) for title, values in seen.items()}
        return cls(name, joined, equal=len({value for values in seen.values() for value in values}) <= 1)

    @classmethod
    def by_seed(cls, name: str, seen: Mapping[str, Mapping[int, str]]) -> "Condition":
        """From the value that each seed of an arm had: arms are to agree seed by seed."""
        joined = {title: ", ".join(dict.fromkeys(values[s] for s in sorted(values))) for title, values in seen.items()}
        seeds = {seed for values in seen.values() for seed in values}
        alike = [{values[seed] for values in seen.values() if seed in values} for seed in seeds]
        return cls(name, joined, equal=all(len(found) <= 1 for found in alike))

    @property
    def value(self) -> str:
        """The value of the first arm: all arms' where they are equal."""
        return next(iter(self.values.values()), "")


Read = Callable[[Made], str]
CONDITIONS: dict[str, Read] = {
    "device kind": lambda m: m.result.environment.device.split(":")[0],
    "device": lambda m: m.result.environment.device_name,
    "threads": lambda m: str(m.result.environment.threads),
    "precision": lambda m: m.result.environment.precision,
    "attention": lambda m: m.result.environment.attention,
    "splits": lambda m: _told(m.result.data.splits if m.result.data else None),
    "test items": lambda m: _told(m.items_hash),
    "torch": lambda m: m.result.environment.versions.get("torch", ""),
    "transformers": lambda m: m.result.environment.versions.get("transformers", ""),
    "peft": lambda m: m.result.environment.versions.get("peft", ""),
    "vezna": lambda m: m.result.environment.versions.get("vezna", ""),
}
"""What is held against each other. What frozen weights are held in is not among them: it is a part of the method, like
its rank."""
BY_SEED: dict[str, Read] = {
    "order of the rows": lambda m: _told(m.result.data.order if m.result.data else None),
    "steps": lambda m: str(m.result.steps),
    "tokens trained on": lambda m: str(m.result.tokens),
}
"""The same for every arm of a seed; another seed sees other rows first, and in a part of an epoch other tokens."""
TUNING: dict[str, Callable[[ArmTuning], str]] = {
    "trials": lambda t: str(len(t.trials)),
    "steps of the trials": lambda t: str(t.steps),
    "tokens of the trials": lambda t: str(t.tokens),
}
"""What was spent on looking for a learning rate."""
FOUND = ("steps", "tokens trained on", "steps of the trials", "tokens of the trials")
"""With early stopping these are what came of a run, not what it was given."""


def conditions(
    spec: StudySpec, made: Mapping[str, Sequence[Made]], tuning: Mapping[str, ArmTuning]
) -> tuple[Condition, ...]:
    """What an arm may set for itself beside its method and its rate, then what its runs were seen under, then what
    tuning took. `made` and `tuning` by arm; an arm without runs has no value."""
    usual = spec.training.weight_decay
    decays = {arm.title: {f"{usual if arm.weight_decay is None else arm.weight_decay:g}"} for arm in spec.arms}
    there = {title: runs for title, runs in made.items() if runs}
    settled = {title: found for title, found in tuning.items() if found.trials}
    every = (
        Condition.of("weight decay", decays),
        *(Condition.of(name, _values(there, read)) for name, read in CONDITIONS.items()),
        *(Condition.by_seed(name, _seeds(there, read)) for name, read in BY_SEED.items()),
        *(Condition.of(name, {t: {read(found)} for t, found in settled.items()}) for name, read in TUNING.items()),
    )
    known = (found for found in every if found.values)
    return tuple(found for found in known if found.name not in FOUND or not spec.training.early_stopping_patience)


def _values(made: Mapping[str, Sequence[Made]], read: Read) -> dict[str, set[str]]:
    """What is known; a run from before something was looked at says nothing of it."""
    seen = {title: {value for run in runs if (value := read(run))} for title, runs in made.items()}
    return {title: values for title, values in seen.items() if values}


def _seeds(made: Mapping[str, Sequence[Made]], read: Read) -> dict[str, dict[int, str]]:
    seen = {title: {run.seed: value for run in runs if (value := read(run))} for title, runs in made.items()}
    return {title: values for title, values in seen.items() if values}
