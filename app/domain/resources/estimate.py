"""What a run will need, estimated beforehand: bytes by owner, the peak of each phase, floating-point operations.

A `ResourceEstimate` counts tensors and operations. It leaves out what a device adds (library buffers, rounding, a
context): that is a constant of the device, learned from past runs (`app.domain.resources.calibration`).

    EstimateSpec      what a person asks for: methods on a registered model or a config.json
    EstimateRequest   what the estimation process works on; its key identifies the answer
    ResourceEstimate  the answer for one run
    MapRequest        method × length × batch size; its answer is a `MemoryMap`
"""

import hashlib
import json
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.domain.messages import _
from app.domain.methods import AnyMethod, MethodSpec
from app.domain.resources.devices import DeviceKind
from app.domain.resources.ledger import Ledger
from app.domain.resources.work import Work
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import DEFAULT_TASK, TASKS, Format, MetricName, Task
from app.domain.validation import Name, invalid_field

ESTIMATE_VERSION = 10
"""Raised when the estimate of an unchanged request may differ: old ones are then computed again."""
LONGEST_CONFIG = 200_000
"""Characters of a config.json; the longest known one has a tenth of that."""

EstimateState = Literal["working", "ready", "failed"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _storable(config: dict[str, Any]) -> dict[str, Any]:
    remedy = _("Paste the contents of the model's config.json")
    try:
        text = json.dumps(config, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise invalid_field(
            "", _("The config has a value that JSON does not allow (%(error)s)", error=error), remedy
        ) from error
    if len(text) > LONGEST_CONFIG or "\\u0000" in text:
        what = _("The config is longer than %(longest)s characters, or contains NUL", longest=LONGEST_CONFIG)
        raise invalid_field("", what, remedy)
    return config


class EstimateSpec(_Value):
    """Methods to estimate on a registered base model, or on nothing but a configuration."""

    base_model: Name | None = Field(default=None, max_length=200)
    config: Annotated[dict[str, Any], AfterValidator(_storable)] | None = None
    """A model's config.json instead. Without a tokenizer every row counts as `max_length` tokens."""
    dataset: Name | None = Field(default=None, max_length=200)
    """Name of a registered dataset; without one every row counts as `max_length` tokens, and there is no train time."""
    task: Task = DEFAULT_TASK
    labels: int = Field(default=2, ge=1, le=100_000)
    """Labels of a classifier's head, where no dataset says."""
    methods: list[MethodSpec] = Field(min_length=1, max_length=32)
    training: TrainingArguments = TrainingArguments()

    @model_validator(mode="after")
    def _one_model(self) -> "EstimateSpec":
        if self.base_model is None and self.config is None:
            raise invalid_field("base_model", _("Neither a base model nor a config is given"), _("Give one of them"))
        if self.base_model is not None and self.config is not None:
            raise invalid_field("config", _("Both a base model and a config are given"), _("Leave one of them out"))
        if self.config is not None and not isinstance(self.config.get("model_type"), str):
            raise invalid_field(
                "config.model_type", _("The config does not name its model_type"), _("Add model_type, such as llama")
            )
        return self

    @property
    def general_text(self) -> None:
        """Nothing is measured."""
        return None

    @property
    def verdict_metric(self) -> MetricName:
        """The task's default: nothing is compared."""
        return TASKS[self.task].metric


class _ModelOnDevice(_Value):
    """A model, its task and a kind of device."""

    version: int = ESTIMATE_VERSION
    location: str = ""
    """Directory or hub id of the base model; only its configuration is read. Empty with `config`."""
    revision: str = ""
    fingerprint: str = ""
    """The commit, or the hash of the files, at that location."""
    hub_user: int | None = None
    """The user whose hub token opens the base model; None where it needs none."""
    config: dict[str, Any] | None = None
    """A model's config.json instead."""
    task: Task
    labels: int = Field(default=2, ge=1, le=100_000)
    device: DeviceKind
    bf16: bool
    """Whether training there computes in bfloat16; always resolved."""


class EstimateRequest(_ModelOnDevice):
    """Everything that an estimate depends on. The same request has the same answer, so it is computed once."""

    method: MethodSpec
    training: TrainingArguments
    dataset_file: str = ""
    """Name of the rows in the files store; empty: every row has `max_length` tokens."""
    dataset_format: Format = "labelled"
    dataset_hash: str = ""

    @property
    def key(self) -> str:
        """SHA-256 over what the answer depends on: not the learning rate, for example, and the seed only if the run may
        end within an epoch, because it meets the batches that come first."""
        part = self.training.max_steps is not None or self.training.num_train_epochs < 1
        training = self.training.model_dump(exclude=set(_WITHOUT_EFFECT) - ({"seed"} if part else set()))
        content = self.model_copy(update={"training": TrainingArguments(**training)})
        return key_of(content)

    def on_device(self, kind: DeviceKind, device_bf16: bool) -> "EstimateRequest":
        """The same run on a kind of device; `device_bf16`: it has bfloat16 arithmetic."""
        bf16 = self.training.bf16
        natural = device_bf16 or self.method.computes_in_bf16
        return self.model_copy(update={"device": kind, "bf16": natural if bf16 is None else bf16})


def key_of(request: BaseModel, without: Collection[str] = ()) -> str:
    """SHA-256 of a request's fields by name, so that their order in the source does not matter."""
    content = request.model_dump(mode="json", exclude=set(without))
    if content.get("hub_user") is None:  # stored answers of earlier versions stay valid
        content.pop("hub_user", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
    """Lengths of the rows, in tokens of the base model: of both texts of a row with two, and of a preference pair its
    prompt with each of its answers."""

    source: Literal["dataset", "max_length"]
    rows: int
    """Training rows; 0 without a dataset."""
    longest: int
    """Tokens of the longest training row, after truncation."""
    mean: float


class ResourceEstimate(_Value):
    """What one run will need."""

    ledger: Ledger
    """Ledger of the step with the highest peak: the first, in which the optimizer has no state until its passes are
    over, or the one with the largest batch after it."""
    phases: dict[str, int]
    """Peak bytes by phase of `app.domain.runs.status.Phase`; the ledger's total is that of `train`."""
    lengths: Lengths
    step_flops: int
    """Floating-point operations of that step: forward, backward, recomputation."""
    train_flops: int
    """FLOPs of the whole training, over the actual batches; 0 without a dataset."""
    train_work: Work | None = None
    """Work of the whole training, with the optimizer's; None without a dataset, and in older estimates."""
    reference_flops: int = 0
    """FLOPs of DPO's reference: the base model's pass over the training and validation pairs, which runs of a study
    share; 0 for other losses, without a dataset, and in older estimates."""
    reference_work: Work | None = None
    """Work of the same pass; None where there is none, and in older estimates."""
    steps: int
    """Optimizer steps; 0 without a dataset."""
    trainable: int
    """Parameters."""
    total: int
    width: int = 0
    """Width of the model's hidden states; 0 in older estimates."""
    file_bytes: int | None = None
    """Bytes of the saved weights, adapter or model, without tokenizer and configuration. None in older estimates."""
    seconds: float
    """Time that the estimate took."""

    @property
    def peak_bytes(self) -> int:
        """The largest of all phases."""
        return max(self.phases.values())

    @property
    def phase(self) -> str:
        """The phase of that peak."""
        return max(self.phases, key=self.phases.__getitem__)


class MapRequest(_ModelOnDevice):
    """Method × length × batch size for one model on one kind of device."""

    methods: tuple[MethodSpec, ...] = Field(min_length=1, max_length=8)
    training: TrainingArguments = TrainingArguments()
    lengths: tuple[Annotated[int, Field(ge=2, le=131072)], ...] = Field(min_length=1, max_length=10)
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(min_length=1, max_length=12)

    @property
    def key(self) -> str:
        """SHA-256 over all of it."""
        return key_of(self)

    def cell(self, method: AnyMethod, length: int, rows: int) -> EstimateRequest:
        shared = self.model_dump(include=set(_ModelOnDevice.model_fields))
        training = self.training.model_copy(update={"max_length": length, "per_device_train_batch_size": rows})
        bf16 = self.bf16 or method.computes_in_bf16
        return EstimateRequest(**shared | {"bf16": bf16}, method=method, training=training)


class MapCell(_Value):
    """One method at one length and batch size."""

    method: int
    """Index into the request's methods."""
    length: int
    rows: int
    ledger: Ledger


class MemoryMap(_Value):
    cells: list[MapCell]
    seconds: float
