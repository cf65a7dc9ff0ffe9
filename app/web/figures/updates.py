"""Weight updates drawn: energy kept over the rank, and one number of every matrix by block and module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.errors import Invalid
from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import KeptAt, MatrixDelta, WeightDeltas, WeightDeltaSummary, energy_curve
from app.web.figures.drawing import energy
from app.web.figures.drawing import matrices as matrix_chart
from app.web.figures.drawing.energy import Energy, Line
from app.web.figures.drawing.matrices import Cell, Matrices
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Cell as Value
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.verdict import mark_style
from app.web.figures.view import ViewParams
from app.web.format import count, join_names, percent
from app.web.i18n import gettext as _
from app.web.text.weight_delta import MEASURES, kept_words

WIDTHS = (556, 356)
SHOWN = (1, 2, 4, 8, 16, 32, 64)
"""Ranks in the table on the page."""


@dataclass(frozen=True)
class ArmWeightDeltas:
    """What is known of an arm's updates."""

    run_id: int
    """Whose spectra are shown."""
    seed: int
    found: WeightDeltas
    effective_ranks: tuple[float, ...]
    """Medians over matrices, of every seed that was looked at."""

    @property
    def summary(self) -> WeightDeltaSummary | None:
        """Of the run that is shown."""
        return self.found.summary


Updates = Mapping[str, ArmWeightDeltas]
"""By arm."""


def drawable(found: StudyComparison, updates: Updates) -> list[tuple[StudyArm, ArmWeightDeltas]]:
    """Arms with a matrix to show, in the order of the study."""
    return [(arm, seen) for arm in found.arms if (seen := updates.get(arm.title)) and seen.found.matrices]


def study_energy(found: StudyComparison, updates: Updates) -> Figure:
    """Energy kept over the rank, a line an arm, and the matrices themselves."""
    shown = drawable(found, updates)
    lines = [Line(mark_style(arm), _curve([m.delta for m in seen.found.matrices])) for arm, seen in shown]
    if shown:
        widest = max(shown, key=lambda pair: len(pair[1].found.matrices))[1].found.matrices
        lines.append(_itself(widest))
    return Figure(
        name="updates",
        title=kept_words([(arm.title, seen.summary) for arm, seen in shown]),
        label=_("Energy of ΔW that a rank keeps, a line an arm, and of the matrices themselves"),
        note=_energy_note(shown),
        data=_energy(lines),
        draw=energy.chart,
        widths=WIDTHS,
        table=_energy_table(lines),
        everything=lambda: _curves_table(lines),
        empty="" if lines else _("No matrix has been looked at yet."),
    )


def run_energy(style: MarkStyle, found: WeightDeltas) -> Figure:
    """The same of one run."""
    lines = [Line(style, _curve([m.delta for m in found.matrices])), _itself(found.matrices)]
    return Figure(
        name="updates",
        title=kept_words([("", found.summary)]),
        label=_("Energy that a rank keeps, of ΔW and of the matrices themselves"),
        note=_("Lines: median over matrices; a tenth of the matrices lie above the band, a tenth below."),
        data=_energy(lines),
        draw=energy.chart,
        widths=WIDTHS,
        table=_energy_table(lines),
        everything=lambda: _curves_table(lines),
    )


def _itself(matrices: Sequence[MatrixDelta]) -> Line:
    return Line(MarkStyle(_("W itself"), "base"), _curve([m.weight for m in matrices]))


def _curve(spectra: Sequence[Spectrum]) -> tuple[KeptAt, ...]:
    return tuple(energy_curve(spectra))


def _energy(lines: Sequence[Line]) -> Energy:
    most = max((p.rank for line in lines for p in line.points), default=2)
    return Energy(
        lines=tuple(Line(line.style, _to_the_end(line.points, most)) for line in lines),
        most=most,
        across=_("Rank k →"),
        up=_("↑ Energy kept, %"),
    )


def _to_the_end(points: tuple[KeptAt, ...], most: int) -> tuple[KeptAt, ...]:
    """A matrix of a lower rank is whole from there on."""
    last = points[-1]
    return points if last.rank >= most else (*points, last.model_copy(update={"rank": most}))


def _energy_note(shown: Sequence[tuple[StudyArm, ArmWeightDeltas]]) -> str:
    if not shown:
        return ""
    seeds = sorted({seen.seed for _arm, seen in shown})
    sizes = join_names([f"{arm.title} {count(len(seen.found.matrices))}" for arm, seen in shown])
    return _(
        "Lines: median over matrices (%(sizes)s), seed %(seeds)s; a tenth of the matrices lie above the band, a tenth "
        "below. W itself: the matrices before training.",
        sizes=sizes,
        seeds=join_names([str(seed) for seed in seeds]),
    )


