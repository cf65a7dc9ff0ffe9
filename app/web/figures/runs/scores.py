"""Each arm's score with its own interval, and the baselines as lines: does fine-tuning help at all?"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

from app.domain.comparison.learning.learning import Helps
from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.arm_names import names_above, names_beside
from app.web.figures.drawing.reference_rows import lines_note, references
from app.web.figures.drawing.references import Reference, down, head_height
from app.web.figures.drawing.theme import WIDE_FROM, MarkStyle, frame, markers, number_axis, own_colour, values
from app.web.figures.figure import Column, Figure, Table
from app.words.format import capitalized, count, percent
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.metrics import title
from app.words.verdict.verdict import seed_range

STEP = 34


@dataclass(frozen=True)
class Score:
    """An arm's score, in percent."""

    style: MarkStyle
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Arms with a score, and the baselines."""

    arms: tuple[Score, ...]
    lines: tuple[Reference, ...]
    unit: str
    """Title of the axis."""


def scores(study: StudyComparison) -> Figure:
    metric, lines = title(study.metric), references(study)
    arms = tuple(_arm(arm) for arm in study.arms if arm.score)
    return Figure(
        name="scores",
        title=_title(study),
        label=_("%(metric)s of each arm with its interval, and of the baselines", metric=capitalized(metric)),
        note=_note(study, lines) if arms else "",
        data=Scores(arms, lines, _("%(metric)s, %%", metric=capitalized(metric))),
        draw=chart,
        widths=(440, 356),
        table=_table(study),
        empty="" if arms else _("No run has a result yet."),
    )


def _arm(arm: StudyArm) -> Score:
    assert arm.score  # noqa: S101 the caller checks
    ends = (100 * arm.score.low, 100 * arm.score.high) if arm.score.usable else (-inf, inf)
    return Score(MarkStyle.of(arm), 100 * arm.score.mean, *ends)


def _title(study: StudyComparison) -> str:
    known = [baseline.score.mean for baseline in study.baselines if baseline.score]
    scored = [arm.score.mean for arm in study.arms if arm.score]
    if known and scored:
        above = sum(score > max(known) for score in scored)
        if not above:
            return ngettext("The arm is not above the best baseline", "No arm is above the best baseline", len(scored))
        if study.learning.helps is Helps.YES and above == len(scored):
            return ngettext("The arm is above every baseline", "Every arm is above every baseline", len(scored))
    return capitalized(_("%(metric)s of each arm", metric=title(study.metric)))


def _note(study: StudyComparison, lines: tuple[Reference, ...]) -> str:
    text = _(
        "%(items)s, %(seeds)s; lines are 95 %% intervals of each arm alone.",
        items=ngettext("%(num)s test item", "%(num)s test items", study.items or 0),
        seeds=seed_range(arm.score.seeds for arm in study.arms if arm.score),
    )
    return f"{text} {lines_note(lines)}".strip()


def chart(data: Scores, width: int) -> alt.LayerChart:
    """A row per arm; the lines' names stand above them, one line of text each where they would meet."""
    wide = width > WIDE_FROM
    ends = [end for arm in data.arms for end in (arm.mean, arm.low, arm.high) if isfinite(end)]
    known = [*ends, *(line.value for line in data.lines)] or [0.0, 100.0]
    low, high = min(known), max(known)
    air = 0.08 * (high - low) or 1.0
    domain = [low - air, high + air]
    head = head_height(data.lines)
    height = head + STEP * len(data.arms)
    x_scale = alt.Scale(domain=domain, nice=False, clamp=True)
    y_scale = alt.Scale(domain=[height, 0], nice=False, zero=False)
    middles = [head + STEP * (place + (0.5 if wide else 0.66)) for place in range(len(data.arms))]
    rows = [
        arm.style.fields | {"y": y, "mean": arm.mean, "low": max(arm.low, domain[0]), "high": min(arm.high, domain[1])}
        for arm, y in zip(data.arms, middles, strict=True)
    ]
    axis = number_axis(data.unit)
    across, y = alt.X("low:Q", scale=x_scale, axis=axis), alt.Y("y:Q", scale=y_scale, axis=None)
    interval = values(rows).mark_rule(strokeWidth=2.5, strokeCap="round")
    drawing = frame(
        *down(data.lines, x_scale, domain, height),
        interval.encode(x=across, x2=alt.X2("high:Q"), y=y, color=own_colour()),
        markers(rows, 110, x=alt.X("mean:Q", scale=x_scale), y=y),
        *(names_beside([arm.style for arm in data.arms], middles, y_scale) if wide else names_above(rows, y, -14)),
        width=width,
        height=height,
    )
    both: alt.LayerChart = drawing.resolve_axis(y="independent")
    return both


def _table(study: StudyComparison) -> Table:
    columns = (
        Column("arm", _("arm or baseline")),
        Column("score", title(study.metric), percent),
        Column("low", _("from"), percent),
        Column("high", _("to"), percent),
        Column("seeds", _("seeds"), count),
    )
    rows = []
    for arm in study.arms:
        if score := arm.score:
            ends = (score.low, score.high) if score.usable else (None, None)
            rows.append((arm.title, score.mean, *ends, score.seeds))
    for baseline in study.baselines:
        if score := baseline.score:
            rows.append((_(baseline.title), score.mean, score.low, score.high, None))
    return Table(columns, tuple(rows))
