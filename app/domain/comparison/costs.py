"""What an arm cost, over its seeds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.resources.ledger import OWNERS, Ledger, Owner
from app.domain.runs.result import Clocks, Memory, RunResult


@dataclass(frozen=True)
class Spread:
    """A number over seeds."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Mean, smallest and largest; raises ValueError for none."""
        seen = np.fromiter(values, dtype=np.float64)
        return cls(float(seen.mean()), float(seen.min()), float(seen.max()))


@dataclass(frozen=True)
class Costs:
    """What an arm cost, over its succeeded seeds. Bytes and seconds."""

    peak_bytes: Spread
    weights_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    rest_bytes: float
    train_seconds: Spread
    wall_seconds: Spread
    clocks: dict[str, float]
    """Mean seconds by phase, names of `metrics.Clocks`."""
    tokens_per_second: float
    trainable_parameters: int
    total_parameters: int
    artifact_bytes: int
    owner_bytes: dict[Owner, float] | None = None
    """Mean bytes by owner at the peak of a steady step; None where a run has no ledger."""
    train_peak_bytes: float = 0.0
    """Mean of the largest while training; `peak_bytes` is of all phases."""

    @classmethod
    def of(cls, results: Sequence[RunResult]) -> "Costs":
        """From the results of an arm's succeeded seeds, at least one."""

        def memory(of: Callable[[Memory], float]) -> float:
            return float(np.mean([of(r.memory) for r in results]))

        first = results[0]
        return cls(
            peak_bytes=Spread.of(r.memory.peak_bytes for r in results),
            weights_bytes=memory(lambda m: m.weights_bytes),
            gradients_bytes=memory(lambda m: m.gradients_bytes),
            optimizer_bytes=memory(lambda m: m.optimizer_bytes),
            rest_bytes=memory(lambda m: m.rest_bytes),
            train_seconds=Spread.of(r.clocks.train for r in results),
            wall_seconds=Spread.of(r.clocks.wall for r in results),
            clocks={name: float(np.mean([getattr(r.clocks, name) for r in results])) for name in Clocks.model_fields},
            tokens_per_second=float(
                np.mean([r.tokens / r.clocks.train for r in results if r.clocks.train > 0] or [0.0])
            ),
            trainable_parameters=first.parameters.trainable,
            total_parameters=first.parameters.total,
            artifact_bytes=first.artifact_bytes,
            owner_bytes=_owners([r.memory.ledger for r in results]),
            train_peak_bytes=memory(lambda m: m.train_peak_bytes),
        )


def _owners(ledgers: Sequence[Ledger | None]) -> dict[Owner, float] | None:
    known = [ledger.owners for ledger in ledgers if ledger is not None]
    if len(known) < len(ledgers):
        return None
    return {owner: float(np.mean([owners.get(owner, 0) for owners in known])) for owner in OWNERS}
