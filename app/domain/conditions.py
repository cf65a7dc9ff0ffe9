"""What a study's runs were made under: held equal for every arm, or named beside the verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.domain.metrics import RunResult
from app.domain.studies import StudySpec


@dataclass(frozen=True)
class Condition:
    """Something that runs were made under, and its value by arm."""

    name: str
    values: dict[str, str]
    """By arm title; several values within an arm are joined by a comma."""
    equal: bool
    """All runs of all arms had one value."""

    @classmethod
    def of(cls, name: str, seen: Mapping[str, set[str]]) -> "Condition":
        """From the values that an arm's runs had."""
        joined = {title: ", ".join(sorted(values)) for title, values in seen.items()}
        return cls(name, joined, equal=len(set().union(*seen.values())) <= 1)

    @property
    def value(self) -> str:
        """The value of the first arm: all arms' where they are equal."""
        return next(iter(self.values.values()), "")


CONDITIONS: dict[str, Callable[[RunResult], str]] = {
    "device": lambda r: r.environment.device_name,
    "threads": lambda r: str(r.environment.threads),
    "precision": lambda r: r.environment.precision,
    "attention": lambda r: r.environment.attention,
    "steps": lambda r: str(r.steps),
    "tokens trained on": lambda r: str(r.tokens),
    "torch": lambda r: r.environment.versions.get("torch", ""),
    "transformers": lambda r: r.environment.versions.get("transformers", ""),
    "peft": lambda r: r.environment.versions.get("peft", ""),
}
"""What is held against each other; seen in results, not promised by specs. What frozen weights are held in is not
among them: it is a part of the method, like its rank."""

FOUND = ("steps", "tokens trained on")
"""With early stopping these are what came of a run, not what it was given."""


def conditions(spec: StudySpec, results: Mapping[str, Sequence[RunResult]]) -> tuple[Condition, ...]:
    """What an arm may set for itself beside its method and its rate, then what its results were seen under."""
    usual = spec.training.weight_decay
    read_from = {n: r for n, r in CONDITIONS.items() if n not in FOUND or not spec.training.early_stopping_patience}
    decays = {arm.title: {f"{usual if arm.weight_decay is None else arm.weight_decay:g}"} for arm in spec.arms}
    return (
        Condition.of("weight decay", decays),
        *(
            Condition.of(name, {title: {read(result) for result in seen} for title, seen in results.items() if seen})
            for name, read in read_from.items()
        ),
    )
