"""Messages between the supervisor and its trainer process: the job (a JSON file) and the reports (JSON lines)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.failures import Failure
from app.domain.models.base_model import ModelFile
from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.result import Evaluation, RunResult, StepMetrics
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import Phase
from app.domain.tasks import Format


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainJob(_Message):
    """Everything that a trainer needs; a trainer reads neither settings nor the database."""

    run_id: int
    epoch: int
    spec: RunSpec
    model_location: str
    """A directory, or a hub id."""
    model_revision: str = ""
    model_fingerprint: str = ""
    """The inspected commit, or the hash of the files: identifies the weights."""
    model_files: list[ModelFile] = Field(default_factory=list)
    """The files of a hub model that a run needs; empty if the inspection did not record them."""
    dataset_file: str
    """A local Parquet file with the columns of the format (`datasets.ROWS`)."""
    dataset_format: Format = "labelled"
    labels: list[str] = Field(default_factory=list)
    trial: bool = False
    """A trial of a learning rate: evaluated on the validation split, without the test split and saved weights."""
    general_file: str | None = None
    """A local Parquet file of plain texts on which forgetting is measured."""
    output: str
    """An empty local directory; the files that the trainer writes there become the run's artifacts."""
    cache: str | None = None
    """A local directory for files that later runs can reuse; None: no cache."""
    cache_bytes: int = 0
    """Maximum size of the cache."""
    resume: str | None = None
    """A local directory with a checkpoint to resume from."""
    checkpoint_seconds: float | None = None
    """Interval between checkpoints; None saves one only when the trainer is stopped."""
    stop_seconds: float | None = None
    """Seconds that the trainer has to write its last checkpoint when it is told to stop; None: as long as it takes."""
    weight_delta_seconds: float = 10.0
    """Time budget of the weight-delta analysis, unless a tenth of the train clock is more; 0 skips the analysis."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    """CPU threads; None: torch's default."""
    claimed_at: float
    """Unix seconds at the claim: the attempt's wall time starts here."""


class PhaseReport(_Message):
    """The attempt has entered a phase."""

    type: Literal["phase"] = "phase"
    phase: Phase
    total_steps: int | None = None
    """Optimizer steps that training will take, known from `tokenize` on."""


class DownloadReport(_Message):
    """Progress of the base model's download."""

    type: Literal["download"] = "download"
    done_bytes: int
    total_bytes: int


class StepsReport(_Message):
    """Optimizer steps, in order."""

    type: Literal["steps"] = "steps"
    steps: list[StepMetrics]


class EvaluationReport(_Message):
    """A finished evaluation. `scores` holds the verdict's metric of each item, from 0 to 1, in the order of `items`."""

    type: Literal["evaluation"] = "evaluation"
    evaluation: Evaluation
    items: list[str] = Field(default_factory=list)
    """Item names in order; given for the test split only."""
    scores: list[float] = Field(default_factory=list)


class WorkingReport(_Message):
    """The attempt goes on: sent during long work without another report, such as an evaluation."""

    type: Literal["working"] = "working"


class LogReport(_Message):
    """A line for the run's log."""

    type: Literal["log"] = "log"
    message: str


class CheckpointReport(_Message):
    """A checkpoint is ready to be stored: the supervisor moves its folder away. The trainer keeps the folder until it
    has written two more checkpoints."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    """Optimizer steps completed."""
    folder: str
    """A local directory with the files of `worker.engine.saving.resume`."""


class GroupJob(_Message):
    """Runs that train together: their jobs differ in the run and in what `app.domain.runs.together` says."""

    jobs: list[TrainJob] = Field(min_length=2)


class WeightDeltasReport(_Message):
    """The weight delta of each matrix."""

    type: Literal["weight-deltas"] = "weight-deltas"
    weight_deltas: WeightDeltas


class ResultReport(_Message):
    """The attempt succeeded; nothing follows."""

    type: Literal["result"] = "result"
    result: RunResult


class FailureReport(_Message):
    """The attempt failed with a known reason; nothing follows."""

    type: Literal["failure"] = "failure"
    failure: Failure


class StoppedReport(_Message):
    """A run of a group has stopped on request; nothing follows of it."""

    type: Literal["stopped"] = "stopped"


class AloneReport(_Message):
    """A run of a group cannot train with the others, but can alone; nothing follows of it."""

    type: Literal["alone"] = "alone"
    why: str


RunReport = Annotated[
    PhaseReport
    | DownloadReport
    | StepsReport
    | EvaluationReport
    | WorkingReport
    | LogReport
    | CheckpointReport
    | WeightDeltasReport
    | ResultReport
    | FailureReport
    | StoppedReport
    | AloneReport,
    Field(discriminator="type"),
]


class MemberReport(_Message):
    """The report of one run of a group."""

    type: Literal["member"] = "member"
    run_id: int
    report: RunReport


Report = Annotated[
    PhaseReport
    | DownloadReport
    | StepsReport
    | EvaluationReport
    | WorkingReport
    | LogReport
    | CheckpointReport
    | WeightDeltasReport
    | ResultReport
    | FailureReport
    | StoppedReport
    | AloneReport
    | MemberReport,
    Field(discriminator="type"),
]
