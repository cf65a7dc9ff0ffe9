"""A study: a fair comparison, spelled out as the runs that it owes."""

from collections import Counter
from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.datasets import Task
from app.domain.methods import METHODS, MethodSpec, label
from app.domain.runs import RunSpec, RunStatus, TrainingArguments


class ArmSpec(BaseModel):
    """A method with its configuration. What is not said here is the study's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="", max_length=60, pattern=r"^[^\x00-\x1f]*$")
    """Unique in the study; empty takes the method's label, such as `LoRA r=8`."""
    method: MethodSpec
    learning_rate: float | None = Field(default=None, gt=0, le=10)
    """None takes the method's default."""
    weight_decay: float | None = Field(default=None, ge=0, le=10)

    @property
    def title(self) -> str:
        """The arm's name for people."""
        return self.name or label(self.method)


class OwedRun(NamedTuple):
    """A run that a study owes."""

    arm: str
    seed: int
    spec: RunSpec


class StudyStatus(StrEnum):
    """Where a study stands; it follows from its runs."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Nothing follows it, unless seeds are added."""
        return self in (StudyStatus.FINISHED, StudyStatus.CANCELLED)


def status_of(runs: Collection[RunStatus]) -> StudyStatus:
    """Queued until a run has begun; running while one may still end; cancelled if that ended them all."""
    if all(status is RunStatus.CANCELLED for status in runs):
        return StudyStatus.CANCELLED
    if all(status.terminal for status in runs):
        return StudyStatus.FINISHED
    if all(status is RunStatus.QUEUED for status in runs):
        return StudyStatus.QUEUED
    return StudyStatus.RUNNING


class StudySpec(BaseModel):
    """One base model, one dataset, one budget, several arms × seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f]*$")
    base_model: str = Field(min_length=1, max_length=200)
    dataset: str = Field(min_length=1, max_length=200)
    task: Task = "sequence-classification"
    arms: list[ArmSpec] = Field(min_length=1, max_length=32)
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1, max_length=100)
    training: TrainingArguments = TrainingArguments()
    """The budget that all arms share; its seed and learning rate are set by the study."""
    reference: str = ""
    """The arm that the others are held against; empty takes the first `full` arm, else the first arm."""
    margin_points: float = Field(default=1.0, gt=0, le=100)
    """The difference in accuracy, in percentage points, that one would accept for a cheaper method."""

    @model_validator(mode="after")
    def _arms_differ(self) -> "StudySpec":
        twice = [name for name, n in Counter(a.title for a in self.arms).items() if n > 1]
        if twice:
            raise ValueError(f"arm {twice[0]!r} is there twice: give one of them another name or another method")
        if len({a.model_copy(update={"name": ""}).model_dump_json() for a in self.arms}) < len(self.arms):
            raise ValueError("two arms are the same but for their names: change or remove one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is there twice: a repeated seed adds no information")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError("a seed is a whole number from 0 to 4294967295")
        if self.reference and self.reference not in [a.title for a in self.arms]:
            raise ValueError(
                f"the reference {self.reference!r} is not an arm: name one of {', '.join(a.title for a in self.arms)}"
            )
        return self

    @property
    def reference_arm(self) -> str:
        """The arm that the others are held against."""
        full = [a.title for a in self.arms if a.method.kind == "full"]
        return self.reference or (full[0] if full else self.arms[0].title)

    def arm(self, title: str) -> ArmSpec:
        """The arm of that name."""
        return next(a for a in self.arms if a.title == title)

    def owed(self) -> list[OwedRun]:
        """The runs, seed by seed, so that the first partial verdict comes early."""
        return [OwedRun(arm.title, seed, self._run(arm, seed)) for seed in self.seeds for arm in self.arms]

    def _run(self, arm: ArmSpec, seed: int) -> RunSpec:
        rate = arm.learning_rate or METHODS[arm.method.kind].learning_rate
        update: dict[str, object] = {"seed": seed, "learning_rate": rate}
        if arm.weight_decay is not None:
            update["weight_decay"] = arm.weight_decay
        return RunSpec(
            base_model=self.base_model,
            dataset=self.dataset,
            task=self.task,
            method=arm.method,
            training=self.training.model_copy(update=update),
        )
