"""The memory ledger: bytes by owner at the memory peak of a train step.

    weights       parameters and buffers, and the copies of them that autocast makes
    gradients     of the parameters that train
    optimizer     AdamW's two moments and its counters
    activations   what the forward pass leaves for the backward pass
    temporaries   what lives within one pass only
    communication what a device gathers from the others and sends to them (a run on several devices)
    other         batches, and what was there before

A ledger is `estimated` (the step on tensors without storage) or `measured` (the step itself); both are taken by the
same code, `worker.engine.memory.ledger`. Bytes throughout.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

Owner = Literal["weights", "gradients", "optimizer", "activations", "temporaries", "communication", "other"]
OWNERS: tuple[Owner, ...] = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "temporaries",
    "communication",
    "other",
)

Moment = Literal["data", "forward", "backward", "optimizer", "evaluate"]
"""What was being done at the peak."""


class Ledger(BaseModel):
    """Bytes by owner at one step's peak."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["estimated", "measured"]
    owners: dict[Owner, int]
    """Every owner; they sum to `total`."""
    moment: Moment
    operation: str = ""
    """The operation whose result made it the peak, as torch names it: `aten.addmm`."""
    step: int | None = None
    """Which step was measured, from 1; None of a prediction, which is of a step after the first."""
    rows: int
    """Rows of the batch."""
    length: int
    """Tokens that its longest row has, with padding."""
    host: int = 0
    """The most bytes of activations that were in the host's memory (`offload_activations`); not in `total`."""

    @property
    def total(self) -> int:
        return sum(self.owners.values())


def owners(bytes_by_owner: Mapping[Owner, int]) -> dict[Owner, int]:
    """Every owner, in order, with 0 for one that holds nothing."""
    return {owner: bytes_by_owner.get(owner, 0) for owner in OWNERS}
