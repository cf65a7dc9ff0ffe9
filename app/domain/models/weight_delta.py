"""Weight deltas: how training changed each matrix of the base model, ΔW = W_after − W_before, [out, in].

A run's analysis has a `MatrixDelta` for each linear layer that its method changes, within a time limit. Intruder
dimensions (Shuttleworth et al. 2024, arXiv 2410.21228) are new directions: of the first TOP left singular vectors of
W_after, those whose largest |cosine| with any left singular vector of W_before is below EPSILON.
"""

from collections.abc import Sequence
from math import ceil, floor
from statistics import median
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from app.domain.messages import _
from app.domain.methods.base import Unchanged
from app.domain.models.spectra import Spectrum, ranks_shown

TOP = 10
"""Directions of W_after that are analysed; the paper's k."""
EPSILON = 0.5
"""A direction is an intruder below this cosine; the paper's ε."""
SHOWN_RANK = 8
"""The rank at which tables show the energy kept: LoRA's usual rank."""
BAND = (0.1, 0.9)
"""Quantiles of the matrices at the edges of a band."""
_GOLDEN = (5**0.5 - 1) / 2

UNCHANGED: dict[Unchanged, str] = {
    "head": _("Only the new head trains: no matrix of the base model changes, so there is no ΔW."),
    "biases": _("Only bias vectors and the head train: no matrix of the base model changes, so there is no ΔW."),
    "tokens": _("Only virtual tokens before the text train: no matrix of the base model changes, so there is no ΔW."),
    "networks": _(
        "Small nonlinear networks behind the projections train: they are not equivalent to a matrix "
        "added to W, so there is no ΔW."
    ),
}
"""Why a method has no ΔW."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MatrixDelta(_Value):
    """The weight delta of a linear layer."""

    name: str
    """Full dotted name of the layer, `bert.encoder.layer.0.attention.self.query`."""
    block: int | None
    """Its transformer block, from 0, an encoder's first; None outside the blocks."""
    module: str
    """Its name within the block, `attention.self.query`."""
    rows: int
    """out: rows of W [out, in]."""
    columns: int
    """in."""
    norm_ratio: float
    """‖ΔW‖_F / ‖W_before‖_F."""
    delta: Spectrum
    """Spectrum of ΔW."""
    weight: Spectrum
    """Spectrum of W_before."""
    top: int
    """Analysed directions of W_after: TOP, or the smaller side."""
    intruders: int
    """Intruder dimensions among them."""

    @property
    def side(self) -> int:
        """The smaller side: the largest possible rank."""
        return min(self.rows, self.columns)


class WeightDeltaSummary(_Value):
    """A summary of a run's analysis: medians over its matrices."""

    matrices: int
    """Analysed."""
    of: int
    """That the method changes."""
    side: int
    """The smaller side."""
    possible_rank: int
    """The highest rank that ΔW could have: the method's, or the smaller side."""
    effective_rank: float
    rank_90: int
    """Directions that keep 90 % of the energy, rounded up."""
    energy_8: float
    """Share of ΔW's energy that rank SHOWN_RANK keeps."""
    norm_ratio: float
    weight_effective_rank: float
    weight_rank_90: int
    weight_energy_8: float
    intruders: int
    """Over all matrices."""
    top: int
    """Analysed directions, over all matrices."""

    @classmethod
    def of_matrices(cls, matrices: Sequence[MatrixDelta], of: int) -> Self:
        return cls(
            matrices=len(matrices),
            of=of,
            side=round(median(m.side for m in matrices)),
            possible_rank=round(median(m.delta.count for m in matrices)),
            effective_rank=median(m.delta.effective_rank for m in matrices),
            rank_90=ceil(median(m.delta.rank_90 for m in matrices)),
            energy_8=median(m.delta.energy_at(SHOWN_RANK) for m in matrices),
            norm_ratio=median(m.norm_ratio for m in matrices),
            weight_effective_rank=median(m.weight.effective_rank for m in matrices),
            weight_rank_90=ceil(median(m.weight.rank_90 for m in matrices)),
            weight_energy_8=median(m.weight.energy_at(SHOWN_RANK) for m in matrices),
            intruders=sum(m.intruders for m in matrices),
            top=sum(m.top for m in matrices),
        )


class WeightDeltas(_Value):
    """A run's analysis."""

    unchanged: Unchanged | None = None
    """Why the method has no ΔW; the other fields are then empty."""
    matrices: list[MatrixDelta] = []
    """In the order of the model."""
    late: int = 0
    """Matrices left out for lack of time; the analysed ones are spread evenly over the model."""
    large: int = 0
    """Matrices left out because they need more memory than the run's peak."""
    broken: list[str] = []
    """A sentence for each matrix whose analysis failed."""
    budget_seconds: float = 0.0
    """The time limit."""
    seconds: float = 0.0
    """The time it took."""

    @property
    def of(self) -> int:
        """Matrices that the method changes."""
        return len(self.matrices) + self.late + self.large + len(self.broken)

    @property
    def summary(self) -> WeightDeltaSummary | None:
        """The summary; None if no matrix was analysed."""
        return WeightDeltaSummary.of_matrices(self.matrices, self.of) if self.matrices else None


class KeptAt(_Value):
    """Energy kept at a rank, over matrices."""

    rank: int
    median: float
    low: float
    """The tenth percentile of the matrices."""
    high: float
    """The ninetieth percentile."""


def energy_curve(spectra: Sequence[Spectrum]) -> list[KeptAt]:
    """Energy kept by rank, up to the full rank of every matrix: median and band over at least one matrix."""
    ranks = ranks_shown(max(s.count for s in spectra))
    kept = np.stack([s.energies_at(ranks) for s in spectra])
    columns = (np.median(kept, axis=0), *np.quantile(kept, BAND, axis=0))
    return [
        KeptAt(rank=rank, median=float(middle), low=float(low), high=float(high))
        for rank, middle, low, high in zip(ranks, *columns, strict=True)
    ]


def spread_order(n: int) -> list[int]:
    """0 … n−1 in an order whose every prefix is spread evenly: by the fractional part of i·φ, whose first m values lie
    at no more than three distances from each other (Sós 1958)."""
    return sorted(range(n), key=lambda i: i * _GOLDEN - floor(i * _GOLDEN))
