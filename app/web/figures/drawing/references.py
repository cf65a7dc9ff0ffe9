"""Reference lines: the score of a baseline, as a dashed line through a figure of scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import INK, MUTED, at_x, at_y, halo, side, values
from app.words.format import decimal

DASHES = ((2, 2), (6, 2), (8, 2, 2, 2), (1, 3))
"""By a baseline's place in its study; the symbols `k-line-1` and so on have the same."""
ROOM = 0.6
"""A line is drawn where the axis grows by at most this share for it."""
APART = 14
"""Pixels between two names."""
HEAD = 15
"""Pixels of a line of names above a plot."""


@dataclass(frozen=True)
class Reference:
    name: str
    value: float
    """In the axis's unit."""
    dash: tuple[int, ...]
    signed: bool = False
    """It is a difference."""

    @property
    def label(self) -> str:
        """`TF-IDF 73.4`, `TF-IDF −10.9`."""
        return f"{self.name} {decimal(self.value, signed=self.signed)}"


def near(lines: Iterable[Reference], low: float, high: float) -> list[Reference]:
    """Those for which an axis from `low` to `high` has to grow little, the nearest first."""
    room = ROOM * (high - low)
    nearest = sorted(lines, key=lambda line: max(low - line.value, line.value - high, 0.0))
    return [line for line in nearest if low - room <= line.value <= high + room]


def across(lines: Sequence[Reference], scale: alt.Scale, pixels: float) -> list[alt.Chart]:
    """Horizontal lines, each with its name at the left; `pixels` is the height of one unit of the axis. A name that
    would cover another is left out."""
    layers: list[alt.Chart] = []
    named: list[float] = []
    for line in lines:
        row = values([{"y": line.value, "text": line.label}])
        y = alt.Y("y:Q", scale=scale)
        layers.append(row.mark_rule(color=MUTED, strokeDash=list(line.dash), strokeWidth=1.5).encode(y=y))
        if all(abs(line.value - other) * pixels >= APART for other in named):
            named.append(line.value)
            where = {"x": at_x(0), "y": y, "text": alt.Text("text:N")}
            layers += halo(row, where, align="left", baseline="bottom", dx=4, dy=-3, color=MUTED)
    return layers


def head_height(lines: Sequence[Reference]) -> int:
    """Pixels above the rows of a plot that the names of vertical lines take."""
    return HEAD * len(lines) + 6 if lines else 0


def down(lines: Sequence[Reference], scale: alt.Scale, domain: Sequence[float], height: int) -> list[alt.Chart]:
    """Vertical lines through a plot of this height, each with its name on a line of its own above the rows."""
    layers: list[alt.Chart] = []
    bottom = alt.Y2Value(height)  # type: ignore[no-untyped-call]
    for place, line in enumerate(lines):
        row = values([{"x": line.value, "text": line.label}])
        x, top = alt.X("x:Q", scale=scale), HEAD * place + HEAD
        rule = row.mark_rule(color=INK, strokeDash=list(line.dash), strokeWidth=1.5)
        name = row.mark_text(baseline="bottom", color=MUTED, **side((line.value - domain[0]) / (domain[1] - domain[0])))
        layers += [
            rule.encode(x=x, y=at_y(top - HEAD + 2), y2=bottom),
            name.encode(x=x, y=at_y(top), text=alt.Text("text:N")),
        ]
    return layers
