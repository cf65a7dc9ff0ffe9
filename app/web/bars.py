"""A split bar of a table or a panel: its parts, in hundredths of the longest bar."""

from collections.abc import Iterable
from dataclasses import dataclass

GAP = 0.4
"""Between the parts."""
LEAST = 0.3
"""A part that is there is seen."""


@dataclass(frozen=True)
class Segment:
    """A part of a bar."""

    css: str
    x: float
    width: float


def segments(parts: Iterable[tuple[str, float]], longest: float) -> tuple[Segment, ...]:
    """From classes and sizes."""
    bar, at = [], 0.0
    for css, size in parts:
        width = 100 * size / longest
        if width > 0:
            bar.append(Segment(css, round(at, 2), round(max(width - GAP, LEAST), 2)))
        at += width
    return tuple(bar)