def _energy_table(lines: Sequence[Line]) -> Table:
    columns = (Column("of", _("of")), *(Column(f"energy_{k}", _("rank %(k)s", k=k), percent) for k in SHOWN))
    return Table(columns, tuple((line.style.name, *(_at(line, k) for k in SHOWN)) for line in lines))


def _at(line: Line, rank: int) -> float:
    return line.at(rank) if rank < line.points[-1].rank else line.points[-1].median


def _curves_table(lines: Sequence[Line]) -> Table:
    names = ("of", "rank", "energy_median", "energy_low", "energy_high")
    rows = [(line.style.name, p.rank, p.median, p.low, p.high) for line in lines for p in line.points]
    return Table(tuple(Column(name, name) for name in names), tuple(rows))


def matrix_map(found: StudyComparison, updates: Updates, view: ViewParams) -> Figure:
    """One number of each matrix of one arm, by block and module. Raises Invalid for an arm that has none."""
    shown = drawable(found, updates)
    measure = MEASURES[view.matrices]
    name = _("%(measure)s of ΔW by block and module", measure=_(measure.title))
    if not shown:
        return Figure(
            name="matrices",
            title=name,
            label=name,
            note="",
            data=None,
            draw=matrix_chart.chart,
            widths=WIDTHS,
            table=Table((), ()),
            empty=_("No matrix has been looked at yet."),
        )
    arm, seen = _chosen(shown, view.matrices_arm)
    matrices = seen.found.matrices
    return Figure(
        name="matrices",
        title=_extremes(arm.title, view.matrices, matrices),
        label=_("%(name)s, %(arm)s", name=name, arm=arm.title),
        note=_(
            "A column a block, a row a module; the darker, the more. Empty: not trained by the arm, or not looked at. "
            "Seed %(seed)s.",
            seed=seen.seed,
        ),
        data=_map(matrices, view.matrices, mark_style(arm).colour),
        draw=matrix_chart.chart,
        widths=WIDTHS,
        table=_map_table(matrices, view.matrices),
        everything=lambda: _matrix_table([(a.title, s.found) for a, s in shown]),
    )


def run_map(label: str, style: MarkStyle, found: WeightDeltas) -> Figure:
    """The effective rank of each matrix of one run, by block and module."""
    word = "effective-rank"
    return Figure(
        name="matrices",
        title=_extremes(label, word, found.matrices),
        label=_("%(measure)s of ΔW by block and module", measure=_(MEASURES[word].title)),
        note=_("A column a block, a row a module; the darker, the more. Empty: not trained, or not looked at."),
        data=_map(found.matrices, word, style.colour),
        draw=matrix_chart.chart,
        widths=WIDTHS,
        table=_map_table(found.matrices, word),
        everything=lambda: _matrix_table([(label, found)]),
    )


def _chosen(shown: Sequence[tuple[StudyArm, ArmWeightDeltas]], title: str) -> tuple[StudyArm, ArmWeightDeltas]:
    """The arm by its title; the first where none was asked for."""
    by_title = {arm.title: (arm, seen) for arm, seen in shown}
    if title and title not in by_title:
        text = _("%(field)s: there is no %(word)s; choose from %(names)s")
        raise Invalid(text % {"field": "matrices_arm", "word": repr(title[:40]), "names": ", ".join(by_title)})
    return by_title[title] if title else shown[0]


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


def _map(matrices: Sequence[MatrixDelta], word: str, colour: str) -> Matrices:
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


def _map_table(matrices: Sequence[MatrixDelta], word: str) -> Table:
    measure = MEASURES[word]
    columns = (
        Column("module", _("module")),
        Column("block", _("block"), lambda b: "–" if b is None else count(b)),
        Column(word.replace("-", "_"), _(measure.title), measure.show),
    )
    return Table(columns, tuple((m.module, m.block, measure.of(m)) for m in matrices))


def _matrix_table(found: Sequence[tuple[str, WeightDeltas]]) -> Table:
    """Every number of every matrix."""
    names = ("arm", "name", "block", "module", "rows", "columns", "norm_ratio", "intruders", "directions_looked_at")
    spectrum = ("norm", "effective_rank", "stable_rank", "rank_50", "rank_90", "rank_99")
    columns = [*names, *(f"{of}_{name}" for of in ("delta", "weight") for name in (*spectrum, *_energies()))]
    rows: list[tuple[Value, ...]] = [
        (
            *(arm, m.name, m.block, m.module, m.rows, m.columns, m.norm_ratio, m.intruders, m.top),
            *(value for s in (m.delta, m.weight) for value in _numbers(s, spectrum)),
        )
        for arm, updates in found
        for m in updates.matrices
    ]
    return Table(tuple(Column(name, name) for name in columns), tuple(rows))


def _energies() -> list[str]:
    return [f"energy_{k}" for k in SHOWN]


def _numbers(spectrum: Spectrum, names: Sequence[str]) -> list[Value]:
    return [*(getattr(spectrum, name) for name in names), *(spectrum.energy_at(k) for k in SHOWN)]
