"""The answers of the API, as far as a script needs them.

Each class names the schema of the OpenAPI document that it reads; a test compares their fields. What the server says
beyond that is kept in `model_extra`. Scores, differences and margins are fractions, times are in seconds.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED = ("succeeded", "failed", "cancelled")


class Answer(BaseModel):
    """Base of the answers."""

    schema_name: ClassVar[str]
    model_config = ConfigDict(extra="allow", frozen=True)


class Failure(Answer):
    schema_name = "Failure"
    code: str
    message: str


class Run(Answer):
    schema_name = "RunOut"
    id: int
    study_id: int | None
    collection_id: int | None
    arm: str
    status: RunStatus
    attempt: int
    step: int
    total_steps: int | None
    eta_seconds: float | None
    train_loss: float | None
    metric: str
    validation_score: float | None
    score: float | None
    base_score: float | None
    failure: Failure | None
    cancel_requested: bool

    @property
    def ended(self) -> bool:
        """It has succeeded, failed, or was cancelled."""
        return self.status in ENDED


class RunInList(Answer):
    schema_name = "RunBrief"
    id: int
    study_id: int | None
    arm: str
    method: str
    status: RunStatus
    score: float | None
    imported: bool


class RunPage(Answer):
    """A page of the list of runs, newest first."""

    schema_name = "RunPage"
    items: list[RunInList]
    has_more: bool
    next_after: int | None
    """`after` of the next page."""


class Study(Answer):
    schema_name = "StudyOut"
    id: int
    name: str
    status: Literal["queued", "running", "finished", "cancelled"]
    runs: list[int]
    """Ids of the runs that enter the verdict."""
    trials: list[int]
    done: int
    stopped: list[str]


class SubmittedStudy(Study):
    schema_name = "SubmittedStudy"
    warning: str
    """Why it probably cannot decide, and what would; empty otherwise."""


class Score(Answer):
    """A mean with its 95 % interval."""

    schema_name = "ScoreOut"
    mean: float
    low: float | None
    high: float | None
    seeds: int
    items: int | None


class Verdict(Answer):
    """An arm against the reference."""

    schema_name = "VerdictOut"
    kind: str
    """`enough` (of a test of equivalence `within` or `better`), `worse`, `undecided`, `hint`, or `none`."""
    sentence: str
    explanation: str
    confounder: str | None
    """What rules a verdict out."""
    delta: float | None
    low: float | None
    high: float | None
    confidence: float | None


class Confounder(Answer):
    """A condition that makes arms incomparable."""

    schema_name = "ConfounderOut"
    kind: str
    effect: Literal["verdict", "cost", "doubt"]
    sentence: str


class Condition(Answer):
    """A condition of training or measurement, and what is known of it over all arms."""

    schema_name = "StatedConditionOut"
    name: str
    knowledge: Literal["equal", "differs", "unknown"]
    values: dict[str, str]
    """By arm."""


class StudyArm(Answer):
    schema_name = "StudyArmOut"
    title: str
    method: str
    reference: bool
    runs: list[int]
    statuses: dict[str, int]
    seeds: int
    score: Score | None
    verdict: Verdict | None


class Arm(StudyArm):
    """An arm of a comparison of any runs."""

    schema_name = "RunArmOut"
    settings: dict[str, str]


class Comparison(Answer):
    """Any runs, compared."""

    schema_name = "RunComparisonOut"
    headline: str
    metric: str
    margin: float
    confidence: float
    arms: list[Arm]
    confounders: list[Confounder]
    conditions: list[Condition]


class StudyComparison(Answer):
    """The arms of a study, compared."""

    schema_name = "StudyComparisonOut"
    study_id: int
    headline: str
    summary: str
    metric: str
    margin: float
    confidence: float
    complete: bool
    interim_looks: int
    caveats: list[str]
    arms: list[StudyArm]
    confounders: list[Confounder]


class Artifact(Answer):
    schema_name = "ArtifactOut"
    id: int
    run_id: int
    name: str
    kind: str
    bytes: int
    sha256: str


class ExternalRun(Answer):
    """A run that is trained elsewhere."""

    schema_name = "ExternalRunOut"
    id: int
    arm: str
    seed: int
    status: RunStatus
    step: int
    total_steps: int | None
    score: float | None
    heard_at: datetime | None
    no_news: bool


class ExternalStudy(Answer):
    """A study whose runs are trained elsewhere."""

    schema_name = "ExternalStudyOut"
    id: int
    name: str
    spec: dict[str, Any]
    reference: str
    runs: list[ExternalRun]


class RunState(Answer):
    """What a script is told of the run that it reports."""

    schema_name = "RunState"
    run_id: int
    status: RunStatus
    attempt: int
    next_batch: int
    step: int
    cancel: bool


class RunProgress(BaseModel):
    """A run in a `progress` event."""

    model_config = ConfigDict(extra="allow", frozen=True)

    id: int
    arm: str
    seed: int
    status: RunStatus
    phase: str | None
    step: int
    total_steps: int | None
    eta_seconds: float | None
    train_loss: float | None
    validation_score: float | None
    metric: str
    score: float | None
    failure_code: str | None


class StudyProgress(BaseModel):
    """A study in a `progress` event."""

    model_config = ConfigDict(extra="allow", frozen=True)

    id: int
    status: str
    done: int
    total: int
    runs: list[RunProgress] = Field(default_factory=list)
