"""What passes between the supervisor and its trainer process: the job (a JSON file) and the reports (JSON lines)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.metrics import Evaluation, RunResult, StepMetrics
from app.domain.runs import Failure, Phase, RunSpec


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainJob(_Message):
    """Everything that a trainer needs; it reads no settings and no database."""

    run_id: int
    epoch: int
    spec: RunSpec
    model_location: str
    """A directory, or a hub id."""
    model_revision: str = ""
    dataset_file: str
    """A local Parquet file with the columns of `datasets.Row`."""
    labels: list[str]
    output: str
    """An empty local directory; what the trainer leaves in it becomes the run's artifacts."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    """CPU threads; None takes torch's own choice."""
    claimed_at: float
    """Unix seconds at the claim: the attempt's wall time starts here."""


class PhaseReport(_Message):
    """The attempt has entered a phase."""

    type: Literal["phase"] = "phase"
    phase: Phase
    total_steps: int | None = None
    """Optimizer steps that training will take, known from `tokenize` on."""


class StepsReport(_Message):
    """Optimizer steps, in order."""

    type: Literal["steps"] = "steps"
    steps: list[StepMetrics]


class EvaluationReport(_Message):
    """A finished evaluation. `scores` holds one number an item (1 right, 0 wrong), in the order of `items`."""

    type: Literal["evaluation"] = "evaluation"
    evaluation: Evaluation
    items: list[str] = Field(default_factory=list)
    """Item names in order; given for the test split only."""
    scores: list[float] = Field(default_factory=list)


class LogReport(_Message):
    """A line for the run's log."""

    type: Literal["log"] = "log"
    message: str


class ResultReport(_Message):
    """The attempt succeeded; nothing follows."""

    type: Literal["result"] = "result"
    result: RunResult


class FailureReport(_Message):
    """The attempt failed for a reason that it knows; nothing follows."""

    type: Literal["failure"] = "failure"
    failure: Failure


Report = Annotated[
    PhaseReport | StepsReport | EvaluationReport | LogReport | ResultReport | FailureReport,
    Field(discriminator="type"),
]

EXIT_STOPPED = 75
"""Exit status of a trainer that was told to stop and did (EX_TEMPFAIL)."""
EXIT_ABANDONED = 76
"""Exit status of a trainer that ended itself because its supervisor or its lease was gone."""
