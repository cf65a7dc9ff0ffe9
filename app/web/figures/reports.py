"""What the runs of a study reported, an arm at a time, on full data."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.digits import plain
from app.domain.runs.result import Steps
from app.domain.runs.smoothing import Band, Floats, band, debiased
from app.domain.runs.status import RunStatus
from app.domain.tasks import generates
from app.web.figures.figure import Cell
from app.web.figures.quantities import PLACES, QUANTITIES, Place, Quantity
from app.web.figures.view import ViewParams

BLOCK = 4096
"""Steps that are rows at one time."""


@dataclass(frozen=True)
class Checkpoint:
    """An evaluation on the validation split."""

    step: int
    epoch: float
    n: int
    loss: float
    score: float | None
    """None where the metric needs generated text."""


@dataclass(frozen=True)
class Reports:
    """What the runs of a study reported, and how one looks at it."""

    found: StudyComparison
    steps: Mapping[int, Steps]
    checkpoints: Mapping[int, Sequence[Checkpoint]]
    view: ViewParams

    @property
    def quantity(self) -> Quantity:
        """What is drawn."""
        return QUANTITIES[self.view.curve]

    @property
    def place(self) -> Place:
        """Over what."""
        return PLACES[self.view.by]

    @property
    def factor(self) -> float:
        """Of smoothing; validation is not smoothed."""
        return self.view.smooth if self.quantity.of else 0.0

    def seed(self, run: RunOutcome) -> tuple[Floats, Floats]:
        """A run's places and values, as they were reported."""
        if self.quantity.of is None:
            return self.evaluations(run, by_loss=generates(self.found.metric))
        steps = self.steps.get(run.run_id)
        if steps is None or not len(steps):
            return np.zeros(0), np.zeros(0)
        return self.place.of(steps), self.quantity.of(steps)

    def evaluations(self, run: RunOutcome, *, by_loss: bool) -> tuple[Floats, Floats]:
        """Where a run was validated, and its loss or score there."""
        every = ((float(c.step), c.loss if by_loss else c.score) for c in self.checkpoints.get(run.run_id, ()))
        at, values = np.array([pair for pair in every if pair[1] is not None], dtype=np.float64).reshape(-1, 2).T
        steps = self.steps.get(run.run_id)
        if self.view.by != "step" and len(at):
            if steps is None or not len(steps):
                return np.zeros(0), np.zeros(0)
            at = np.interp(at, steps["step"].astype(np.float64), self.place.of(steps))
        return at, values

    def line(self, arm: StudyArm) -> "Line":
        """An arm's seeds on one grid. Those that ended well; until there are any, those at work; failing these, those
        that failed."""
        groups = (arm.succeeded, _in(arm, RunStatus.RUNNING), _in(arm, RunStatus.FAILED))
        seen = next((those for runs in groups if (those := [s for run in runs if len((s := self.seed(run))[0])])), [])
        calm = [(x, debiased(value, self.factor)) for x, value in seen]
        failed = [(run, self.seed(run)) for run in _in(arm, RunStatus.FAILED)]
        return Line(
            arm=arm,
            seeds=len(seen),
            raw=band(seen),
            calm=band(calm) if self.factor else band(seen),
            failed=tuple((run, *seed) for run, seed in failed if np.isfinite(seed[1]).any()),
            marks=self._marks(arm),
        )

    def _marks(self, arm: StudyArm) -> Band | None:
        """The mean validation loss over the seeds, beside a training loss; None beside anything else."""
        if self.view.curve != "loss":
            return None
        return band([self.evaluations(run, by_loss=True) for run in arm.succeeded or _in(arm, RunStatus.RUNNING)])


@dataclass(frozen=True)
class Line:
    """An arm, on full data."""

    arm: StudyArm
    seeds: int
    raw: Band
    calm: Band
    """Smoothed, where one asked for it."""
    failed: tuple[tuple[RunOutcome, Floats, Floats], ...]
    marks: Band | None

    @property
    def sound(self) -> bool:
        """A run of it got through, or is at work."""
        return any(run.status in (RunStatus.SUCCEEDED, RunStatus.RUNNING) for run in self.arm.runs)


@dataclass(frozen=True)
class EveryStep(Collection[tuple[Cell, ...]]):
    """A row a step of some runs, made as they are read: a hundred thousand steps are no objects before."""

    parts: tuple[tuple[tuple[Cell, ...], Steps], ...]
    """What each row of a run begins with, and its steps."""

    def __len__(self) -> int:
        return sum(len(steps) for _of, steps in self.parts)

    def __iter__(self) -> Iterator[tuple[Cell, ...]]:
        for of, steps in self.parts:
            for start in range(0, len(steps), BLOCK):
                block = steps[start : start + BLOCK]
                columns = (plain(block[name]) for name in block.dtype.names or ())
                yield from ((*of, *row) for row in zip(*columns, strict=True))

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)


def _in(arm: StudyArm, status: RunStatus) -> tuple[RunOutcome, ...]:
    return tuple(run for run in arm.runs if run.status is status)
