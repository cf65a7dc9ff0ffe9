"""Why nothing was learned: causes that were measured in the runs of the reference arm, the most likely first.

    steps           the training loss was still falling at the end, or there were too few steps to tell
    learning-rate   too high: the loss ended above its beginning, or a run diverged
                    too low: it fell by less than a tenth
                    unknown: it stopped falling early; both can be the reason
    max-length      max_length truncates a quarter of the training rows or more
    labels          a twentieth of the training rows or more have a text that occurs with another label too

Each has a remedy: a change of the study that would remove the cause (`remedies.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Literal

from app.domain.comparison.learning.loss_trend import FEWEST_STEPS, LossTrend
from app.domain.comparison.study import StudyArm
from app.domain.failures import FailureCode
from app.domain.runs.result import DataSeen
from app.domain.studies.remedies import longer

SMALL_FALL = 0.1
"""Fall of the loss over the whole of training; a smaller one suggests a learning rate that is too low."""
TRUNCATED = (0.25, 0.5)
"""Shares of the training rows: from the first it is a possible cause, from the second a likely one."""
CONTRADICTORY = (0.05, 0.2)


class CauseKind(StrEnum):
    """What may have kept the model from learning."""

    STEPS = "steps"
    LEARNING_RATE = "learning-rate"
    MAX_LENGTH = "max-length"
    LABELS = "labels"


@dataclass(frozen=True)
class Cause:
    """A cause, and what was measured of it."""

    kind: CauseKind
    likely: bool
    """Otherwise it is possible."""
    runs: int = 0
    """Runs of the reference that show it, out of `of_runs`."""
    of_runs: int = 0
    steps: int = 0
    """Optimizer steps of a run."""
    loss: tuple[float, float] | None = None
    """`steps`: the fitted loss from the middle to the end of training; `learning-rate`: at beginning and end."""
    direction: Literal["low", "high", "unknown"] | None = None
    """How the learning rate is wrong."""
    diverged: int = 0
    """Runs that ended in a loss that is not finite."""
    rows: int = 0
    """Training rows that are truncated or contradictory, out of `of_rows`."""
    of_rows: int = 0
    long_tokens: int | None = None
    """`max-length`: tokens that 95 % of the training rows do not exceed."""
    max_length: int | None = None
    """`max-length`: what to raise it to; None where the model reads no more."""

    @property
    def remedy(self) -> CauseKind | None:
        """The change that would remove it; None where there is none."""
        return None if self.kind is CauseKind.MAX_LENGTH and self.max_length is None else self.kind

    @property
    def share(self) -> float:
        """Share of the training rows."""
        return self.rows / self.of_rows if self.of_rows else 0.0


@dataclass(frozen=True)
class Causes:
    """What was measured, and what it rules out."""

    found: tuple[Cause, ...] = ()
    ruled_out: tuple[Cause, ...] = ()
    """Measured, and not a cause."""


NO_CAUSES = Causes()
"""For a study that learned something."""


def causes(
    arm: StudyArm, trends: Mapping[int, LossTrend | None], max_length: int, most_tokens: int | None = None
) -> Causes:
    """Why the reference arm learned nothing, from the loss trend of each of its runs by id (a run without steps is
    missing), the study's `max_length`, and the tokens that the model reads (None where that is not known)."""
    results = [run for run in arm.runs if run.result is not None]
    steps = max((run.result.steps for run in results if run.result), default=0)
    known = [trends[run.run_id] for run in results if run.run_id in trends]
    data = next((run.result.data for run in results if run.result and run.result.data), None)
    diverged = sum(run.failure is not None and run.failure.code is FailureCode.DIVERGED for run in arm.runs)
    raised = longer(max_length, data.long_tokens if data else None, most_tokens)
    checked = [
        *_steps(known, steps),
        *_learning_rate([trend for trend in known if trend], diverged, steps),
        *_rows(
            CauseKind.MAX_LENGTH,
            data,
            data.truncated_rows if data else None,
            TRUNCATED,
            raised if raised > max_length else None,
        ),
        *_rows(CauseKind.LABELS, data, data.contradictory_rows if data else None, CONTRADICTORY),
    ]
    order = list(CauseKind)
    found = sorted((c for c, holds in checked if holds), key=lambda c: (not c.likely, order.index(c.kind)))
    return Causes(tuple(found), tuple(cause for cause, holds in checked if not holds))


Checked = list[tuple[Cause, bool]]
"""Causes, and whether they hold; empty where nothing was measured."""


def _steps(trends: Sequence[LossTrend | None], steps: int) -> Checked:
    if not trends:
        return []
    falling = [trend for trend in trends if trend and trend.kind == "falling"]
    short = steps < FEWEST_STEPS
    loss = None
    if falling:
        loss = median(trend.half_start for trend in falling), median(trend.half_end for trend in falling)
    cause = Cause(
        kind=CauseKind.STEPS,
        likely=short or 2 * len(falling) > len(trends),
        runs=len(falling),
        of_runs=len(trends),
        steps=steps,
        loss=loss,
    )
    return [(cause, short or bool(falling))]


def _learning_rate(trends: Sequence[LossTrend], diverged: int, steps: int) -> Checked:
    if not trends and not diverged:
        return []
    rose = [trend for trend in trends if trend.end > trend.start]
    slight = [trend for trend in trends if 0 <= trend.fallen < SMALL_FALL]
    stopped = [trend for trend in trends if trend.kind == "flat"]
    direction: Literal["low", "high", "unknown"]
    if diverged or 2 * len(rose) > len(trends):
        direction, seen, likely = "high", rose, True
    elif 2 * len(slight) > len(trends):
        direction, seen, likely = "low", slight, all(trend.kind == "flat" for trend in slight)
    else:
        direction, seen, likely = "unknown", stopped, False
    shown = seen or trends
    cause = Cause(
        kind=CauseKind.LEARNING_RATE,
        likely=likely,
        runs=len(seen) + diverged,
        of_runs=len(trends) + diverged,
        steps=steps,
        loss=(median(t.start for t in shown), median(t.end for t in shown)) if shown else None,
        direction=direction,
        diverged=diverged,
    )
    return [(cause, bool(seen) or diverged > 0)]


def _rows(
    kind: CauseKind,
    data: DataSeen | None,
    rows: int | None,
    thresholds: tuple[float, float],
    max_length: int | None = None,
) -> Checked:
    if data is None or rows is None or not data.train_rows:
        return []
    possible, likely = thresholds
    share = rows / data.train_rows
    long_tokens = data.long_tokens if kind is CauseKind.MAX_LENGTH else None
    cause = Cause(
        kind=kind,
        likely=share >= likely,
        rows=rows,
        of_rows=data.train_rows,
        long_tokens=long_tokens,
        max_length=max_length,
    )
    return [(cause, share >= possible)]
