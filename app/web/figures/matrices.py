"""One number of every trained matrix by block and module: the larger, the darker, in the arm's colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import MatrixDelta, WeightDeltas
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import INK, LINE, WIDE_FROM, MarkStyle, frame, named_axis, values
from app.web.figures.figure import Cell as Value
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.view import ViewParams, one_of
from app.web.figures.weight_delta import SHOWN, ArmDelta, Deltas, drawable
from app.web.format import count
from app.web.i18n import gettext as _
from app.web.text.weight_delta import MEASURES

ROW = 26
LIGHTEST, DARKEST = 0.04, 0.42
NAMES, BLOCK_NAME = 150, 20
"""Pixels that the names of the modules take, and the number of a block."""
DIGIT = 7
"""Pixels that a character of a cell's number takes; numbers without room are left out."""


@dataclass(frozen=True)
class Cell:
    """One matrix, by its place from the left and from above."""

    column: int
    row: int
    label: str
    share: float
    """Of the largest, from 0 to 1."""


@dataclass(frozen=True)
class Matrices:
    """Cells over blocks and modules."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    """From above."""
    cells: tuple[Cell, ...]
    """Those that were analysed; the others stay empty."""
    colour: str
    across: str


def study_matrices(study: StudyComparison, deltas: Deltas, view: ViewParams) -> Figure:
    """One number of each matrix of one arm. Raises Invalid for an arm that has none."""
    shown = drawable(study, deltas)
    measure = view.matrices
    label = _("%(measure)s of ΔW by block and module", measure=_(MEASURES[measure].title))
    if not shown:
        empty = _("No matrix has been analysed yet.")
        return Figure("matrices", label, label, "", None, chart, Table((), ()), empty=empty)
    arm, delta = _chosen(shown, view.matrices_arm)
    note = _(
        "One column per block, one row per module; darker is larger. Empty: not trained by the arm, or not analysed. "
        "Seed %(seed)s.",
        seed=delta.seed,
    )
    label = _("%(name)s, %(arm)s", name=label, arm=arm.title)
    updates = [(one.title, its.updates) for one, its in shown]
    return _figure(MarkStyle.of(arm), delta.updates.matrices, measure, label, note, updates)


def run_matrices(style: MarkStyle, updates: WeightDeltas) -> Figure:
    """The effective rank of each matrix of one run."""
    measure = "effective-rank"
    label = _("%(measure)s of ΔW by block and module", measure=_(MEASURES[measure].title))
    note = _("One column per block, one row per module; darker is larger. Empty: not trained, or not analysed.")
    return _figure(style, updates.matrices, measure, label, note, [(style.name, updates)])


def chart(data: Matrices, width: int) -> alt.LayerChart:
    """Cells with their numbers, as far as these have room."""
    columns, rows = len(data.columns), len(data.rows)
    every = -(-BLOCK_NAME * columns // (width - NAMES))
    shown = range(0, columns, every)
    x_axis = named_axis([data.columns[i] for i in shown], [i + 0.5 for i in shown], title=data.across, labelPadding=7)
    limit = 170 if width > WIDE_FROM else 150
    y_axis = named_axis(data.rows, [i + 0.5 for i in range(rows)], title=None, labelLimit=limit)
    x_scale, y_scale = alt.Scale(domain=[0, columns], nice=False), alt.Scale(domain=[rows, 0], nice=False)

    def cells(places: Sequence[tuple[int, int, float]], fill: str) -> alt.Chart:
        boxes = [
            {"left": column, "right": column + 1, "top": row, "bottom": row + 1, "opacity": opacity}
            for column, row, opacity in places
        ]
        rects: alt.Chart = (
            values(boxes)
            .mark_rect(fill=fill, stroke=LINE, strokeWidth=1)
            .encode(
                x=alt.X("left:Q", scale=x_scale, axis=x_axis),
                x2=alt.X2("right:Q"),
                y=alt.Y("top:Q", scale=y_scale, axis=y_axis),
                y2=alt.Y2("bottom:Q"),
                fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None),
            )
        )
        return rects

    numbers = [{"x": c.column + 0.5, "y": c.row + 0.5, "text": c.label} for c in data.cells]
    room = f"width / {columns} >= {DIGIT} * length(datum.text) + 4 ? 1 : 0"
    text = values(numbers).mark_text(fontSize=11, color=INK, opacity=alt.ExprRef(room))
    return frame(
        cells([(column, row, 0.0) for column in range(columns) for row in range(rows)], "transparent"),
        cells([(c.column, c.row, LIGHTEST + (DARKEST - LIGHTEST) * c.share) for c in data.cells], data.colour),
        text.encode(x=alt.X("x:Q", scale=x_scale), y=alt.Y("y:Q", scale=y_scale), text=alt.Text("text:N")),
        width=width,
        height=ROW * rows,
    )


def _chosen(shown: Sequence[tuple[StudyArm, ArmDelta]], title: str) -> tuple[StudyArm, ArmDelta]:
    """The arm by its title; the first where none is asked for."""
    by_title = {arm.title: (arm, delta) for arm, delta in shown}
    return by_title[one_of("matrices_arm", title, by_title)] if title else shown[0]


def _figure(
    style: MarkStyle,
    matrices: Sequence[MatrixDelta],
    measure: str,
    label: str,
    note: str,
    updates: Sequence[tuple[str, WeightDeltas]],
) -> Figure:
    return Figure(
        name="matrices",
        title=_extremes(style.name, measure, matrices),
        label=label,
        note=note,
        data=_cells(matrices, measure, style.colour),
        draw=chart,
        table=_table(matrices, measure),
        everything=lambda: _every_number(updates),
    )


def _extremes(arm: str, word: str, matrices: Sequence[MatrixDelta]) -> str:
    measure = MEASURES[word]
    least, most = min(matrices, key=measure.of), max(matrices, key=measure.of)
    return _(
        "%(arm)s, %(measure)s: from %(least)s (%(where)s) to %(most)s (%(there)s)",
        arm=arm,
        measure=_(measure.title),
        least=measure.show(measure.of(least)),
        where=_place(least),
        most=measure.show(measure.of(most)),
        there=_place(most),
    )


def _place(matrix: MatrixDelta) -> str:
    if matrix.block is None:
        return matrix.module
    return _("block %(block)s, %(module)s", block=matrix.block, module=matrix.module)


def _cells(matrices: Sequence[MatrixDelta], word: str, colour: str) -> Matrices:
    measure = MEASURES[word]
    modules = list(dict.fromkeys(m.module for m in matrices))
    blocks = sorted({m.block for m in matrices if m.block is not None})
    columns: list[int | None] = [*(range(blocks[0], blocks[-1] + 1) if blocks else ())]
    if any(m.block is None for m in matrices):
        columns.append(None)
    largest = max(measure.of(m) for m in matrices)
    return Matrices(
        columns=tuple("–" if block is None else str(block) for block in columns),
        rows=tuple(_short(module, modules) for module in modules),
        cells=tuple(
            Cell(
                column=columns.index(m.block),
                row=modules.index(m.module),
                label=measure.show(measure.of(m)),
                share=measure.of(m) / largest if largest else 0.0,
            )
            for m in matrices
        ),
        colour=colour,
        across=_("Block →"),
    )


def _short(module: str, modules: Sequence[str]) -> str:
    """The shortest end of a module's name that no other has."""
    parts = module.split(".")
    ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
    return next((end for end in ends if sum(f".{m}".endswith(f".{end}") for m in modules) == 1), module)


