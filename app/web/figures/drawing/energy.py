"""Energy kept over the rank: a line for each ΔW, mean and band over matrices, and one for the matrices themselves."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.models.weight_delta import KeptAt
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import widest
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import NAME, MarkStyle, Paper, at_x, at_y, markers, values

ROW = 19
"""From one entry of the legend to the next, in pixels."""
SAMPLE = 22
"""Length of a line's sample in the legend."""
LEGEND_AT = 8
"""The rank by whose energies the legend is ordered."""


@dataclass(frozen=True)
class Line:
    """One curve."""

    style: MarkStyle
    points: tuple[KeptAt, ...]

    def at(self, rank: int) -> float:
        """Energy kept at the last rank that is not above this one."""
        return max((p.median for p in self.points if p.rank <= rank), default=0.0)


@dataclass(frozen=True)
class Energy:
    """What is drawn."""

    lines: tuple[Line, ...]
    most: int
    """The largest rank."""
    across: str
    up: str


def chart(data: Energy, width: int) -> alt.LayerChart:
    """Bands, lines with each one's dash and markers at the powers of two, and a legend at the right."""
    names = [line.style.name for line in data.lines]
    room = widest(names, NAME, bold=True, most=150 if width > 420 else 92)
    paper = Paper(width=width, height=270 if width > 420 else 240, left=40, right=room + SAMPLE + 26, top=30, bottom=46)
    return paper.draw(
        *[_band(data, line, width) for line in data.lines],
        *[_line(data, line, width) for line in data.lines],
        *[layer for line in data.lines for layer in _marks(data, line, width)],
        *_legend(data, paper, room),
    )


def _x(data: Energy, width: int) -> alt.X:
    """Powers of two are marked; where there is little room, of four."""
    powers = [2**k for k in range(0, data.most.bit_length(), 1 if width > 420 else 2)]
    scale = alt.Scale(type="log", base=2, domain=[1, max(data.most, 2)], nice=False)
    return alt.X("rank:Q", scale=scale, axis=alt.Axis(values=powers, format="d", title=data.across))


def _y(field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", scale=Domain(0, 100, 25).scale())


def _rows(line: Line) -> list[dict[str, object]]:
    return [
        {"rank": p.rank, "median": 100 * p.median, "low": 100 * p.low, "high": 100 * p.high} | line.style.fields
        for p in line.points
    ]


def _band(data: Energy, line: Line, width: int) -> alt.Chart:
    area = values(_rows(line)).mark_area(opacity=0.14, color=line.style.colour)
    found: alt.Chart = area.encode(x=_x(data, width), y=_y("low"), y2=alt.Y2("high:Q"))
    return found


def _line(data: Energy, line: Line, width: int) -> alt.Chart:
    drawn = values(_rows(line)).mark_line(strokeWidth=2.2, color=line.style.colour, strokeDash=line.style.dash)
    axis = Domain(0, 100, 25)
    y = alt.Y("median:Q", scale=axis.scale(), axis=axis.axis(title=data.up, titleX=-36))
    found: alt.Chart = drawn.encode(x=_x(data, width), y=y)
    return found


def _marks(data: Energy, line: Line, width: int) -> list[alt.Chart]:
    """At the powers of two, where a rank is usually chosen."""
    rows = [row for row, p in zip(_rows(line), line.points, strict=True) if p.rank & (p.rank - 1) == 0]
    return markers(rows, 46, x=_x(data, width), y=_y("median"))


def _legend(data: Energy, paper: Paper, room: int) -> list[alt.Chart]:
    """At the right, the highest line at rank LEGEND_AT first: all lines end at 100 %."""
    layers: list[alt.Chart] = []
    left = paper.plot + 16
    for place, line in enumerate(sorted(data.lines, key=lambda line: -line.at(LEGEND_AT))):
        y = 10 + place * ROW
        end = alt.X2Value(left + SAMPLE)  # type: ignore[no-untyped-call]
        sample = values([{"x": 0}]).mark_rule(strokeWidth=2.2, color=line.style.colour, strokeDash=line.style.dash)
        text = values([{"text": line.style.name}]).mark_text(
            align="left", baseline="middle", fontWeight="bold", fontSize=NAME, limit=room, color=line.style.colour
        )
        layers += [
            sample.encode(x=at_x(left), x2=end, y=at_y(y)),
            *markers([line.style.fields], 46, x=at_x(left + SAMPLE / 2), y=at_y(y)),
            text.encode(x=at_x(left + SAMPLE + 6), y=at_y(y), text=alt.Text("text:N")),
        ]
    return layers
