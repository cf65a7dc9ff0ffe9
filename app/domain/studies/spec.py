"""A study: a fair comparison, spelled out as the runs that it owes."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from itertools import zip_longest
from math import ceil
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.domain.messages import _, choose_from
from app.domain.runs.spec import RunSpec, check_metric
from app.domain.runs.status import RunStatus
from app.domain.runs.together import TrainTogether
from app.domain.runs.training import Seed, TrainingArguments, TrainingBudget
from app.domain.studies.alternative import Alternative
from app.domain.studies.arms import ArmSpec, arm_names, without_default_names
from app.domain.studies.next_step import Try, next_step
from app.domain.studies.tuning.search_checks import search_problem, space_of
from app.domain.studies.tuning.search_space import Configuration, SearchSpace
from app.domain.studies.tuning.tuning import NoTuning, TuningSpec, seeds_for, trials_owed
from app.domain.tasks import DEFAULT_TASK, TASKS, MetricName, Task
from app.domain.validation import Line, Name, invalid_field

MOST_ARMS = 32


class OwedRun(NamedTuple):
    """A run that a study owes."""

    arm: str
    seed: int
    spec: RunSpec
    trial_round: int | None = None
    """The round of tuning that it is a trial of; None for a run that counts in the verdict."""
    configuration: Configuration | None = None
    """The configuration that a trial tries."""


class StudyStatus(StrEnum):
    """Where a study stands; it follows from its runs."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """The status is final unless seeds or arms are added."""
        return self in (StudyStatus.FINISHED, StudyStatus.CANCELLED)


def status_of(runs: Collection[RunStatus]) -> StudyStatus:
    """Queued until a run starts; running until all runs have ended; cancelled if every run was cancelled."""
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
    task: Task = DEFAULT_TASK
    arms: list[ArmSpec] = Field(min_length=1, max_length=MOST_ARMS)
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1, max_length=100)
    tuning: TuningSpec = NoTuning()
    """How each arm's hyperparameters are searched, with the same budget for every arm."""
    training: TrainingBudget = TrainingBudget()
    """The budget of every arm, except for what an arm sets for itself."""
    reference: Line = ""
    """The arm that the others are compared with; empty selects the first `full` arm, or else the first arm."""
    margin_points: float = Field(default=1.0, gt=0, le=100)
    """The loss of score, in percentage points, that is acceptable for a cheaper method. Where none is given, a
    submitted study takes one that its test split can decide on (`app.domain.studies.plan.default_margin`)."""
    alternative: Alternative = Alternative.NON_INFERIORITY
    """What an arm must show to be good enough: that it loses less than the margin, or with equivalence that it differs
    by less."""
    metric: MetricName | None = None
    """The metric of the verdict; None selects the task's default."""
    train_together: TrainTogether = "none"
    """LoRA runs of an arm that may train in one process, on one frozen base model."""
    general_text: Name | None = Field(default=None, max_length=200)
    """Name of a registered dataset of plain texts on which forgetting is measured."""

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        for place, seed in enumerate(seeds):
            if seed in seeds[:place]:
                raise invalid_field(
                    str(place),
                    _("A seed is given twice"),
                    _("Change or remove it: a repeated seed adds no information"),
                )
        return seeds

    @field_validator("arms")
    @classmethod
    def _name_arms(cls, arms: list[ArmSpec]) -> list[ArmSpec]:
        """Names are stored, so they stay when an arm is added."""
        pairs = zip(arms, arm_names(arms), strict=True)
        return [arm if arm.name == name else arm.model_copy(update={"name": name}) for arm, name in pairs]

    @field_validator("training", mode="before")
    @classmethod
    def _name_what_arms_do_not_share(cls, training: object) -> object:
        if isinstance(training, dict) and "learning_rate" in training:
            raise invalid_field(
                "learning_rate", _("Each arm of a study has its own learning rate"), _("Set it on each arm")
            )
        if isinstance(training, dict) and "seed" in training:
            raise invalid_field(
                "seed", _("Each run of a study has its own seed"), _("Set the seeds of the study instead")
            )
        return training

    @model_validator(mode="after")
    def _metric_is_the_tasks(self) -> "StudySpec":
        check_metric(self.task, self.metric, self.general_text)
        return self

    @model_validator(mode="after")
    def _arms_can_be_divided(self) -> "StudySpec":
        for place, arm in enumerate(self.arms):
            if problem := self.training_of(arm).devices_problem:
                own = problem.path if arm.devices else "gradient_accumulation_steps"
                raise invalid_field(f"arms.{place}.{own}", problem.message, problem.remedy)
        return self

    @model_validator(mode="after")
    def _arms_differ(self) -> "StudySpec":
        titles = [arm.title for arm in self.arms]
        owed = [(self.run(arm, self.seeds[0], Configuration()), arm.search) for arm in self.arms]
        for place, title in enumerate(titles):
            path = f"arms.{place}"
            if title in titles[:place]:
                raise invalid_field(
                    f"{path}.name",
                    _("Two arms are named %(title)r", title=title),
                    _("Give one of them another name or another method"),
                )
            if owed[place] in owed[:place]:
                first = titles[owed.index(owed[place])]
                raise invalid_field(
                    path,
                    _("The arm %(title)r differs from %(first)r only in its name", title=title, first=first),
                    _("Change or remove it"),
                )
        if self.reference and self.reference not in titles:
            raise invalid_field(
                "reference",
                _("The reference %(reference)r is not an arm", reference=self.reference),
                choose_from(titles),
            )
        return self

    @model_validator(mode="after")
    def _searches_are_possible(self) -> "StudySpec":
        def try_out(arm: ArmSpec, configuration: Configuration) -> RunSpec:
            return self.run(arm, self.seeds[0], configuration)

        for place, arm in enumerate(self.arms):
            if problem := search_problem(self.tuning, self.arms, arm, try_out):
                raise invalid_field(f"arms.{place}.{problem.path}", problem.message, problem.remedy)
        return self

    @property
    def reference_arm(self) -> str:
        """The arm that the others are compared with."""
        full = [a.title for a in self.arms if a.method.kind == "full"]
        return self.reference or (full[0] if full else self.arms[0].title)

    def with_default_rates(self, width: int | None) -> "StudySpec":
        """With the methods' defaults for a base model of this width where an arm has no learning rate; a default name
        states the rate that distinguishes its arm. Raises pydantic's ValidationError if two arms become the same."""
        if all(arm.learning_rate is not None for arm in self.arms):
            return self
        factor = TASKS[self.task].rate_factor
        arms = [arm.with_default_rate(width, factor) for arm in without_default_names(self.arms)]
        names = dict(zip((arm.title for arm in self.arms), arm_names(arms), strict=True))
        update = {"arms": arms, "reference": names.get(self.reference, "")}
        return StudySpec.model_validate(self.model_dump() | update)

    @property
    def verdict_metric(self) -> MetricName:
        """The metric that the verdict rests on."""
        return self.metric or TASKS[self.task].metric

    def arm(self, title: str) -> ArmSpec:
        return next(a for a in self.arms if a.title == title)

    def training_of(self, arm: ArmSpec) -> TrainingBudget:
        """The budget with what the arm sets for itself."""
        return arm.training(self.training)

    def space(self, arm: ArmSpec) -> SearchSpace:
        """What its trials vary: its own space, or the learning rate. Empty without tuning."""
        return space_of(self.tuning, arm)

    @property
    def largest(self) -> "StudySpec":
        """The study with the largest rank that each arm's search may try: what needs the most memory."""
        return self.model_copy(update={"arms": [arm.largest for arm in self.arms]})

    @property
    def smallest(self) -> "StudySpec":
        """The study with the smallest rank that each arm's search may try: what trains fastest."""
        return self.model_copy(update={"arms": [arm.smallest for arm in self.arms]})

    def trials_owed(self, arm: ArmSpec) -> int | None:
        """Its trials if none fails; None where the budget is not a number of trials."""
        return trials_owed(self.tuning, self.space(arm))

    def owed(self, chosen: Mapping[str, Configuration] | None = None) -> list[OwedRun]:
        """The runs that count, seed by seed, so that the first partial verdict comes early.

        `chosen`: the configurations that tuning has found, by arm; the runs of arms that it does not name are left out.
        None takes every arm's own.
        """
        arms = [arm for arm in self.arms if chosen is None or arm.title in chosen]
        return [
            OwedRun(arm.title, seed, self.run(arm, seed, chosen[arm.title] if chosen else Configuration()))
            for seed in self.seeds
            for arm in arms
        ]

    def trials(self, arm: ArmSpec, round_: int, configurations: Collection[Configuration]) -> list[OwedRun]:
        """The trials of an arm at some configurations: runs with seeds of their own that do not measure forgetting, for
        the share of the budget that the round has."""
        share = self.tuning.rounds[round_].share
        return [
            OwedRun(arm.title, seed, self.run(arm, seed, configuration, share), round_, configuration)
            for seed in seeds_for(self.tuning, self.seeds)
            for configuration in configurations
        ]

    def first_trials(self) -> list[OwedRun]:
        """The trials that tuning begins with, one by one over the arms; none without tuning."""
        if isinstance(self.tuning, NoTuning):
            return []
        by_arm = []
        for arm in self.arms:
            step = next_step(self.tuning, self.space(arm), ())
            by_arm.append(self.trials(arm, step.round, step.configurations) if isinstance(step, Try) else [])
        return [owed for together in zip_longest(*by_arm) for owed in together if owed is not None]

    def run(self, arm: ArmSpec, seed: int, configuration: Configuration, share: float | None = None) -> RunSpec:
        """A run of an arm at a configuration; a trial has a share of the budget. Raises pydantic's ValidationError."""
        settled = arm.at(configuration, self.training)
        training = self.training_of(settled)
        update: dict[str, object] = {"seed": seed, "learning_rate": settled.rate}
        if share is not None:
            update |= shortened(training, share)
        return RunSpec(
            base_model=self.base_model,
            dataset=self.dataset,
            task=self.task,
            metric=self.metric,
            general_text=self.general_text if share is None else None,
            method=settled.method,
            training=TrainingArguments.model_validate(training.model_dump() | update),
        )


def shortened(training: TrainingBudget, share: float) -> dict[str, object]:
    """What makes a share of a budget: epochs or steps, and a warm-up that is given in steps."""
    shorter: dict[str, object] = {"num_train_epochs": training.num_train_epochs * share}
    if training.max_steps is not None:
        shorter["max_steps"] = ceil(training.max_steps * share)
    if training.warmup_steps >= 1:
        shorter["warmup_steps"] = max(1.0, training.warmup_steps * share)
    return shorter
