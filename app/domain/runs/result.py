"""What a run reports: steps, evaluations, memory, clocks, the audit and the result. Bytes and seconds throughout."""

from math import isnan
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.dataset import Split
from app.domain.resources.ledger import Ledger
from app.domain.runs.clocks import Clocks
from app.domain.runs.confusion import Confusion
from app.domain.runs.listing.digits import plain
from app.domain.tasks import MetricName

METRICS_VERSION = 1
"""Raised when a definition below changes; old values keep their version."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class StepMetrics(_Value):
    """One optimizer step, each number with the type in which it is stored."""

    step: Annotated[int, "<i4"]
    """From 1."""
    epoch: Annotated[float, "<f4"]
    """Epochs seen after this step."""
    loss: Annotated[float, "<f4"]
    """Mean loss over the step's rows, in nats."""
    learning_rate: Annotated[float, "<f4"]
    """The rate that this step used."""
    grad_norm: Annotated[float, "<f4"]
    """Norm of the gradient before clipping."""
    tokens: Annotated[int, "<i8"]
    """Real tokens (no padding) seen since the start of training."""
    seconds: Annotated[float, "<f8"]
    """Seconds of training since its start, evaluation excluded, with the steps that are measured."""
    memory_bytes: Annotated[int, "<i8"]
    """Above the process before the model was loaded: resident bytes on a CPU, allocated bytes on CUDA."""


