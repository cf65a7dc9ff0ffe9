"""A study whose runs are trained elsewhere: what it fixes before they begin. docs/elsewhere.md describes it.

arms       by label; one of them is the reference
seeds      one run per arm and seed, no others
margin     the difference that does not matter, in points of the metric
"""

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.domain.imports.facts import check_method
from app.domain.messages import _, choose_from
from app.domain.methods import Family
from app.domain.runs.training import Seed
from app.domain.studies.alternative import Alternative
from app.domain.validation import Line, Name, invalid_field

MOST_ARMS = 32
MOST_RUNS = 100
"""As many as a comparison takes."""


class ExternalArm(BaseModel):
    """An arm that is trained elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: Name = Field(max_length=60)
    """Its name for people, by which a script names it: `LoRA r=8`."""
    method: Name | None = Field(default=None, max_length=40)
    """Its kind: a method of Vezna (`lora`, `full`), or another word together with a `family`."""
    family: Family | None = None

    @model_validator(mode="after")
    def _method_is_known(self) -> "ExternalArm":
        check_method(self.method, self.family)
        return self


class ExternalStudySpec(BaseModel):
    """Arms × seeds that are trained elsewhere, compared by one metric."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name = Field(max_length=120)
    task: Name = Field(max_length=40)
    """What the models learn, in words: `sequence-classification`, `token classification`."""
    metric: Name = Field(default="accuracy", max_length=20)
    """What every item's score is; higher is better."""
    arms: list[ExternalArm] = Field(min_length=2, max_length=MOST_ARMS)
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1, max_length=MOST_RUNS)
    reference: Line = ""
    """Label of the arm that the others are compared with; empty selects the first `full` arm, or else the first."""
    margin_points: float = Field(default=1.0, gt=0, le=100)
    """The loss of score, in percentage points, that is acceptable for a cheaper method."""
    alternative: Alternative = Alternative.NON_INFERIORITY
    """What an arm must show to be good enough."""

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        for place, seed in enumerate(seeds):
            if seed in seeds[:place]:
                what = _("A seed is given twice")
                raise invalid_field(str(place), what, _("Change or remove it: a repeated seed adds no information"))
        return seeds

    @model_validator(mode="after")
    def _arms_differ(self) -> "ExternalStudySpec":
        labels = [arm.label for arm in self.arms]
        if len(labels) * len(self.seeds) > MOST_RUNS:
            what = _("%(arms)s arms with %(seeds)s seeds are too many", arms=len(labels), seeds=len(self.seeds))
            raise invalid_field("seeds", what, _("Declare at most %(most)s runs", most=MOST_RUNS))
        for place, label in enumerate(labels):
            if label in labels[:place]:
                what = _("Two arms are named %(title)r", title=label)
                raise invalid_field(f"arms.{place}.label", what, _("Give one of them another name"))
        if self.reference and self.reference not in labels:
            what = _("There is no arm %(title)r", title=self.reference)
            raise invalid_field("reference", what, choose_from(labels))
        return self

    @property
    def reference_arm(self) -> str:
        full = [arm.label for arm in self.arms if arm.method == "full"]
        return self.reference or next(iter(full), self.arms[0].label)

    def arm(self, label: str) -> ExternalArm | None:
        return next((arm for arm in self.arms if arm.label == label), None)
