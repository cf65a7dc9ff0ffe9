"""Memory maps: a heat table for each method, length by batch size, on one device. Cells are darker the nearer they come
to the device's memory, each with a mark for whether it fits; a line separates what fits from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from app.domain.resources.ledger import OWNERS
from app.domain.resources.memory_map import MapCellFit, MapReport
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import INK, LINE, MUTED, frame, named_axis, values
from app.web.figures.figure import Column, Figure, Table
from app.web.format import count, decimal, memory, memory_in, memory_unit
from app.web.i18n import gettext as _
from app.web.text.memory_fit import FITS, basis
from app.web.text.memory_maps import precision_words, title

ROW = 40
DARKEST = 0.2
Verdict = Literal["fits", "tight", "does_not_fit"]
MARKS: dict[Verdict, tuple[str, str]] = {
    "fits": ("M-0.8,0.1L-0.2,0.7L0.9,-0.7", "var(--ok)"),
    "tight": ("M0,-0.8L0.9,0.8H-0.9Z", "var(--warn)"),
    "does_not_fit": ("M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7", "var(--bad)"),
}
"""Stroke and colour: those of the icons that stand beside the words elsewhere."""
VERDICTS: dict[str, Verdict] = {"fits": "fits", "tight": "tight"}
"""An unknown fit counts as not fitting."""


@dataclass(frozen=True)
class Cell:
    """One length and batch size, by its place from the left and from below."""

    column: int
    row: int
    verdict: Verdict
    label: str
    share: float
    """Of the device's memory."""