STEP_DTYPE = np.dtype([(name, str(field.metadata[0])) for name, field in StepMetrics.model_fields.items()])
"""One optimizer step as it is stored."""
StepColumn = Literal["step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "seconds", "memory_bytes"]
"""A field of `StepMetrics`; a test compares them."""
Steps = NDArray[np.void]
"""An array of STEP_DTYPE, in order of `step`."""


def known(steps: Steps, name: str) -> list[Any]:
    """A column as Python's numbers, None where a script did not state them. The store has NaN there for a loss or a
    norm, else 0, which is no possible epoch, number of tokens or memory after a step, and no learning rate that holds
    for all steps."""
    numbers = plain(steps[name])
    if name == "learning_rate":
        return numbers if any(numbers) else [None] * len(numbers)
    if name in ("loss", "grad_norm"):
        return [None if isnan(number) else number for number in numbers]
    return [number or None for number in numbers] if name in ("epoch", "tokens", "memory_bytes") else numbers


def to_array(steps: list[StepMetrics]) -> Steps:
    """Pack steps for the store."""
    return np.array([tuple(dict(step).values()) for step in steps], dtype=STEP_DTYPE)


class Evaluation(_Value):
    """A model's quality on one split."""

    subject: Literal["base", "adapted"]
    """The base model, with a new head if the task adds one, or the adapted model."""
    split: Split
    step: int
    """Optimizer steps taken; 0 for the base model."""
    epoch: float
    n: int
    """Items."""
    loss: float
    """Mean cross-entropy in nats, per item or per completion token as the task says."""
    metric: MetricName
    """The metric that a verdict rests on."""
    metrics: dict[MetricName, float]
    """By name; definitions in `app.domain.tasks.METRICS`. Generated text is judged on the test split only."""

    @property
    def score(self) -> float | None:
        """The metric that a verdict rests on, from 0 to 1; None where it was not computed on this split."""
        return self.metrics.get(self.metric)


class Forgetting(_Value):
    """How much the adapted model forgot: its loss on general text minus that of the base model, on the same tokens."""

    dataset: str
    tokens: int
    """Predicted tokens, the same for both."""
    base_loss: float
    """Nats per token."""
    adapted_loss: float

    @property
    def change(self) -> float:
        """Nats per token; positive if something was forgotten."""
        return self.adapted_loss - self.base_loss


class Parameters(_Value):
    """Counted on the model that trains."""

    total: int
    trainable: int
    by_module: dict[str, int] = Field(default_factory=dict)
    """Trainable parameters by a readable group: `lora_A, lora_B of query, value`, `classifier`."""


class AuditGroup(_Value):
    """Tensors that share a fate."""

    name: str
    tensors: int
    parameters: int
    changed: int
    """Tensors whose hash differs after training."""


class Audit(_Value):
    """Freeze audit: what should train did, what should not did not; by a hash of every tensor before and after."""

    passed: bool
    groups: list[AuditGroup]
    """The trainable groups, then `frozen`."""
    problems: list[str] = Field(default_factory=list)
    """A sentence for each tensor or group that did not do as the method says."""
    notes: list[str] = Field(default_factory=list)
    """A sentence for each trainable tensor that rightly stayed as it was, because no gradient ever reached it."""


class Memory(_Value):
    """Measured peak of the attempt's own process, above its value before the model was loaded. Bytes."""

    kind: Literal["measured"] = "measured"
    device: str
    """`cpu` or `cuda:0`: where the peak was measured."""
    before_bytes: int
    """Resident in the process before the model was loaded; not part of any peak below."""
    loaded_bytes: int
    """Above `before_bytes` once the model stood ready to train."""
    peak_bytes: int
    """Largest over load, baseline, training, evaluation and saving; arms are compared by it."""
    train_peak_bytes: int
    """Largest while training."""
    phase_peak_bytes: dict[str, int] = Field(default_factory=dict)
    weights_bytes: int
    """Computed: bytes of all parameters and buffers."""
    gradients_bytes: int
    """Computed: bytes of the gradients that training keeps."""
    optimizer_bytes: int
    """Computed: bytes of AdamW's state."""
    reserved_bytes: int | None = None
    """CUDA `max_memory_reserved`: plan capacity by it. None on a CPU, which has no phases below."""
    phase_reserved_bytes: dict[str, int] = Field(default_factory=dict)
    ledgers: list[Ledger] = Field(default_factory=list)
    """Who held what: in the first step, and in the one with the largest batch after it."""
    rank_peak_bytes: list[int] = Field(default_factory=list)
    """Largest while training, of each process of a run on several devices, whose largest is in the peaks above; the
    other numbers are rank 0's. Empty on one device."""

    @property
    def ledger(self) -> Ledger | None:
        """The one with the highest peak, like the ledger of an estimate. It may be the first step's, where that has a
        larger batch than all later ones; most of the optimizer's state does not exist then."""
        return max(reversed(self.ledgers), key=lambda ledger: ledger.total, default=None)

    @property
    def rest_bytes(self) -> int:
        """What is left of the peak: activations and whatever else lived at that moment."""
        return max(0, self.peak_bytes - self.weights_bytes - self.gradients_bytes - self.optimizer_bytes)


class Environment(_Value):
    """What the attempt ran on: held equal, or named beside the verdict."""

    device: str
    """`cpu`, `cuda:0`."""
    device_name: str
    gpus: list[str] = Field(default_factory=list)
    """UUIDs of the GPUs that the attempt had; empty on a CPU, and for runs before Vezna recorded them."""
    hosts: int = 1
    """Always 1, but for results of versions that trained a run on several hosts."""
    threads: int
    precision: Literal["fp32", "bf16"]
    """What is computed in; what trains is float32 always."""
    frozen_dtype: Literal["float32", "bfloat16", "nf4"] = "float32"
    """What frozen weights are held in: a part of the method, like the rank."""
    attention: str
    """`sdpa`, `eager`, …"""
    padding_mask: bool = True
    """The model got a mask of each batch's padding in training; False: it computes the same without one."""
    versions: dict[str, str]
    """python, torch, transformers, peft, vezna."""
    code: str = ""
    """SHA-256 of Vezna's source files on the worker (docs/shipping.md); empty for runs before Vezna recorded it."""
    matmul_flops: float | None = None
    """Operations a second of the device's matrix product in `precision`, measured at the attempt's start."""
    matmul_rates: dict[int, float] = Field(default_factory=dict)
    """The same for the products of smaller layers, by width; empty for runs before Vezna measured them."""
    call_rate: float | None = None
    """Operations on tiny tensors a second, in a training pass; null for older runs, like the next."""
    byte_rate: float | None = None
    """Bytes a second that an addition of large tensors reads and writes."""

    @property
    def libraries(self) -> str:
        """The versions on which memory and speed depend: `torch 2.13.0, transformers 5.1.0`."""
        return ", ".join(f"{name} {self.versions[name]}" for name in ("torch", "transformers") if name in self.versions)


class DataSeen(_Value):
    """What an attempt read, and in which order: the same for every arm of a seed, or named beside the verdict."""

    splits: str
    """SHA-256 of every row of every split, in order."""
    order: str
    """SHA-256 of the training rows in the order of the first epoch, batch by batch."""
    train_rows: int | None = None
    """Training rows; None, as below, for runs that were executed before Vezna recorded this."""
    truncated_rows: int | None = None
    """Of them, longer than `max_length`."""
    long_tokens: int | None = None
    """Tokens of the training row that is longer than 95 % of all, before truncation."""
    contradictory_rows: int | None = None
    """Training rows whose text occurs in training with another label too; None also for rows without labels."""


class ArtifactFile(_Value):
    """A file that the attempt left."""

    name: str
    """Relative name inside the run: `adapter/adapter_model.safetensors`."""
    kind: Literal["adapter", "model", "predictions", "metrics", "log"]
    bytes: int
    sha256: str


class RunResult(_Value):
    """Everything that a succeeded attempt reports."""

    metrics_version: int = METRICS_VERSION
    steps: int
    best_step: int
    """The step whose weights were kept: the best on validation, then the earliest."""
    tokens: int
    """Real tokens trained on."""
    parameters: Parameters
    audit: Audit
    memory: Memory
    clocks: Clocks
    evaluations: list[Evaluation]
    confusion: Confusion | None = None
    """Of a classifier on the test split."""
    forgetting: Forgetting | None = None
    energy_joules: float | None = None
    """Of the whole device in training and validation, by its counter; None without one, or in a resumed attempt."""
    data: DataSeen | None = None
    """None for runs that were executed before Vezna recorded this."""
    resumed_from: int | None = None
    """The step of the checkpoint that this attempt resumed from."""
    trained_together: int = 1
    """Runs of the group that this one trained in, in one process. If there are several, its memory is the group's, and
    its clocks are computed: its share of the group's time, and what it then trained alone. Nothing compares these."""
    environment: Environment
    artifacts: list[ArtifactFile] = Field(default_factory=list)

    def evaluation(self, subject: str, split: str) -> Evaluation | None:
        """The last evaluation of the base or the adapted model on a split."""
        matching = [e for e in self.evaluations if e.subject == subject and e.split == split]
        return matching[-1] if matching else None

    @property
    def artifact_bytes(self) -> int:
        """Size on disk of the adapter or the model, without predictions and logs."""
        return sum(a.bytes for a in self.artifacts if a.kind in ("adapter", "model"))

    @property
    def weights_file_bytes(self) -> int:
        """Of that, the weights: without configuration and tokenizer."""
        kept = (a for a in self.artifacts if a.kind in ("adapter", "model"))
        return sum(a.bytes for a in kept if a.name.endswith(".safetensors"))
