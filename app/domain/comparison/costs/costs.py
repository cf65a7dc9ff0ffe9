"""What an arm costs, over its seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.resources.ledger import OWNERS, Ledger, Owner
from app.domain.runs.clocks import Clocks
from app.domain.runs.result import Memory, RunResult


@dataclass(frozen=True)
class Spread:
    """A number over seeds."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Mean, smallest and largest; raises ValueError for none."""
        numbers = np.fromiter(values, dtype=np.float64)
        return cls(float(numbers.mean()), float(numbers.min()), float(numbers.max()))


COSTS = ("peak_bytes", "train_seconds", "trainable_parameters", "artifact_bytes")
"""What is known of any run, also of an imported one. Bytes and seconds."""


@dataclass(frozen=True)
class ArmCosts:
    """What an arm of any runs cost, over its runs with a result. Bytes and seconds; None where no run reports it."""

    peak_bytes: Spread | None
    train_seconds: Spread | None
    trainable_parameters: int | None
    artifact_bytes: int | None

    @classmethod
    def of_any(cls, runs: Sequence[Mapping[str, float]]) -> "ArmCosts":
        """From the costs of each run, by the names of COSTS."""
        values = {name: [run[name] for run in runs if name in run] for name in COSTS}
        spreads = {name: Spread.of(known) if known else None for name, known in values.items()}
        parameters, file = spreads["trainable_parameters"], spreads["artifact_bytes"]
        return cls(
            peak_bytes=spreads["peak_bytes"],
            train_seconds=spreads["train_seconds"],
            trainable_parameters=round(parameters.mean) if parameters else None,
            artifact_bytes=round(file.mean) if file else None,
        )


@dataclass(frozen=True)
class Costs(ArmCosts):
    """What an arm of a study cost, over its succeeded seeds."""

    peak_bytes: Spread
    train_seconds: Spread
    trainable_parameters: int
    artifact_bytes: int
    weights_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    rest_bytes: float
    wall_seconds: Spread
    clocks: dict[str, float]
    """Mean seconds by phase, names of `Clocks`."""
    tokens_per_second: float
    total_parameters: int
    owner_bytes: dict[Owner, float] | None = None
    """Mean bytes by owner at the peak of the recorded step with the highest one (`Memory.ledger`); None where a run
    has no ledger."""
    train_peak_bytes: float = 0.0
    """Mean of the largest while training; `peak_bytes` is of all phases."""

    @property
    def method_wall_seconds(self) -> float:
        """Mean of `Clocks.method_wall`."""
        return self.wall_seconds.mean - self.clocks["baseline"]

    @classmethod
    def of(cls, results: Sequence[RunResult]) -> "Costs":
        """From the results of an arm's succeeded seeds, at least one."""

        def memory(read: Callable[[Memory], float]) -> float:
            return float(np.mean([read(r.memory) for r in results]))

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
