"""Singular values of a matrix: how much of its energy a low rank keeps, and how many directions it uses.

    M [m, n] = Σ σᵢ·uᵢ·vᵢᵀ,  σ₁ ≥ σ₂ ≥ … ≥ 0                     ‖M‖_F² = Σ σᵢ²

    energy kept at rank k   Σ_{i ≤ k} σᵢ² / Σ σᵢ²             the maximum for a matrix of rank k
    effective rank          exp(−Σ pᵢ·ln pᵢ),  pᵢ = σᵢ / Σ σ   number of equal directions with the same entropy
    stable rank             ‖M‖_F² / σ₁²                      total energy in units of the first direction's

Sources: Eckart & Young 1936, Psychometrika 1; Roy & Vetterli 2007, EUSIPCO; Rudelson & Vershynin 2007, J. ACM 54.

Pure functions of the singular values, [n], largest first. A matrix of zeros has rank 0, and every rank holds all of it.
"""

from collections.abc import Sequence
from math import exp
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Values = NDArray[np.float64]
"""Singular values, largest first, [n]."""
MOST_VALUES = 64
"""Singular values of a matrix that are stored for its chart."""


def energy_kept(values: Values) -> Values:
    """Share of the energy that ranks 1 … n keep, [n]."""
    energy = np.cumsum(np.square(values))
    if not len(energy) or energy[-1] == 0:
        return np.ones(len(energy))
    kept: Values = energy / energy[-1]
    return kept


def effective_rank(values: Values) -> float:
    """Number of equal directions with the same entropy: from 1 to n; 0 for a matrix of zeros."""
    total = float(values.sum())
    if total == 0:
        return 0.0
    p = values[values > 0] / total
    return exp(-float(np.sum(p * np.log(p))))


def stable_rank(values: Values) -> float:
    """The energy divided by that of the first direction: from 1 to n; 0 for a matrix of zeros."""
    if not len(values) or values[0] == 0:
        return 0.0
    return float(np.sum(np.square(values / values[0])))


def rank_holding(share: float, values: Values) -> int:
    """The smallest rank that keeps a share of the energy, above 0 and at most 1; 0 for a matrix of zeros."""
    if not len(values) or values[0] == 0:
        return 0
    return int(np.searchsorted(energy_kept(values), share - 1e-12)) + 1


def ranks_shown(n: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, 24 … and n itself: two per doubling, for an axis in powers of two."""
    powers = [2**k for k in range(n.bit_length())]
    between = [3 * p // 2 for p in powers if p > 1]
    return sorted({k for k in (*powers, *between) if k <= n} | ({n} if n else set()))


class Spectrum(BaseModel):
    """What is stored of a matrix's singular values. Everything but `values` is computed from all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    """Singular values that may differ from zero: the smaller side, or the rank of the factors."""
    norm: float
    """‖M‖_F."""
    effective_rank: float
    stable_rank: float
    rank_50: int
    """The smallest rank that keeps half of the energy."""
    rank_90: int
    rank_99: int
    energy: list[float]
    """Kept at each of `ranks_shown(count)`, from 0 to 1."""
    value_ranks: list[int]
    """Places of the singular values in `values`, from 1: all, or some at equal distances on a logarithmic axis."""
    values: list[float]
    """To six significant digits."""

    @classmethod
    def of(cls, values: Values) -> Self:
        """From all singular values, largest first. Raises ValueError if one is not finite."""
        if not np.isfinite(values).all():
            raise ValueError("a singular value is not finite")
        shown = _log_spaced(len(values))
        kept = energy_kept(values)
        return cls(
            count=len(values),
            norm=float(np.sqrt(np.sum(np.square(values)))),
            effective_rank=effective_rank(values),
            stable_rank=stable_rank(values),
            rank_50=rank_holding(0.5, values),
            rank_90=rank_holding(0.9, values),
            rank_99=rank_holding(0.99, values),
            energy=[float(kept[k - 1]) for k in ranks_shown(len(values))],
            value_ranks=shown,
            values=[float(f"{values[k - 1]:.6g}") for k in shown],
        )

    def energy_at(self, rank: int) -> float:
        """Share of the energy that a rank keeps. Between stored ranks it is interpolated linearly, slightly too low."""
        return float(self.energies_at([rank])[0])

    def energies_at(self, ranks: Sequence[int]) -> Values:
        """The same for several ranks, [len(ranks)]."""
        kept: Values = np.interp(ranks, [0, *ranks_shown(self.count)], [0.0, *self.energy])
        return np.where(np.asarray(ranks) >= self.count, 1.0, kept)


def _log_spaced(n: int) -> list[int]:
    if n <= MOST_VALUES:
        return list(range(1, n + 1))
    return sorted({round(k) for k in np.geomspace(1, n, MOST_VALUES)})
