"""Memory maps: a heat table for each method, length by batch size, on one device. Cells are darker the nearer they come
to the device's memory, each with a mark for whether it fits; a line separates what fits from the rest."""

from collections.abc import Sequence
from functools import partial

from app.domain.resources.ledger import OWNERS
from app.domain.resources.memory_map import MapCellFit, MapReport
from app.web.figures.drawing import heat
from app.web.figures.drawing.heat import Cell, Heat, Mark
from app.web.figures.drawing.theme import INK
from app.web.figures.figure import Column, Figure, Table
from app.words.format import count, decimal, memory, memory_in, memory_unit
from app.words.i18n import gettext as _
from app.words.models.memory_fit import FITS, basis
from app.words.models.memory_maps import precision_words, title

ROW = 40
DARKEST = 0.2
MARKS = {
    "fits": Mark("M-0.8,0.1L-0.2,0.7L0.9,-0.7", "var(--ok)"),
    "tight": Mark("M0,-0.8L0.9,0.8H-0.9Z", "var(--warn)"),
}
"""Stroke and colour: those of the icons beside the words elsewhere."""
DOES_NOT_FIT = Mark("M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7", "var(--bad)")
"""An unknown fit counts as not fitting."""


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
        draw=heat.chart,
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


def _heat(report: MapReport, method: int, cells: list[MapCellFit], largest: float, room: float | None) -> Heat:
    boundary = {b.length: b.rows or 0 for b in report.boundaries if b.method == method}
    sizes, lengths = report.batch_sizes[::-1], report.lengths
    return Heat(
        columns=tuple(map(count, lengths)),
        rows=tuple(map(count, sizes)),
        cells=tuple(
            Cell(
                column=lengths.index(c.length),
                row=sizes.index(c.rows),
                text=_written(c.peak.value, largest),
                opacity=DARKEST * min(1.0, c.peak.value / room) if room and c.fit in MARKS else 0.0,
                mark=MARKS.get(c.fit, DOES_NOT_FIT),
                muted=c.fit not in MARKS,
            )
            for c in cells
        ),
        colour=INK,
        across=_("Max length (tokens) →"),
        row_height=ROW,
        up=_("↑ Batch size; in the cells the estimated peak, %(unit)s", unit=memory_unit(largest)[1]),
        boundary=tuple(sum(size > boundary.get(length, 0) for size in sizes) for length in lengths),
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
