"""Method × length × batch for one model on one device: the question, and the answer of
`app.services.resources.memory_maps`.

Everything is frozen, for pages and for the API alike. Bytes throughout.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.domain.methods import MethodSpec
from app.domain.names import Name
from app.domain.resources.calibration import EstimateBand, Fit
from app.domain.resources.ledger import Ledger
from app.domain.resources.memory_fit import Machine, State
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


Length = Annotated[int, Field(ge=2, le=131072)]
Rows = Annotated[int, Field(ge=1, le=4096)]


class MapSpec(BaseModel):
    """Ask for a map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: Name = Field(max_length=200)
    """Name of a registered base model."""
    task: Task = "sequence-classification"
    labels: int = Field(default=2, ge=1, le=100_000)
    machine: str = ""
    """A live worker's name, or a card's; empty takes the first worker, else the first card."""
    methods: tuple[str, ...] = Field(default=("full", "lora"), min_length=1, max_length=8)
    """Kinds, each with its usual settings."""
    training: TrainingArguments = TrainingArguments()
    lengths: tuple[Length, ...] = Field(default=(64, 128, 256, 512), min_length=1, max_length=10)
    batch_sizes: tuple[Rows, ...] = Field(default=(1, 2, 4, 8, 16, 32, 64), min_length=1, max_length=12)


class MapCellFit(_Value):
    """One method at one length and batch size."""

    method: int
    """Place in the report's methods."""
    length: int
    rows: int
    ledger: Ledger
    peak: EstimateBand
    fit: Fit


class Boundary(_Value):
    """The largest batch that fits a method at a length."""

    method: int
    length: int
    rows: int | None
    """None: not even the smallest that was asked for."""


class MapReport(_Value):
    """Method × length × batch for one model on one device."""

    estimate_id: int | None
    state: State
    message: str
    machine: Machine
    bf16: bool
    """Computed in bfloat16, with frozen weights held in it; else in float32 throughout."""
    methods: tuple[MethodSpec, ...]
    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    cells: tuple[MapCellFit, ...] = ()
    boundaries: tuple[Boundary, ...] = ()

    @property
    def settled(self) -> bool:
        """Nothing more will come."""
        return self.state != "working"

    @property
    def unrequested(self) -> int:
        """1 while nobody has asked for it."""
        return int(self.state == "working" and self.estimate_id is None)
