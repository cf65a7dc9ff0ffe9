"""Will it fit? What each arm needs, held against each device: the answer of `app.services.resources.memory_fit`.

    FitReport                every arm
    └── ArmFit               one arm: its predictions, and how it fits each device
        ├── Need             a prediction for a kind of device, or why there is none (yet)
        └── DeviceFit       the need on one device: peak and time with bands, fits or not
            └── MemorySaving     where it does not fit: another setting, and what it saves there

    RunFit                   a run that is submitted: predicted beside measured
    Accuracy                 how well estimates have matched what was measured

Everything is frozen, for pages and for the API alike. Bytes and seconds throughout.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.domain.messages import _
from app.domain.methods import MethodSpec
from app.domain.names import Name
from app.domain.resources.calibration import EstimateBand, Fit
from app.domain.resources.estimate import DeviceKind, ResourceEstimate
from app.domain.resources.ledger import Ledger
from app.domain.resources.savings import SavingName
from app.domain.runs.capabilities import Capability
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import TASKS, MetricName, Task
from app.domain.validation import invalid_field

State = Literal["working", "ready", "failed"]
"""Of a prediction: being worked out, there, or impossible."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


LONGEST_CONFIG = 200_000
"""Characters. The longest that is known is a tenth of that."""


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
        raise invalid_field(
            "",
            _("The config is longer than %(most)s characters, or contains NUL", most=LONGEST_CONFIG),
            remedy,
        )
    return config


class EstimateSpec(BaseModel):
    """Ask what methods would need on a base model that may be nothing but a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: Name | None = Field(default=None, max_length=200)
    """Name of a registered base model."""
    config: Annotated[dict[str, Any], AfterValidator(_storable)] | None = None
    """A model's config.json instead. Without a tokenizer every row counts as `max_length` tokens."""
    dataset: Name | None = Field(default=None, max_length=200)
    """Name of a registered dataset; without one every row counts as `max_length` tokens and no time is told."""
    task: Task = "sequence-classification"
    labels: int = Field(default=2, ge=1, le=100_000)
    """Of a classifier's head, where no dataset says."""
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
        """The task's own: nothing is judged."""
        return "token_accuracy" if self.task == "causal-lm" else TASKS[self.task].metric


class Machine(_Value):
    """A device that a run could be made on: a live worker's, or a well-known card."""

    name: str
    """The worker's, or the card's."""
    worker: bool
    """A worker's; else a card that nobody need have."""
    kind: DeviceKind
    device_name: str
    """As past runs name it; calibration goes by it."""
    memory_bytes: int | None
    bf16: bool
    """It has bfloat16 arithmetic."""
    matmul_flops: float | None = None
    """Operations a second of its matrix product, in bfloat16 where it has that; None until a run has measured it."""
    capabilities: tuple[Capability, ...] = ()
    """Of a worker."""


class Need(_Value):
    """What an arm needs on one kind of device; one prediction serves every device of that kind."""

    kind: DeviceKind
    bf16: bool
    """Computed in bfloat16."""
    estimate_id: int | None
    """GET /api/v1/estimates/{id}; None while nobody has asked for it."""
    state: State
    message: str
    """A sentence, where it failed."""
    prediction: ResourceEstimate | None


class MemorySaving(_Value):
    """A way out that has been worked out: it needs less."""

    name: SavingName
    words: str
    """`SAVINGS[name]`, English."""
    fields: dict[str, Any]
    """What to set, by path: `training.gradient_checkpointing`."""
    peak: EstimateBand
    saved_bytes: int
    """Off the peak."""
    fit: Fit
    """On the same device."""
    ledger: Ledger


