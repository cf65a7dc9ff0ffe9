"""Method × length × batch size for one model on one device: what a person asks for, and the answer of
`app.services.resources.memory_maps`.

Everything is frozen, for pages and for the API alike. Bytes throughout.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.domain.methods import MethodSpec
from app.domain.resources.calibration import EstimateBand, Fit
from app.domain.resources.devices import Device
from app.domain.resources.estimate import EstimateState, MapCell
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import DEFAULT_TASK, Task
from app.domain.validation import Name


class MapOptions(BaseModel):
    """What to map of a base model, and on which device."""

    model_config = ConfigDict(frozen=True)

    task: Task = DEFAULT_TASK
    labels: int = Field(default=2, ge=1, le=100_000, description="Of a classifier's head.")
    device: str = Field(
        default="",
        max_length=120,
        description="A live worker's name, or a GPU's; by default the first worker, else the first GPU.",
    )
    methods: list[str] = Field(
        default=["full", "lora"], min_length=1, max_length=8, description="Kinds, each with its default settings."
    )
    lengths: list[Annotated[int, Field(ge=2, le=131072)]] = Field(
        default=[64, 128, 256, 512], min_length=1, max_length=10
    )
    batch_sizes: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        default=[1, 2, 4, 8, 16, 32, 64], min_length=1, max_length=12
    )
    gradient_checkpointing: bool = False
    bf16: bool | None = Field(default=None, description="As in training; by default, if the device supports it.")

    @property
    def training(self) -> TrainingArguments:
        """The training arguments of every cell, apart from length and batch size."""
        return TrainingArguments(gradient_checkpointing=self.gradient_checkpointing, bf16=self.bf16)


class MapSpec(MapOptions):
    """A memory map of a registered base model."""

    base_model: Name


class MapCellFit(MapCell):
    """One method at one length and batch size, on the device."""

    peak: EstimateBand
    fit: Fit


class MaxBatch(BaseModel):
    """The largest batch size that fits a method at a length."""

    model_config = ConfigDict(frozen=True)

    method: int
    length: int
    rows: int | None
    """None: not even the smallest one."""


class MapReport(BaseModel):
    """Method × length × batch size for one model on one device."""

    model_config = ConfigDict(frozen=True)

    estimate_id: int | None
    state: EstimateState
    message: str
    device: Device
    bf16: bool
    """Computed in bfloat16, frozen weights included; else in float32 throughout."""
    methods: tuple[MethodSpec, ...]
    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    cells: tuple[MapCellFit, ...] = ()
    boundaries: tuple[MaxBatch, ...] = ()

    @property
    def settled(self) -> bool:
        """The map is ready, or has failed."""
        return self.state != "working"

    @property
    def unrequested(self) -> int:
        """1 until it is requested."""
        return int(self.state == "working" and self.estimate_id is None)
