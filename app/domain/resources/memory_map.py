"""Method × length × batch size for one model on one device: what a person asks for, and the answer of
`app.services.resources.memory_maps`.

Everything is frozen, for pages and for the API alike. Bytes throughout.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.domain.methods import MethodSpec
from app.domain.names import Name
from app.domain.resources.calibration import EstimateBand, Fit
from app.domain.resources.devices import Device
from app.domain.resources.estimate import EstimateState, MapCell
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task

Length = Annotated[int, Field(ge=2, le=131072)]
Rows = Annotated[int, Field(ge=1, le=4096)]


class MapSpec(BaseModel):
    """What to map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: Name = Field(max_length=200)
    """Name of a registered base model."""
    task: Task = "sequence-classification"
    labels: int = Field(default=2, ge=1, le=100_000)
    device: str = ""
    """A live worker's name, or a GPU's; empty takes the first worker, else the first GPU."""
    methods: tuple[str, ...] = Field(default=("full", "lora"), min_length=1, max_length=8)
    """Kinds, each with its default settings."""
    training: TrainingArguments = TrainingArguments()
    lengths: tuple[Length, ...] = Field(default=(64, 128, 256, 512), min_length=1, max_length=10)
    batch_sizes: tuple[Rows, ...] = Field(default=(1, 2, 4, 8, 16, 32, 64), min_length=1, max_length=12)


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
