"""Steps as the rows of a CSV."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from app.domain.runs.digits import plain
from app.domain.runs.result import Steps
from app.web.figures.figure import Cell

BLOCK = 4096
"""Steps that become rows at one time."""


@dataclass(frozen=True)
class StepRows(Collection[tuple[Cell, ...]]):
    """A row per step of some runs, made as they are read: a hundred thousand steps are not objects before that."""

    parts: tuple[tuple[tuple[Cell, ...], Steps], ...]
    """What each row of a run begins with, and its steps."""

    def __len__(self) -> int:
        return sum(len(steps) for _first, steps in self.parts)

    def __iter__(self) -> Iterator[tuple[Cell, ...]]:
        for first, steps in self.parts:
            for start in range(0, len(steps), BLOCK):
                block = steps[start : start + BLOCK]
                columns = (plain(block[name]) for name in block.dtype.names or ())
                yield from ((*first, *row) for row in zip(*columns, strict=True))

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)
