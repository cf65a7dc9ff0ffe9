"""What the script of a run trained elsewhere sends: it opens the run, reports batches, and ends it.

Batches are numbered from 1. A batch that was accepted before is accepted again without effect; one that leaves a gap is
refused with the number that is expected.
"""

from datetime import timedelta
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.domain.data.dataset import Split
from app.domain.errors import Invalid
from app.domain.imports.declared import ExternalStudySpec
from app.domain.imports.facts import Fraction
from app.domain.imports.reported import ReportedRun, RunFacts
from app.domain.imports.result import MOST_ITEMS, check_item_groups, check_item_names
from app.domain.messages import _
from app.domain.runs.result import StepMetrics
from app.domain.runs.training import Seed
from app.domain.validation import Key, Line, Name, Verbatim, field_error, invalid_field

MOST_STEPS = 2000
MOST_EVALUATIONS = 100
LARGEST_STEP = 2**31 - 1
QUIET = timedelta(minutes=15)
"""Without a report, after which people are told when the last one came. The package `vezna` reports every minute."""
SILENCE = timedelta(days=1)
"""Without a report, after which a run that goes on is shown as having no news."""
WHY = 2000
"""Characters of the reason of a failure."""


class RunOpening(BaseModel):
    """Opens the run of an arm and a seed."""

    model_config = ConfigDict(extra="forbid")

    key: Name = Field(max_length=200)
    """The script's own name of the run. A script that is started again with the same key continues the run."""
    arm: Line
    seed: Seed
    total_steps: int | None = Field(default=None, ge=1, le=LARGEST_STEP)
    facts: RunFacts = RunFacts()