@dataclass(frozen=True)
class Heat:
    """Cells over two axes."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    """From below."""
    cells: tuple[Cell, ...]
    fits: tuple[int, ...]
    """By column, how many rows fit from below."""
    across: str
    up: str


def map_figures(report: MapReport) -> dict[str, Figure]:
    """A figure a method, by its kind; none until the map has been worked out."""
    if not report.cells:
        return {}
    figures = (_figure(report, place) for place in range(len(report.methods)))
    return {figure.name: figure for figure in figures}


def _figure(report: MapReport, method: int) -> Figure:
    spec = report.methods[method]
    cells = [c for c in report.cells if c.method == method]
    largest = max(c.peak.value for c in report.cells)
    room = report.device.usable_bytes
    precision = "bf16" if report.bf16 else "fp32"
    return Figure(
        name=spec.kind,
        title=title(report, method),
        label=_(
            "Estimated peak memory of %(method)s in %(format)s by length and batch size",
            method=spec.label,
            format=precision_words(report),
        ),
        note=_note(report, cells, room),
        data=_heat(report, method, cells, largest, room),
        draw=chart,
        table=Table(_columns(largest), tuple((c.length, c.rows, *_peak(c), _(FITS[c.fit])) for c in cells)),
        everything=lambda: Table.raw(
            (
                "method",
                "precision",
                *(column.name for column in _columns(largest)),
                *(f"{owner}_bytes" for owner in OWNERS),
            ),
            tuple(
                (spec.kind, precision, c.length, c.rows, *_peak(c), c.fit, *(c.ledger.owners.get(o, 0) for o in OWNERS))
                for c in cells
            ),
        ),
    )


def chart(data: Heat, width: int) -> alt.LayerChart:
    """Cells, marks above their numbers, and the line."""
    columns, rows = len(data.columns), len(data.rows)
    x_axis = named_axis(data.columns, [i + 0.5 for i in range(columns)], title=data.across, labelPadding=7)
    y_axis = named_axis(data.rows, [i + 0.5 for i in range(rows)], title=None)
    x_scale, y_scale = alt.Scale(domain=[0, columns], nice=False), alt.Scale(domain=[0, rows], nice=False)
    x, y = alt.X("x:Q", scale=x_scale), alt.Y("y:Q", scale=y_scale)
    boxes = [
        {"left": c.column, "right": c.column + 1, "bottom": c.row, "top": c.row + 1}
        | {"opacity": DARKEST * min(1.0, c.share) if c.verdict != "does_not_fit" else 0.0}
        for c in data.cells
    ]
    inside = [
        {"x": c.column + 0.5, "y": c.row + 0.5, "text": c.label, "shape": MARKS[c.verdict][0]}
        | {"colour": MARKS[c.verdict][1], "ink": MUTED if c.verdict == "does_not_fit" else INK}
        for c in data.cells
    ]
    edge = [(column + side, height) for column, height in enumerate(data.fits) for side in (0, 1)]
    line = values([{"order": place, "x": x, "y": y} for place, (x, y) in enumerate(edge)])
    return frame(
        values(boxes)
        .mark_rect(fill=INK, stroke=LINE, strokeWidth=1)
        .encode(
            x=alt.X("left:Q", scale=x_scale, axis=x_axis),
            x2=alt.X2("right:Q"),
            y=alt.Y("bottom:Q", scale=y_scale, axis=y_axis),
            y2=alt.Y2("top:Q"),
            fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None),
        ),
        values(inside)
        .mark_point(size=64, opacity=1, strokeWidth=1.7, fill="transparent", strokeJoin="round", yOffset=-8)
        .encode(
            x=x,
            y=y,
            shape=alt.Shape("shape:N", scale=None, legend=None),
            stroke=alt.Stroke("colour:N", scale=None, legend=None),
        ),
        values(inside)
        .mark_text(dy=9, fontSize=11)
        .encode(x=x, y=y, text=alt.Text("text:N"), color=alt.Color("ink:N", scale=None, legend=None)),
        line.mark_line(stroke=INK, strokeWidth=3, strokeCap="square", strokeJoin="miter").encode(
            x=x, y=y, order=alt.Order("order:Q")
        ),
        width=width,
        height=ROW * rows,
        up=data.up,
    )


def _heat(report: MapReport, method: int, cells: list[MapCellFit], largest: float, room: float | None) -> Heat:
    boundary = {b.length: b.rows for b in report.boundaries if b.method == method}
    sizes, lengths = report.batch_sizes, report.lengths
    return Heat(
        columns=tuple(map(count, lengths)),
        rows=tuple(map(count, sizes)),
        cells=tuple(
            Cell(
                column=lengths.index(c.length),
                row=sizes.index(c.rows),
                verdict=VERDICTS.get(c.fit, "does_not_fit"),
                label=_written(c.peak.value, largest),
                share=c.peak.value / room if room else 0.0,
            )
            for c in cells
        ),
        fits=tuple(sum(size <= (boundary.get(length) or 0) for size in sizes) for length in lengths),
        across=_("Max length (tokens) →"),
        up=_("↑ Batch size; in the cells the estimated peak, %(unit)s", unit=memory_unit(largest)[1]),
    )


def _written(peak: float, largest: float) -> str:
    size, unit = memory_unit(largest)
    return decimal(peak / size, 0 if unit == "MiB" or peak >= 100 * size else 2 if peak < size else 1)


def _note(report: MapReport, cells: Sequence[MapCellFit], room: float | None) -> str:
    parts = [
        _("Check mark: fits; triangle: tight, the band reaches the available memory; cross: does not fit."),
        _("The line separates what fits from the rest; darker cells are nearer to the limit."),
    ]
    if room is not None:
        parts.append(_("Available: %(room)s.", room=memory(max(0.0, room))))
    parts.append(_("Device overhead and band: %(basis)s.", basis=basis(cells[0].peak.runs)))
    if report.bf16 and not report.device.bf16:
        device = report.device.name
        parts.append(_("%(device)s has no native bfloat16 arithmetic, so training is slow.", device=device))
    return " ".join(parts)


def _columns(largest: float) -> tuple[Column, ...]:
    show = partial(memory_in, largest=largest)
    return (
        Column("length", _("tokens"), count),
        Column("rows", _("rows"), count),
        Column("peak_bytes", _("peak, %(unit)s", unit=memory_unit(largest)[1]), show),
        Column("low_bytes", _("from"), show),
        Column("high_bytes", _("to"), show),
        Column("fit", _("fit")),
    )


def _peak(cell: MapCellFit) -> tuple[float, float, float]:
    return (cell.peak.value, cell.peak.low, cell.peak.high)
