"""Whether a run's training loss was still falling when training ended.

    loss_t = a + b·t + noise    over the last half of the optimizer steps, by least squares
    falling     b < 0 (t-test, one-sided, 5 %), and the line falls by at least 1 % of its first value
    rising      the same with b > 0
    flat        the rest

The loss of single batches scatters, so a trend needs a test; half of the steps gives it enough of them. With thousands
of steps a test finds any slope, so a fall must also be large enough to matter.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.statistics.distributions import t_below

FEWEST_STEPS = 12
"""With fewer there is no trend to test."""
LEVEL = 0.05
SMALLEST_CHANGE = 0.01
"""Share of the loss at the beginning of the last half."""


@dataclass(frozen=True)
class LossTrend:
    """The training loss at the end of a run. Nats."""

    kind: Literal["falling", "flat", "rising"]
    steps: int
    start: float
    """Mean over the first tenth of the steps, at least three."""
    end: float
    """Mean over the last tenth."""
    half_start: float
    """The fitted line at the middle of training."""
    half_end: float
    """The fitted line at the last step."""

    @property
    def fallen(self) -> float:
        """How far the loss fell over the whole of training, as a share of where it began; negative if it rose."""
        return (self.start - self.end) / self.start if self.start > 0 else 0.0


def loss_trend(losses: NDArray[np.floating]) -> LossTrend | None:
    """From the loss of every step, [T]; None with fewer than FEWEST_STEPS, or if a loss is not finite."""
    if len(losses) < FEWEST_STEPS or not np.isfinite(losses).all():
        return None
    values = losses.astype(np.float64)
    tenth = max(3, len(values) // 10)
    half = values[len(values) // 2 :]
    slope, level, t = _line(half)
    first, last = level - slope * (len(half) - 1) / 2, level + slope * (len(half) - 1) / 2
    matters = abs(last - first) >= SMALLEST_CHANGE * abs(first) and t_below(len(half) - 2, -abs(t)) < LEVEL
    return LossTrend(
        kind="flat" if not matters else "falling" if slope < 0 else "rising",
        steps=len(values),
        start=float(values[:tenth].mean()),
        end=float(values[-tenth:].mean()),
        half_start=first,
        half_end=last,
    )


def _line(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Slope per step, mean, and the slope's t-value."""
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    squares = float((steps**2).sum())
    slope = float((steps * values).sum()) / squares
    residual = values - values.mean() - slope * steps
    error = sqrt(float((residual**2).sum()) / (len(values) - 2) / squares)
    return slope, float(values.mean()), slope / error if error > 0 else float(np.sign(slope)) * 1e9
