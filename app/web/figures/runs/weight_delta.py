"""The energy of weight updates that a rank keeps: a line an arm, and one for the matrices themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import KeptAt, MatrixDelta, WeightDeltas, WeightDeltaSummary, energy_curve
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import WIDE_FROM, ArmEncodings, MarkStyle, frame, marked_axis, values
from app.web.figures.figure import Column, Figure, Table
from app.words.format import count, join_names, percent
from app.words.i18n import gettext as _
from app.words.runs.weight_delta import kept_words

SHOWN = (1, 2, 4, 8, 16, 32, 64)
"""Ranks in the table on the page."""
LEGEND_AT = 8
"""The rank by whose energies the legend is ordered: all lines end at 100 %."""


@dataclass(frozen=True)
class ArmDelta:
    """What is known of an arm's weight updates."""

    run_id: int
    """Run whose spectra are shown."""
    seed: int
    updates: WeightDeltas
    effective_ranks: tuple[float, ...]
    """Medians over matrices, of every analysed seed."""

    @cached_property
    def summary(self) -> WeightDeltaSummary | None:
        """Summary of the run that is shown."""
        return self.updates.summary


Deltas = Mapping[str, ArmDelta]
"""By arm."""


@dataclass(frozen=True)
class Line:
    style: MarkStyle
    points: tuple[KeptAt, ...]

    @classmethod
    def of(cls, style: MarkStyle, spectra: Sequence[Spectrum]) -> Line:
        """Over the matrices of an update, or the matrices themselves."""
        return cls(style, tuple(energy_curve(spectra)))

    def at(self, rank: int) -> float:
        """Energy kept at the last rank that is not above this one: beyond its own rank a matrix is whole."""
        return max((p.median for p in self.points if p.rank <= rank), default=0.0)


def drawable(study: StudyComparison, deltas: Deltas) -> list[tuple[StudyArm, ArmDelta]]:
    """Arms with a matrix to show, in the order of the study."""
    return [(arm, delta) for arm in study.arms if (delta := deltas.get(arm.title)) and delta.updates.matrices]


def study_energy(study: StudyComparison, deltas: Deltas) -> Figure:
    """Energy kept over the rank, a line an arm, and the matrices themselves."""
    shown = drawable(study, deltas)
    lines = [Line.of(MarkStyle.of(arm), [m.delta for m in delta.updates.matrices]) for arm, delta in shown]
    if shown:
        widest = max((delta.updates.matrices for _arm, delta in shown), key=len)
        lines.append(_weights(widest))
    return _figure(
        lines,
        title=kept_words([(arm.title, delta.summary) for arm, delta in shown]),
        label=_("Energy of ΔW kept by rank, one line per arm, and of the weights themselves"),
        note=_note(shown) if shown else "",
    )


def run_energy(style: MarkStyle, updates: WeightDeltas) -> Figure:
    """The same of one run."""
    return _figure(
        [Line.of(style, [m.delta for m in updates.matrices]), _weights(updates.matrices)],
        title=kept_words([("", updates.summary)]),
        label=_("Energy kept by rank, of ΔW and of the weights themselves"),
        note=_("Lines: median over matrices. Bands: 10th to 90th percentile. W: the weights before training."),
    )


def chart(lines: tuple[Line, ...], width: int) -> alt.LayerChart:
    """Bands, lines, and markers at the powers of two, where a rank is usually chosen."""
    most = max(2, *(p.rank for line in lines for p in line.points))
    ordered = sorted(lines, key=lambda line: -line.at(LEGEND_AT))
    arms = ArmEncodings([line.style for line in ordered], width)
    powers = [2**k for k in range(0, most.bit_length(), 1 if width > WIDE_FROM else 2)]
    scale = alt.Scale(type="log", base=2, domain=[1, most], nice=False)
    x = alt.X("rank:Q", scale=scale, axis=marked_axis(powers, format="d", title=_("Rank k →")))
    percents = alt.Scale(domain=[0, 100], nice=False)
    y = alt.Y("median:Q", scale=percents, axis=marked_axis([0, 25, 50, 75, 100], title=None))
    rows = {line.style.name: _rows(line, most) for line in lines}
    low, high = alt.Y("low:Q", scale=percents), alt.Y2("high:Q")
    every = [row for of_line in rows.values() for row in of_line]
    marked = [row for row in every if _is_power(row["rank"])]
    return frame(
        *(
            values(rows[line.style.name]).mark_area(opacity=0.14, color=line.style.colour).encode(x=x, y=low, y2=high)
            for line in lines
        ),
        values(every).mark_line(strokeWidth=2.2).encode(x=x, y=y, **arms.lines),
        values(marked).mark_point(size=46, opacity=1, strokeWidth=2).encode(x=x, y=y, **arms.markers),
        width=width,
        height=240 if width > WIDE_FROM else 210,
        up=_("↑ Energy kept, %"),
    )


def _rows(line: Line, most: int) -> list[dict[str, object]]:
    """In percent, and on to the largest rank: a matrix of a lower rank is whole from there on."""
    points = line.points if line.points[-1].rank >= most else (*line.points, _moved(line.points[-1], most))
    return [
        {"arm": line.style.name, "rank": p.rank, "median": 100 * p.median, "low": 100 * p.low, "high": 100 * p.high}
        for p in points
    ]


def _moved(point: KeptAt, rank: int) -> KeptAt:
    return point.model_copy(update={"rank": rank})


def _is_power(rank: object) -> bool:
    return isinstance(rank, int) and rank & (rank - 1) == 0


def _weights(matrices: Sequence[MatrixDelta]) -> Line:
    return Line.of(MarkStyle(_("W"), "base"), [m.weight for m in matrices])


def _figure(lines: Sequence[Line], *, title: str, label: str, note: str) -> Figure:
    return Figure(
        name="weight-delta",
        title=title,
        label=label,
        note=note,
        data=tuple(lines),
        draw=chart,
        table=Table(
            (Column("of", _("matrices")), *(Column(f"energy_{k}", _("rank %(k)s", k=k), percent) for k in SHOWN)),
            tuple((line.style.name, *(line.at(k) for k in SHOWN)) for line in lines),
        ),
        everything=lambda: Table.raw(
            ("of", "rank", "energy_median", "energy_low", "energy_high"),
            tuple((line.style.name, p.rank, p.median, p.low, p.high) for line in lines for p in line.points),
        ),
        empty="" if lines else _("No matrix has been analysed yet."),
    )


def _note(shown: Sequence[tuple[StudyArm, ArmDelta]]) -> str:
    seeds = sorted({delta.seed for _arm, delta in shown})
    sizes = join_names([f"{arm.title} {count(len(delta.updates.matrices))}" for arm, delta in shown])
    return _(
        "Lines: median over matrices (%(sizes)s), seed %(seeds)s. Bands: 10th to 90th percentile. W: the weights "
        "before training.",
        sizes=sizes,
        seeds=join_names([str(seed) for seed in seeds]),
    )
