"""The memory of one device in a step if every device has a part of each weight, gradient and moment (FSDP2).

    F       bytes of the weights of a transformer block, the largest, in float32
    G       bytes of the same as they are gathered: F, or with bfloat16 arithmetic half of it
    R       bytes of all other weights: embeddings, final norm, head; with bfloat16 arithmetic also the blocks' norms
    W       devices

    forward    R + 2·G              R is gathered for the whole step; a block in computation, and the buffer of one
    backward   R                    until it reaches a block; gradients of R stay whole until the end
               R + 3·G + F − 2·F/W  in the blocks: also the gradients of one, and the copy of those that is summed, in
                                    float32, of which the parts are counted already
               R + max(F, R)        behind them: the last copy of a block's gradients, then that of the gradients of R
    optimizer  0                    each device updates its part

What is gathered in bfloat16 needs no copy of autocast (`worker.engine.ranks.sharded`).

This is the communication. The rest is that of one device with its own batches: weights, gradients and moments by parts,
activations and temporaries whole. torch's own account of FSDP2 (`FSDPMemTracker`) agrees; a test compares them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, Self

from torch import nn

from app.domain.models.architecture import TaskModel
from app.domain.resources.ledger import Moment, Owner
from worker.engine.memory.measured import tensor_bytes
from worker.engine.ranks.sharded import rounded_weights


class Held(Protocol):
    """A storage of a step."""

    size: int
    moment: Moment
    """When it was allocated."""
    operation: str
    gathered: bool
    """A gradient of a weight outside of the blocks."""

    @property
    def held_by(self) -> Owner: ...


@dataclass(frozen=True)
class Sharing:
    parts: int
    block: int
    """F."""
    gathered: int
    """G."""
    rest: int
    """R."""
    others: Sequence[nn.Parameter]
    """The weights outside of the blocks."""
    rounded: frozenset[int]
    """The weights that are gathered in bfloat16, by `id`."""

    @classmethod
    def of(cls, model: nn.Module, facts: TaskModel, devices: int, *, bf16: bool) -> Self | None:
        """How several devices share a model; None if each has all of it: replicas exchange only their gradients."""
        if devices == 1 or not all(p.requires_grad for p in model.parameters()):
            return None
        blocks = [model.get_submodule(name) for name in facts.blocks]
        shared = [rounded_weights(block) if bf16 else [*block.parameters()] for block in blocks]
        block = max(map(tensor_bytes, shared), default=0)
        rest = tensor_bytes(model.parameters()) - tensor_bytes(p for weights in shared for p in weights)
        others = [p for name, p in model.named_parameters() if facts.block_of(name) is None]
        rounded = frozenset(id(p) for weights in shared for p in weights if bf16)
        return cls(devices, block, block // 2 if bf16 else block, rest, others, rounded)

    def size(self, held: Held) -> int:
        """Bytes of a storage on one device."""
        copied = held.held_by == "weights" and held.operation != ""  # autocast's copy of gathered weights
        whole = held.held_by in ("activations", "temporaries", "other") or copied
        return held.size if whole else -(-held.size // self.parts)

    def communication(self, lines: Sequence[tuple[Held, int]]) -> list[int]:
        """Bytes that are gathered, or are to be summed, after each line of a journal."""
        gradients = [place for place, (held, sign) in enumerate(lines) if sign > 0 and held.held_by == "gradients"]
        of_blocks = [place for place in gradients if not lines[place][0].gathered]
        earlier = any(lines[place][0].moment != "backward" for place in of_blocks)  # another batch left them
        first, last = (0, len(lines)) if earlier or not of_blocks else (of_blocks[0], of_blocks[-1])
        rest, within = self.rest, 3 * self.gathered + self.block - 2 * self.block // self.parts
        behind = max(self.block, rest)
        whole = accumulate(sign * (held.size - self.size(held)) if held.gathered else 0 for held, sign in lines)
        of_moment = {"forward": rest + 2 * self.gathered, "backward": rest}
        return [
            of_moment.get(held.moment, 0)
            + (gathered + (0 if place < first else within if place <= last else behind)) * (held.moment == "backward")
            for place, ((held, _sign), gathered) in enumerate(zip(lines, whole, strict=True))
        ]
