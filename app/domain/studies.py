"""A study: a fair comparison, spelled out as the runs that it owes."""

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.domain.methods import MethodSpec
from app.domain.names import Line, Name, wrong
from app.domain.runs import RunSpec, RunStatus, Seed, TrainingArguments, check_metric
from app.domain.tasks import TASKS, MetricName, Task


class ArmSpec(BaseModel):
    """A method with its configuration. What is not said here is the study's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Line = Field(default="", max_length=60)
    """Unique in the study; empty takes the method's label, such as `LoRA r=8`."""
    method: MethodSpec
    learning_rate: float | None = Field(default=None, gt=0, le=10)
    """None takes the method's default."""
    weight_decay: float | None = Field(default=None, ge=0, le=10)

    @property
    def title(self) -> str:
        """The arm's name for people."""
        return self.name or self.method.label


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

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name = Field(max_length=120)
    base_model: Name = Field(max_length=200)
    dataset: Name = Field(max_length=200)
    task: Task = "sequence-classification"
    arms: list[ArmSpec] = Field(min_length=1, max_length=32)
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1, max_length=100)
    training: TrainingArguments = TrainingArguments()
    """The budget that all arms share; its seed and learning rate are set by the study."""
    reference: Line = ""
    """The arm that the others are held against; empty takes the first `full` arm, else the first arm."""
    margin_points: float = Field(default=1.0, gt=0, le=100)
    """The difference in the metric, in percentage points, that one would accept for a cheaper method."""
    metric: MetricName | None = None
    """What the verdict rests on; None takes the task's own."""
    general_text: Name | None = Field(default=None, max_length=200)
    """Name of a registered dataset of plain texts on which forgetting is measured."""

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        for place, seed in enumerate(seeds):
            if seed in seeds[:place]:
                raise wrong(
                    str(place), "a seed is there twice", "change or remove it: repeated, it adds no information"
                )
        return seeds

    @field_validator("training")
    @classmethod
    def _budget_leaves_seed_and_rate_to_the_study(cls, training: TrainingArguments) -> TrainingArguments:
        if training.learning_rate is not None:
            raise wrong("learning_rate", "a study's arms have learning rates of their own", "give it to each arm")
        if training.seed != TrainingArguments().seed:
            raise wrong("seed", "a study's runs have seeds of their own", "list them as the study's seeds")
        return training

    @model_validator(mode="after")
    def _metric_is_the_tasks(self) -> "StudySpec":
        check_metric(self.task, self.metric, self.general_text)
        return self

    @model_validator(mode="after")
    def _arms_differ(self) -> "StudySpec":
        titles = [arm.title for arm in self.arms]
        owed = [self._run(arm, self.seeds[0]) for arm in self.arms]
        for place, title in enumerate(titles):
            path = f"arms.{place}"
            if title in titles[:place]:
                raise wrong(f"{path}.name", f"arm {title!r} is there twice", "give it another name or another method")
            if owed[place] in owed[:place]:
                first = titles[owed.index(owed[place])]
                raise wrong(path, f"arm {title!r} is the same as {first!r} but for its name", "change or remove it")
        if self.reference and self.reference not in titles:
            raise wrong(
                "reference", f"the reference {self.reference!r} is not an arm", f"name one of {', '.join(titles)}"
            )
        return self

    @property
    def reference_arm(self) -> str:
        """The arm that the others are held against."""
        full = [a.title for a in self.arms if a.method.kind == "full"]
        return self.reference or (full[0] if full else self.arms[0].title)

    @property
    def verdict_metric(self) -> MetricName:
        """The metric that the verdict rests on."""
        return self.metric or TASKS[self.task].metric

    def arm(self, title: str) -> ArmSpec:
        """The arm of that name."""
        return next(a for a in self.arms if a.title == title)

    def owed(self) -> list[OwedRun]:
        """The runs, seed by seed, so that the first partial verdict comes early."""
        return [OwedRun(arm.title, seed, self._run(arm, seed)) for seed in self.seeds for arm in self.arms]

    def _run(self, arm: ArmSpec, seed: int) -> RunSpec:
        rate = arm.learning_rate or arm.method.facts.learning_rate
        update: dict[str, object] = {"seed": seed, "learning_rate": rate}
        if arm.weight_decay is not None:
            update["weight_decay"] = arm.weight_decay
        return RunSpec(
            base_model=self.base_model,
            dataset=self.dataset,
            task=self.task,
            metric=self.metric,
            general_text=self.general_text,
            method=arm.method,
            training=self.training.model_copy(update=update),
        )