def _table(matrices: Sequence[MatrixDelta], word: str) -> Table:
    measure = MEASURES[word]
    columns = (
        Column("module", _("module")),
        Column("block", _("block"), lambda b: "–" if b is None else count(b)),
        Column(word.replace("-", "_"), _(measure.title), measure.show),
    )
    return Table(columns, tuple((m.module, m.block, measure.of(m)) for m in matrices))


def _every_number(updates: Sequence[tuple[str, WeightDeltas]]) -> Table:
    """Every number of every matrix of every arm."""
    names = ("arm", "name", "block", "module", "rows", "columns", "norm_ratio", "intruders", "directions_analysed")
    spectrum = ("norm", "effective_rank", "stable_rank", "rank_50", "rank_90", "rank_99")
    energies = [f"energy_{k}" for k in SHOWN]
    rows: list[tuple[Value, ...]] = [
        (
            *(arm, m.name, m.block, m.module, m.rows, m.columns, m.norm_ratio, m.intruders, m.top),
            *(value for s in (m.delta, m.weight) for value in _numbers(s, spectrum)),
        )
        for arm, found in updates
        for m in found.matrices
    ]
    return Table.raw((*names, *(f"{of}_{name}" for of in ("delta", "weight") for name in (*spectrum, *energies))), rows)


def _numbers(spectrum: Spectrum, names: Sequence[str]) -> list[Value]:
    return [*(getattr(spectrum, name) for name in names), *(spectrum.energy_at(k) for k in SHOWN)]
