"""What a run will need, worked out before it: bytes by owner, the peak of each phase, floating-point operations.

A prediction knows the tensors and nothing of the device's own needs: buffers of its libraries, rounding, a context.
Those are a constant of a device, learnt from past runs (`app.domain.resources.calibration`); prediction and constant
together are the estimate that a person sees.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.methods import AnyMethod, MethodSpec
from app.domain.resources.ledger import Ledger
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format, Task

ESTIMATE_VERSION = 3
"""Raised when a prediction of the same request may differ; old ones keep theirs and are worked out again."""

DeviceKind = Literal["cpu", "cuda"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Asked(_Value):
    """A model, its task and a kind of device."""

    version: int = ESTIMATE_VERSION
    location: str = ""
    """Directory or hub id of the base model, of which the configuration alone is read; empty with `config`."""
    revision: str = ""
    fingerprint: str = ""
    """The commit, or the hash of the files, that the location stood for."""
    config: dict[str, Any] | None = None
    """A model's config.json instead."""
    task: Task
    labels: int = Field(default=2, ge=1, le=100_000)
    device: DeviceKind
    bf16: bool
    """Whether that device computes in bfloat16, resolved: never left open."""


class EstimateRequest(_Asked):
    """Everything that a prediction follows from. The same request has the same answer, so it is worked out once."""

    method: MethodSpec
    training: TrainingArguments
    dataset_file: str = ""
    """Name of the rows in the files store; empty: every row is as long as `max_length` lets it be."""
    dataset_format: Format = "labelled"
    dataset_hash: str = ""

    @property
    def key(self) -> str:
        """SHA-256 over all of it that the answer depends on: neither seed nor rate, nor how often is evaluated."""
        training = self.training.model_dump(exclude=set(_WITHOUT_EFFECT))
        content = self.model_copy(update={"training": TrainingArguments(**training)})
        return key_of(content)


def key_of(asked: BaseModel) -> str:
    """SHA-256 of a request's fields by name, so that their order in its file is of no importance."""
    return hashlib.sha256(json.dumps(asked.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


_WITHOUT_EFFECT = (
    "seed",
    "learning_rate",
    "warmup_steps",
    "lr_scheduler_type",
    "weight_decay",
    "eval_strategy",
    "eval_steps",
    "early_stopping_patience",
    "bf16",
)


class Lengths(_Value):
    """What the rows are like, in tokens of the base model."""

    source: Literal["dataset", "max_length"]
    rows: int
    """To train on; 0 where no dataset is known."""
    longest: int
    """Of the rows to train on, cut as they will be."""
    mean: float


class ResourceEstimate(_Value):
    """What one run will need."""

    ledger: Ledger
    """Of the step with the largest batch, once the optimizer has its state."""
    phases: dict[str, int]
    """Peak bytes by phase of `app.domain.runs.spec.Phase`; the ledger's total is that of `train`."""
    lengths: Lengths
    step_flops: int
    """Floating-point operations of that step: forward, backward, recomputation."""
    train_flops: int
    """Of the whole training, over the batches as they will come; 0 where no dataset is known."""
    steps: int
    """Optimizer steps; 0 where no dataset is known."""
    trainable: int
    """Parameters."""
    total: int
    file_bytes: int | None = None
    """Of the weights' file that one keeps: adapter or model, without tokenizer and configuration. None of predictions
    from before it was foreseen."""
    seconds: float
    """That it took to work this out."""

    @property
    def peak_bytes(self) -> int:
        """The largest of all phases."""
        return max(self.phases.values())

    @property
    def phase(self) -> str:
        """The phase of that peak."""
        return max(self.phases, key=self.phases.__getitem__)


class MapRequest(_Asked):
    """Method × length × batch for one model on one kind of device."""

    methods: tuple[MethodSpec, ...] = Field(min_length=1, max_length=8)
    training: TrainingArguments = TrainingArguments()
    lengths: tuple[Annotated[int, Field(ge=2, le=131072)], ...] = Field(min_length=1, max_length=10)
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(min_length=1, max_length=12)

    @property
    def key(self) -> str:
        """SHA-256 over all of it."""
        return key_of(self)

    def cell(self, method: AnyMethod, length: int, rows: int) -> EstimateRequest:
        """The request of one cell."""
        shared = self.model_dump(include=set(_Asked.model_fields))
        training = self.training.model_copy(update={"max_length": length, "per_device_train_batch_size": rows})
        return EstimateRequest(**shared, method=method, training=training)


class MapCell(_Value):
    """One method at one length and batch size."""

    method: int
    """Place in the request's methods."""
    length: int
    rows: int
    ledger: Ledger


class MemoryMap(_Value):
    """The answer to a `MapRequest`."""

    cells: list[MapCell]
    seconds: float


def of_run(
    spec: RunSpec,
    *,
    location: str,
    revision: str,
    fingerprint: str,
    labels: int,
    dataset_file: str,
    dataset_format: Format,
    dataset_hash: str,
    device: DeviceKind,
    device_bf16: bool,
) -> EstimateRequest:
    """The request for a run on a kind of device; `device_bf16`: it has bfloat16 arithmetic."""
    wanted = spec.training.bf16
    return EstimateRequest(
        location=location,
        revision=revision,
        fingerprint=fingerprint,
        task=spec.task,
        labels=max(1, labels),
        method=spec.method,
        training=spec.training,
        dataset_file=dataset_file,
        dataset_format=dataset_format,
        dataset_hash=dataset_hash,
        device=device,
        bf16=device_bf16 if wanted is None else wanted,
    )