class ReportedStep(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    step: int = Field(ge=1, le=LARGEST_STEP)
    loss: float | None = None
    """Null if it is not a number."""
    epoch: float = Field(default=0.0, ge=0, le=1e9)
    learning_rate: float = Field(default=0.0, ge=0, le=1e6)
    grad_norm: float | None = None
    tokens: int = Field(default=0, ge=0, le=2**62)
    """Trained on so far."""
    seconds: float = Field(default=0.0, ge=0, le=1e12)
    """Seconds of training so far."""
    memory_bytes: int = Field(default=0, ge=0, le=2**62)

    @property
    def metrics(self) -> StepMetrics:
        nan = float("nan")
        values = self.model_dump() | {
            "loss": nan if self.loss is None else self.loss,
            "grad_norm": nan if self.grad_norm is None else self.grad_norm,
        }
        return StepMetrics.model_construct(**values)


class ReportedEvaluation(BaseModel):
    """The metric on a split."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    step: int = Field(ge=0, le=LARGEST_STEP)
    epoch: float = Field(default=0.0, ge=0, le=1e9)
    split: Split = "validation"
    items: int = Field(ge=1, le=MOST_ITEMS)
    score: Fraction
    loss: float | None = None

    @field_validator("split")
    @classmethod
    def _not_the_test(cls, split: Split) -> Split:
        if split == "test":
            raise invalid_field(
                "",
                _("The test split is scored once, at the end of the run"),
                _("Send its item_scores with the end of the run"),
            )
        return split


class ReportBatch(BaseModel):
    """A numbered batch of reports."""

    model_config = ConfigDict(extra="forbid")

    attempt: int = Field(ge=1, le=LARGEST_STEP)
    """The number that opening the run returned."""
    number: int = Field(ge=1, le=LARGEST_STEP)
    """From 1, one more with each batch of the run."""
    steps: list[ReportedStep] = Field(default=[], max_length=MOST_STEPS)
    evaluations: list[ReportedEvaluation] = Field(default=[], max_length=MOST_EVALUATIONS)
    message: Verbatim = Field(default="", max_length=WHY)
    """A line for the run's log."""

    @field_validator("steps")
    @classmethod
    def _steps_ascend(cls, steps: list[ReportedStep]) -> list[ReportedStep]:
        for place, (before, after) in enumerate(pairwise(steps), start=1):
            if after.step <= before.step:
                what = _("Step %(step)s follows step %(before)s", step=after.step, before=before.step)
                raise invalid_field(str(place), what, _("Report steps in ascending order, each once"))
        return steps


class RecordedScore(BaseModel):
    """The score of a run that is imported from a tracker, which keeps none of each test item. Without these there is no
    verdict."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    score: Fraction
    items: int | None = Field(default=None, ge=1, le=MOST_ITEMS)
    """Test items, where the tracker says how many."""


class RunEnd(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    attempt: int = Field(ge=1, le=LARGEST_STEP)
    """The number that opening the run returned."""
    outcome: Literal["succeeded", "failed", "cancelled"]
    message: Verbatim = Field(default="", max_length=WHY)
    """Why it failed."""
    metric: Name | None = Field(default=None, max_length=20)
    """What the item scores are; it has to be the study's metric."""
    item_scores: dict[str, Fraction] | None = None
    """Score by hash of the test item, from 0 to 1; required of a run that succeeded."""
    item_groups: dict[str, Key] | None = None
    """The group of each item that shares one with others (user, document, template, equal input), by its hash; the same
    in every run of the study. The intervals count a group as one cluster."""
    recorded: RecordedScore | None = None
    """Instead of item_scores, of a run that is imported from a tracker."""
    facts: RunFacts = RunFacts()

    @field_validator("item_scores")
    @classmethod
    def _items_have_names(cls, scores: dict[str, float] | None) -> dict[str, float] | None:
        if scores is not None and len(scores) > MOST_ITEMS:
            what = _("item_scores has %(scores)s items", scores=len(scores))
            raise invalid_field("", what, _("Give at most %(most)s items", most=MOST_ITEMS))
        for name in scores or ():
            if len(name) > 200:
                raise invalid_field("", _("An item's name has %(n)s characters", n=len(name)), _("Send a hash of it"))
        check_item_names(scores or ())
        return scores

    @model_validator(mode="after")
    def _success_has_scores(self) -> "RunEnd":
        check_item_groups(self.item_groups, self.item_scores)
        if self.item_scores and self.recorded:
            what = _("The run has item_scores and a recorded score")
            raise invalid_field("recorded", what, _("Leave recorded out: the score is the mean of item_scores"))
        if self.outcome == "succeeded" and not self.item_scores and self.recorded is None:
            raise invalid_field(
                "item_scores",
                _("The run has no score for each test item, so it cannot be compared item by item"),
                _("Send item_scores: the hash of each test item with its score from 0 to 1"),
            )
        return self


def opened(spec: ExternalStudySpec, opening: RunOpening) -> ReportedRun:
    """What is known of a run when it is opened. Raises Invalid for an arm or a seed that the study did not declare."""
    arm = spec.arm(opening.arm)
    if arm is None:
        what = _("The study has no arm %(title)r", title=opening.arm)
        remedy = _("Choose from: %(arms)s", arms=", ".join(arm.label for arm in spec.arms))
        raise Invalid.field("arm", what, remedy)
    if opening.seed not in spec.seeds:
        what = _("The study does not declare the seed %(seed)s", seed=opening.seed)
        remedy = _("Choose from: %(seeds)s", seeds=", ".join(map(str, spec.seeds)))
        raise Invalid.field("seed", what, remedy)
    return _reported(
        {**_stated(opening.facts), **arm.model_dump(), "seed": opening.seed, "metric": spec.metric}, "facts"
    )


def with_facts(run: ReportedRun, facts: RunFacts, **changes: object) -> ReportedRun:
    """The same with what a script states later: settings, versions, environment and clocks are added by name, anything
    else replaces what was stated before. Raises Invalid, also if it contradicts what a verdict rests on."""
    merged = run.model_dump()
    for path, before, after in (
        ("metric_version", run.metric_version, facts.metric_version),
        ("base_model_hash", run.base_model_hash, facts.base_model_hash),
        ("splits.train", run.splits.train, facts.splits.train),
        ("splits.test", run.splits.test, facts.splits.test),
    ):
        if before and after and before != after:
            what = _("This contradicts what the run stated before, %(before)s", before=before)
            raise Invalid.field(
                f"facts.{path}", what, _("Report what is trained on other data as a run of another study")
            )
    for name, value in _stated(facts).items():
        merged[name] = {**merged[name], **value} if isinstance(value, dict) else value
    return _reported(merged | changes, "facts")


def _stated(facts: RunFacts) -> dict[str, object]:
    return facts.model_dump(exclude_unset=True, exclude_none=True)


def _reported(values: dict[str, object], path: str) -> ReportedRun:
    try:
        return ReportedRun.model_validate(values)
    except ValidationError as error:
        errors = [field_error({**e, "loc": (path, *e["loc"])}, {}) for e in error.errors(include_url=False)]
        raise Invalid.of(errors) from None
