"""Where the labels of a trade-off stand: beside their points, off everything else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

NARROW = frozenset("iljtfrI.,:;'|!()[] ")
Align = Literal["left", "right", "center"]
WIDE = frozenset("mwMW%—→@")


def text_width(text: str, size: float = 12, *, bold: bool = False) -> int:
    """About how many pixels a text takes in the page's face; rather too many."""
    ems = sum(0.34 if c in NARROW else 0.92 if c in WIDE else 0.68 if c.isupper() else 0.58 for c in text)
    return round(ems * size * (1.06 if bold else 1.0)) + 2


def clipped(text: str, most: float, size: float = 12) -> str:
    """A text, or as much of its beginning as fits, with an ellipsis."""
    if text_width(text, size) <= most:
        return text
    while text and text_width(text + "…", size) > most:
        text = text[:-1]
    return text.rstrip() + "…"


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Shared area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def outside(self, frame: "Box") -> float:
        """Area of this box that lies outside a frame."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(frame)


@dataclass(frozen=True)
class Placed:
    """Where a label of one or two lines stands: its anchor, and how it is aligned there."""

    x: float
    y: float
    """Middle of the first line."""
    align: Align
    lines: int
    far: bool = False
    """So far from its point that a line should lead to it."""


FAR = 16
"""Pixels above or below a point from which on a label is far."""
LINE_HEIGHT = 16
TOO_MUCH = 0.3
"""A label that is covered by more than this share is left out."""


def beside(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[Sequence[tuple[float, int]]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[Placed | None]:
    """A place for the label of each point; None where there is no room.

    `sizes` holds, for each point, the sizes that its label may take (width, number of lines), the largest first.
    Earlier points choose first. A place is near its point, off every obstacle (markers, whiskers, lines), off the
    labels placed before, and within the frame; of those that are not quite free the least covered one is taken.
    """
    taken = list(obstacles)
    placed: list[Placed | None] = []
    for point, options in zip(points, sizes, strict=True):
        best: tuple[float, Placed, Box] | None = None
        for width, lines in options:
            best = min(_tries(point, width, lines, taken, frame), key=lambda candidate: candidate[0])
            if best[0] <= TOO_MUCH * width * lines * LINE_HEIGHT:
                break
            best = None
        if best is not None:
            taken.append(best[2])
        placed.append(best[1] if best is not None else None)
    return placed


def _tries(
    point: tuple[float, float], width: float, lines: int, taken: Sequence[Box], frame: Box
) -> Iterator[tuple[float, Placed, Box]]:
    """Every candidate with how bad it is, in square pixels."""
    (x, y), height = point, LINE_HEIGHT * lines
    for preference, (dx, dy, align) in enumerate(_candidates(height)):
        left = {"left": x + dx, "right": x + dx - width, "center": x - width / 2}[align]
        box = Box(left, y + dy, left + width, y + dy + height)
        bad = sum(box.overlap(other) for other in taken) + 3 * box.outside(frame) + 2 * preference
        far = dy > FAR or dy + height < -FAR
        yield bad, Placed(x + dx, y + dy + LINE_HEIGHT / 2, align, lines, far), box


def _candidates(height: float) -> list[tuple[float, float, Align]]:
    """Offsets of a label's nearest top corner from its point, best first: beside it, then ever farther above and below,
    and a step to the side."""
    offsets: list[tuple[float, float, Align]] = []
    for away in range(6):
        for side in (11, 44)[: 1 + (away > 0)]:
            up, down = -height - 3 - 19 * away, 4 + 18 * away
            offsets += [(side, up, "left"), (side, down, "left"), (-side, up, "right"), (-side, down, "right")]
        if away == 1:
            offsets += [(0, -height - 12, "center"), (0, 12, "center")]
    return offsets