class DeviceFit(_Value):
    """An arm on a device."""

    machine: Machine
    need: Need = Field(exclude=True)
    """In JSON it stands in the arm's `needs`, under the same `estimate_id`."""
    estimate_id: int | None
    state: State
    message: str
    """Why there is no answer, or what the worker lacks."""
    able: bool = True
    """The worker has what the method needs; where not, no run of it ever goes there."""
    peak: EstimateBand | None
    train_seconds: EstimateBand | None
    """None where no past run on the device has told its rate, or no dataset is known."""
    fit: Fit
    """`unknown` until the prediction is ready."""
    memory_savings: tuple[MemorySaving, ...] = ()
    """Of a worker's device where it is tight or does not fit: the largest saving first; only those that save."""
    savings_pending: int = 0
    """Ways out that are still being worked out."""
    unrequested: int = Field(default=0, exclude=True)
    """Of those, the ones that nobody has asked for."""


class ArmFit(_Value):
    """An arm against every device: each live worker first, then the cards."""

    name: str
    method: MethodSpec
    needs: tuple[Need, ...]
    machines: tuple[DeviceFit, ...]

    @property
    def workers(self) -> tuple[DeviceFit, ...]:
        """Those of live workers."""
        return tuple(found for found in self.machines if found.machine.worker)

    @property
    def cards(self) -> tuple[DeviceFit, ...]:
        """Those of well-known cards, by memory."""
        return tuple(found for found in self.machines if not found.machine.worker)

    @property
    def fits_nowhere(self) -> bool:
        """It is known that no live worker that could carry it out has room for it."""
        able = [found for found in self.workers if found.able]
        return bool(able) and all(found.fit == "does_not_fit" for found in able)


class FitReport(_Value):
    """Every arm of a study; a run has one."""

    arms: tuple[ArmFit, ...]

    @property
    def needs(self) -> tuple[Need, ...]:
        """Every prediction, each once."""
        found = {(need.estimate_id, need.kind, need.bf16): need for arm in self.arms for need in arm.needs}
        return tuple(found.values())

    @property
    def pending(self) -> int:
        """Predictions that are being worked out, ways out included."""
        ways = sum(found.savings_pending for arm in self.arms for found in arm.machines)
        return ways + sum(need.state == "working" for need in self.needs)

    @property
    def unrequested(self) -> int:
        """Of those, the ones that nobody has asked for: ask again, in a transaction."""
        ways = sum(found.unrequested for arm in self.arms for found in arm.machines)
        return ways + sum(need.state == "working" and need.estimate_id is None for need in self.needs)

    @property
    def settled(self) -> bool:
        """Nothing more will come."""
        return self.pending == 0


class RunFit(_Value):
    """A run that is submitted: what was predicted for it, beside what was measured."""

    need: Need | None
    """None where no worker has been seen yet whose kind of device it could be predicted for."""
    machine: Machine | None
    """Its worker's device; before it is claimed, the device that its prediction is for."""
    peak: EstimateBand | None
    train_seconds: EstimateBand | None
    fit: Fit
    measured_bytes: int | None
    """Peak, once it succeeded."""
    measured_seconds: float | None
    bytes_error: float | None
    """(estimated − measured) / measured."""
    seconds_error: float | None
    oom_ledger: Ledger | None
    """Who held what when memory ran out."""
    memory_savings: tuple[MemorySaving, ...] = ()
    """Where memory ran out, or it does not fit."""
    savings_pending: int = 0
    unrequested: int = Field(default=0, exclude=True)
    """As of a `DeviceFit`."""

    @property
    def settled(self) -> bool:
        """Nothing more will come."""
        return not self.savings_pending and (self.need is None or self.need.state != "working")


class Error(_Value):
    """How far estimates were from what was measured, as shares of the measured."""

    runs: int
    mean: float
    """Of the errors without their sign."""
    worst: float
    """The largest, with its sign: above 0, too much was estimated."""


class Accuracy(_Value):
    """Estimates against measurements of one method and task on one device. Each run is held against an estimate that
    rests on the other runs only."""

    device_name: str
    precision: Literal["fp32", "bf16"]
    task: Task
    method: str
    """Kind."""
    peak: Error
    train: Error | None
    """None where fewer than two runs have told a rate."""
