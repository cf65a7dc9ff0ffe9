"""One number of every trained matrix by block and module: the larger, the darker, in the arm's colour."""

from collections.abc import Sequence

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import MatrixDelta, WeightDeltas
from app.web.figures.drawing import heat
from app.web.figures.drawing.heat import Cell, Heat
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Cell as Value
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.runs.weight_delta import SHOWN, ArmDelta, Deltas, drawable
from app.web.figures.studies.view import ViewParams, one_of
from app.words.format import count
from app.words.i18n import gettext as _
from app.words.runs.weight_delta import MEASURES

ROW = 26
LIGHTEST, DARKEST = 0.04, 0.42


def study_matrices(study: StudyComparison, deltas: Deltas, view: ViewParams) -> Figure:
    """One number of each matrix of one arm. Raises Invalid for an arm that has none."""
    shown = drawable(study, deltas)
    measure = view.matrices
    label = _("%(measure)s of ΔW by block and module", measure=_(MEASURES[measure].title))
    if not shown:
        empty = _("No matrix has been analysed yet.")
        return Figure("matrices", label, label, "", None, heat.chart, Table((), ()), empty=empty)
    arm, delta = _chosen(shown, view.matrices_arm)
    note = _(
        "One column per block, one row per module; darker is larger. Empty: not trained by the arm, or not analysed. "
        "Seed %(seed)s.",
        seed=delta.seed,
    )
    label = _("%(name)s, %(arm)s", name=label, arm=arm.title)
    updates = [(other.title, other_delta.updates) for other, other_delta in shown]
    return _figure(MarkStyle.of(arm), delta.updates.matrices, measure, label, note, updates)


def run_matrices(style: MarkStyle, updates: WeightDeltas) -> Figure:
    """The effective rank of each matrix of one run."""
    measure = "effective-rank"
    label = _("%(measure)s of ΔW by block and module", measure=_(MEASURES[measure].title))
    note = _("One column per block, one row per module; darker is larger. Empty: not trained, or not analysed.")
    return _figure(style, updates.matrices, measure, label, note, [(style.name, updates)])


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
        draw=heat.chart,
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


def _cells(matrices: Sequence[MatrixDelta], word: str, colour: str) -> Heat:
    measure = MEASURES[word]
    modules = list(dict.fromkeys(m.module for m in matrices))
    blocks = sorted({m.block for m in matrices if m.block is not None})
    columns: list[int | None] = [*(range(blocks[0], blocks[-1] + 1) if blocks else ())]
    if any(m.block is None for m in matrices):
        columns.append(None)
    largest = max(measure.of(m) for m in matrices)
    return Heat(
        columns=tuple("–" if block is None else str(block) for block in columns),
        rows=tuple(_short(module, modules) for module in modules),
        cells=tuple(
            Cell(
                column=columns.index(m.block),
                row=modules.index(m.module),
                text=measure.show(measure.of(m)),
                opacity=LIGHTEST + (DARKEST - LIGHTEST) * (measure.of(m) / largest if largest else 0.0),
            )
            for m in matrices
        ),
        colour=colour,
        across=_("Block →"),
        row_height=ROW,
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
        for arm, deltas in updates
        for m in deltas.matrices
    ]
    return Table.raw((*names, *(f"{of}_{name}" for of in ("delta", "weight") for name in (*spectrum, *energies))), rows)


def _numbers(spectrum: Spectrum, names: Sequence[str]) -> list[Value]:
    return [*(getattr(spectrum, name) for name in names), *(spectrum.energy_at(k) for k in SHOWN)]
