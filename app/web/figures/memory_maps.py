"""Maps of memory: a heat table for each method, length by batch, on one device."""

from collections.abc import Sequence

from app.domain.resources.calibration import usable
from app.domain.resources.ledger import OWNERS
from app.domain.resources.memory_map import MapCellFit, MapReport
from app.web.figures.drawing import heat
from app.web.figures.drawing.heat import Cell, Heat, Verdict
from app.web.figures.figure import Column, Figure, Table
from app.web.format import GIB, count, decimal, memory, mib
from app.web.i18n import gettext as _
from app.web.text.memory_fit import FITS, basis
from app.web.text.memory_maps import number_format, title

WIDTHS = (556, 356)
VERDICTS: dict[str, Verdict] = {"fits": "fits", "tight": "tight"}
"""What is not known does not fit for certain."""


def map_figures(report: MapReport) -> dict[str, Figure]:
    """A figure a method, by its kind; none until the map has been worked out."""
    if not report.cells:
        return {}
    figures = (_figure(report, place) for place in range(len(report.methods)))
    return {figure.name: figure for figure in figures}


def _figure(report: MapReport, method: int) -> Figure:
    spec = report.methods[method]
    cells = [c for c in report.cells if c.method == method]
    unit = "GiB" if max(c.peak.value for c in report.cells) >= 10 * GIB else "MiB"
    room = _room(report)
    precision = "bf16" if report.bf16 else "fp32"
    return Figure(
        name=spec.kind,
        title=title(report, method),
        label=_(
            "Predicted peak of %(method)s in %(format)s by length and batch",
            method=spec.label,
            format=number_format(report),
        ),
        note=_note(report, cells, room),
        data=_heat(report, method, cells, unit, room),
        draw=heat.chart,
        widths=WIDTHS,
        table=Table(_columns(), tuple((c.length, c.rows, *_peak(c), _(FITS[c.fit])) for c in cells)),
        everything=lambda: Table(
            (
                Column("method", ""),
                Column("precision", ""),
                *_columns(),
                *(Column(f"{owner}_bytes", "") for owner in OWNERS),
            ),
            tuple(
                (spec.kind, precision, c.length, c.rows, *_peak(c), c.fit, *(c.ledger.owners.get(o, 0) for o in OWNERS))
                for c in cells
            ),
        ),
    )


def _heat(report: MapReport, method: int, cells: list[MapCellFit], unit: str, room: float | None) -> Heat:
    largest = {b.length: b.rows for b in report.boundaries if b.method == method}
    sizes, lengths = report.batch_sizes, report.lengths
    return Heat(
        columns=tuple(map(count, lengths)),
        rows=tuple(map(count, sizes)),
        cells=tuple(
            Cell(
                column=lengths.index(c.length),
                row=sizes.index(c.rows),
                verdict=VERDICTS.get(c.fit, "does_not_fit"),
                label=_written(c.peak.value, unit),
                share=c.peak.value / room if room else 0.0,
            )
            for c in cells
        ),
        fits=tuple(sum(size <= (largest.get(length) or 0) for size in sizes) for length in lengths),
        across=_("Tokens of the longest row →"),
        up=_("↑ Rows at once, predicted peak in %(unit)s", unit=unit),
    )


def _written(size: float, unit: str) -> str:
    if unit == "MiB":
        return mib(size)
    return decimal(size / GIB, 2 if size < GIB else 1 if size < 100 * GIB else 0)


def _room(report: MapReport) -> float | None:
    machine = report.machine
    return usable(machine.memory_bytes, machine.kind) if machine.memory_bytes else None


def _note(report: MapReport, cells: Sequence[MapCellFit], room: float | None) -> str:
    parts = [
        _("Check mark: fits; triangle: tight, its band reaches the room that there is; cross: does not fit."),
        _("The line parts what fits from the rest; the darker a cell, the nearer to it."),
    ]
    if room is not None:
        parts.append(_("Room: %(room)s.", room=memory(max(0.0, room))))
    parts.append(_("What the device adds, and the band: %(basis)s.", basis=basis(cells[0].peak.runs)))
    if report.bf16 and not report.machine.bf16:
        machine = report.machine.name
        parts.append(
            _(
                "%(machine)s has no bfloat16 arithmetic of its own: training converts there, and is slow.",
                machine=machine,
            )
        )
    return " ".join(parts)


def _columns() -> tuple[Column, ...]:
    return (
        Column("length", _("tokens"), count),
        Column("rows", _("rows"), count),
        Column("peak_bytes", _("peak, MiB"), mib),
        Column("low_bytes", _("from"), mib),
        Column("high_bytes", _("to"), mib),
        Column("fit", _("fits?")),
    )


def _peak(cell: MapCellFit) -> tuple[float, float, float]:
    return (cell.peak.value, cell.peak.low, cell.peak.high)
