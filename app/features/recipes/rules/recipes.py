"""Recipes: published claims as runnable studies, with the rule that decides fixed before the runs.

A recipe is a file of `recipes/`. Its study lacks what the user chooses (base model, dataset); its checks say what must
be observed. Each check is a statistic with an interval (`app.features.recipes.rules.checks`):

    reproduced        every check is confirmed
    not reproduced    a check is refuted, and not confirmed
    undecided         otherwise
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.messages import _, choose_from
from app.domain.runs.training import Seed, TrainingBudget
from app.domain.studies.alternative import Alternative
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import MOST_ARMS
from app.domain.studies.tuning.tuning import NoTuning, TuningSpec
from app.domain.tasks import MetricName, Task
from app.domain.validation import Line, Name, invalid_field


class Outcome(StrEnum):
    """How a claim fared here."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not_reproduced"
    UNDECIDED = "undecided"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(_Value):
    """Where a claim was published."""

    citation: Name
    url: Name
    setting: Name
    """Models, data and training of the source, in a few words."""
    checked: Name
    """How the claim was checked against its source."""


class Condition(_Value):
    """What an interval must satisfy; all that is given must hold."""

    below: float | None = None
    """Its upper end is below this."""
    above: float | None = None
    """Its lower end is above this."""
    contains: float | None = None
    excludes: float | None = None
    outside: float | None = Field(default=None, gt=0)
    """It lies wholly outside of ± this."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise invalid_field("", _("A condition is empty"), _("Give below, above, contains, excludes or outside"))
        return self

    def holds(self, low: float, high: float) -> bool:
        """For an interval."""
        return (
            (self.below is None or high < self.below)
            and (self.above is None or low > self.above)
            and (self.contains is None or low <= self.contains <= high)
            and (self.excludes is None or not low <= self.excludes <= high)
            and (self.outside is None or high < -self.outside or low > self.outside)
        )


class Contrast(_Value):
    """A weighted sum of arms' mean scores, in points: a difference of two arms, or a change of a difference."""

    kind: Literal["contrast"]
    weights: dict[Name, float] = Field(min_length=2)
    """By arm; they add up to 0."""

    @model_validator(mode="after")
    def _weights_add_up(self) -> Self:
        if abs(sum(self.weights.values())) > 1e-9 or not all(self.weights.values()):
            raise invalid_field("weights", _("The weights of a contrast do not add up to 0"), _("Such as 1 and −1"))
        return self

    @property
    def arms(self) -> list[str]:
        """The arms that it reads."""
        return list(self.weights)


class Forgetting(_Value):
    """An arm's mean forgetting minus another's, in nats per token."""

    kind: Literal["forgetting"]
    arm: Name
    other: Name

    @property
    def arms(self) -> list[str]:
        """The arms that it reads."""
        return [self.arm, self.other]


class RateRatio(_Value):
    """The best learning rate of some arms, divided by that of others; the arms of a list differ by their rate alone."""

    kind: Literal["rate_ratio"]
    numerator: list[Name] = Field(min_length=3)
    denominator: list[Name] = Field(min_length=3)

    @property
    def arms(self) -> list[str]:
        """The arms that it reads."""
        return [*self.numerator, *self.denominator]


class SeedNoise(_Value):
    """By how much two runs differ that differ only in their seed: 95 % of such pairs, in points."""

    kind: Literal["seed_noise"]
    over: list[Name] = Field(min_length=1)

    @property
    def arms(self) -> list[str]:
        """The arms that it reads."""
        return self.over


Statistic = Annotated[Contrast | Forgetting | RateRatio | SeedNoise, Field(discriminator="kind")]


class Check(_Value):
    """A statistic, and which intervals of it confirm or refute the claim."""

    name: Name
    statistic: Statistic
    confirmed: Condition
    refuted: Condition


class ArmTemplate(ArmSpec):
    """An arm, parts of which depend on the base model."""

    attention_only: bool = False
    """Its target modules are the linear layers of the attention."""
    parameters_of: Line = ""
    """The arm that it has as many trainable parameters as: its rank is chosen for that."""

    def arm(self, method: Mapping[str, Any]) -> ArmSpec:
        """With its method's settings for a base model."""
        own = self.model_dump(exclude={"attention_only", "parameters_of", "method"})
        return ArmSpec.model_validate(own | {"method": self.method.model_dump() | dict(method)})


class StudyTemplate(_Value):
    """A study without its base model and its data."""

    task: Task
    arms: list[ArmTemplate] = Field(min_length=1, max_length=MOST_ARMS)
    seeds: list[Seed] = Field(min_length=2)
    training: TrainingBudget
    tuning: TuningSpec = NoTuning()
    reference: Line = ""
    margin_points: float = Field(gt=0, le=100)
    alternative: Alternative = Alternative.NON_INFERIORITY
    metric: MetricName | None = None
    general_text: bool = False
    """It measures forgetting, so it needs a dataset of general text."""


class Recipe(_Value):
    """A claim, its source, the study that tests it, and the rule that decides."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)
    title: Name = Field(max_length=80)
    claim: Name = Field(max_length=200)
    """In one line."""
    paper: Name = Field(max_length=60)
    """What the source reports, in a few words: `about 10×`."""
    source: Source
    confirmed_by: Name = Field(max_length=200)
    """What must be observed, in words; `checks` is the same for the machine."""
    rule: Name
    """When it is reproduced, not reproduced or undecided."""
    checks: list[Check] = Field(min_length=1)
    study: StudyTemplate
    published: Literal["", "peft-method-comparison"] = ""
    """Published results that its card reports beside its own runs."""

    @model_validator(mode="after")
    def _arms_exist(self) -> Self:
        names = [arm.name for arm in self.study.arms]
        if "" in names:
            raise invalid_field("study.arms", _("An arm of a recipe has no name"), _("Name each arm"))
        for place, check in enumerate(self.checks):
            if missing := [name for name in check.statistic.arms if name not in names]:
                what = _("The check reads the arm %(arm)r, which the study does not have", arm=missing[0])
                raise invalid_field(f"checks.{place}.statistic", what, choose_from(names))
            if check.statistic.kind == "forgetting" and not self.study.general_text:
                what = _("The check reads forgetting, which the study does not measure")
                raise invalid_field("study.general_text", what, _("Set it to true"))
        for place, arm in enumerate(self.study.arms):
            if arm.parameters_of and arm.parameters_of not in names[:place]:
                what = _("There is no earlier arm %(arm)r", arm=arm.parameters_of)
                raise invalid_field(f"study.arms.{place}.parameters_of", what, choose_from(names[:place]))
        return self

    @property
    def runs(self) -> int:
        """Runs that count: arms × seeds."""
        return len(self.study.arms) * len(self.study.seeds)

    def outcome(self, intervals: Sequence[tuple[float, float] | None]) -> Outcome:
        """From the interval of each check; None where there is none."""
        confirmed, refuted = [], []
        for check, interval in zip(self.checks, intervals, strict=True):
            confirmed.append(interval is not None and check.confirmed.holds(*interval))
            refuted.append(interval is not None and check.refuted.holds(*interval) and not confirmed[-1])
        if all(confirmed):
            return Outcome.REPRODUCED
        return Outcome.NOT_REPRODUCED if any(refuted) else Outcome.UNDECIDED
