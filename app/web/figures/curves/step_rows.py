"""Steps as the rows of a CSV."""

from collections.abc import Iterator, Sequence

from app.domain.runs.result import STEP_DTYPE, Steps, known
from app.web.figures.figure import Cell, Table

BLOCK = 4096
"""Steps that become rows at one time."""
RunSteps = Sequence[tuple[tuple[Cell, ...], Steps]]
"""What each row of a run begins with, and its steps."""


def step_table(names: Sequence[str], runs: RunSteps) -> Table:
    """A row per step of some runs; `names` are those of the first columns."""
    return Table.raw((*names, *(STEP_DTYPE.names or ())), _rows(runs))


def _rows(runs: RunSteps) -> Iterator[tuple[Cell, ...]]:
    """Made as they are read: a hundred thousand steps are not objects before that."""
    for first, steps in runs:
        for start in range(0, len(steps), BLOCK):
            block = steps[start : start + BLOCK]
            columns = (known(block, name) for name in block.dtype.names or ())
            yield from ((*first, *row) for row in zip(*columns, strict=True))
