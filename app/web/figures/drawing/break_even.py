"""What N tasks take together: a line an arm, and a mark where keeping adapters becomes the cheaper way."""

from __future__ import annotations

from dataclasses import dataclass

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import text_width
from app.web.figures.drawing.line_ends import line_ends, room_for
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import MUTED, STRONG, MarkStyle, Paper, at_x, at_y, markers, values


@dataclass(frozen=True)
class Growth:
    """An arm: what it takes at one task and at the last."""

    style: MarkStyle
    first: float
    last: float
    cheaper_from: int | None = None
    """Tasks from which on it takes less than the whole models; None where it never does, and for these themselves."""

    def at(self, tasks: float, most: int) -> float:
        """Of so many tasks."""
        return self.first + (self.last - self.first) * (tasks - 1) / max(most - 1, 1)


@dataclass(frozen=True)
class BreakEven:
    """Arms over the number of tasks, from 1."""

    arms: tuple[Growth, ...]
    tasks: int
    across: str
    up: str
    crossing: str
    """What stands at the mark."""


def chart(data: BreakEven, width: int) -> alt.LayerChart:
    """Lines, names at their ends, and the crossings."""
    paper = Paper(
        width=width,
        height=250 if width > 420 else 230,
        left=48,
        right=room_for([arm.style for arm in data.arms], width),
        top=30,
        bottom=46,
    )
    most = max(data.tasks, 2)
    x = Domain.covering([1.0, float(most)], ticks=min(5, most - 1), air=0.0)
    y = Domain.covering([0.0, *(end for arm in data.arms for end in (arm.first, arm.last))], air=0.05, least=0.0)
    x_axis = alt.X("x:Q", scale=x.scale(), axis=x.axis(title=data.across))
    y_axis = alt.Y("y:Q", scale=y.scale(), axis=y.axis(title=data.up, titleX=-46))
    lines = [
        values([{"x": 1, "y": arm.first}, {"x": most, "y": arm.last}])
        .mark_line(strokeWidth=2.2, color=arm.style.colour, strokeDash=arm.style.dash)
        .encode(x=x_axis, y=y_axis)
        for arm in data.arms
    ]
    return paper.draw(
        *lines,
        *_crossings(data, x, y, paper, most),
        *line_ends([(arm.style, arm.last) for arm in data.arms], y, paper),
    )


def _crossings(data: BreakEven, x: Domain, y: Domain, paper: Paper, most: int) -> list[alt.Chart]:
    """An arm's marker on its line where it becomes cheaper; the first such number of tasks is named."""
    found = [(arm, arm.cheaper_from) for arm in data.arms if arm.cheaper_from and arm.cheaper_from <= most]
    if not found:
        return []
    rows = [arm.style.fields | {"x": place, "y": arm.at(place, most)} for arm, place in found]
    first = min(place for _arm, place in found)
    at, text = x.pixel(first, paper.plot), data.crossing
    left = at + text_width(text) + 8 < paper.plot
    rule = values([{}]).mark_rule(color=STRONG, strokeDash=[3, 3])
    label = values([{"text": text}]).mark_text(
        align="left" if left else "right", dx=6 if left else -6, baseline="top", color=MUTED
    )
    where = {"x": alt.X("x:Q"), "y": alt.Y("y:Q", scale=y.scale())}
    return [
        rule.encode(x=at_x(at)),
        label.encode(x=at_x(at), y=at_y(2), text=alt.Text("text:N")),
        *markers(rows, 70, **where),
    ]
