"""The verdict in a picture: each arm's difference from the reference with its interval, over the band of the margin."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite

from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    BAND,
    INK,
    NAME,
    WIDE_FROM,
    MarkStyle,
    at_x,
    frame,
    markers,
    named_axis,
    own_colour,
    values,
)
from app.web.figures.figure import Column, Figure, Table
from app.web.format import count, join_names, percent, points
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.metrics import title
from app.web.text.verdict import interval_level, seed_range, unusable_text, verdict_label


@dataclass(frozen=True)
class Row:
    """An arm. Points; None where there is no interval, infinite where it has no end."""

    style: MarkStyle
    word: str
    delta: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Differences:
    """The arms that are not the reference."""

    rows: tuple[Row, ...]
    margin: float
    reference: str


def verdict(study: StudyComparison) -> Figure:
    """Each arm's difference from the reference, its interval, and the margin."""
    reference, metric = study.reference.title, title(study.metric)
    data = Differences(tuple(_row(arm) for arm in study.others), study.spec.margin_points, reference)
    measured = any(row.delta is not None for row in data.rows)
    return Figure(
        name="verdict",
        title=_("Difference in %(metric)s from %(reference)s, points", metric=metric, reference=reference),
        label=_(
            "Difference in %(metric)s between each arm and %(reference)s, with intervals and the margin of ± "
            "%(margin)s points",
            metric=metric,
            reference=reference,
            margin=f"{study.spec.margin_points:g}",
        ),
        note=_note(study),
        data=data,
        draw=chart,
        widths=(440, 356),
        table=_table(study),
        empty="" if measured else _("No arm can be compared with %(reference)s yet.", reference=reference),
    )


def chart(data: Differences, width: int) -> alt.LayerChart:
    """Intervals (lines), means (markers), the margin (band), no difference (line at 0). Points.

    Names stand beside the intervals; in a narrow drawing above them, where the band is left out."""
    wide, step = width > WIDE_FROM, 44 if width > WIDE_FROM else 56
    height = step * max(len(data.rows), 1)
    middles = [step * i + (22 if wide else 44) for i in range(len(data.rows))]
    drawable = [end for row in data.rows for end in (row.delta, row.low, row.high) if end is not None and isfinite(end)]
    low, high = min(-data.margin, *drawable), max(data.margin, *drawable)
    air = 0.08 * (high - low)
    x_scale = alt.Scale(domain=[low - air, high + air], nice=False)
    y_scale = alt.Scale(domain=[height, 0], nice=False, zero=False)
    rows = [
        row.style.fields
        | {"y": y, "word": row.word, "delta": row.delta}
        | {"low": max(row.low or 0.0, low - air), "high": min(row.high or 0.0, high + air)}
        for row, y in zip(data.rows, middles, strict=True)
    ]
    known = [row for row in rows if row["delta"] is not None]
    lanes = [
        {
            "low": -data.margin,
            "high": data.margin,
            "zero": 0,
            "top": step * i + (0 if wide else 31),
            "end": step * (i + 1),
        }
        for i in range(len(data.rows))
    ]
    axis = alt.Axis(title=None, tickCount=4, labelExpr="datum.value > 0 ? '+' + datum.label : datum.label")
    across, y = alt.X("low:Q", scale=x_scale, axis=axis), alt.Y("y:Q", scale=y_scale, axis=None)
    top, end = alt.Y("top:Q", scale=y_scale, axis=None), alt.Y2("end:Q")
    band = values(lanes).mark_rect(color=BAND).encode(x=across, x2=alt.X2("high:Q"), y=top, y2=end)
    zero = values(lanes).mark_rule(color=INK, strokeWidth=1)
    interval = values(known).mark_rule(strokeWidth=2.5, strokeCap="round")
    beside = _beside(data, middles, y_scale) if wide else _above(rows, y)
    drawing = frame(
        band,
        zero.encode(x=alt.X("zero:Q", scale=x_scale), y=top, y2=end),
        interval.encode(x=alt.X("low:Q", scale=x_scale), x2=alt.X2("high:Q"), y=y, color=own_colour()),
        markers(known, 110, x=alt.X("delta:Q", scale=x_scale), y=y),
        *beside,
        width=width,
        height=height,
        up=_("Band: %(reference)s ± %(margin)s, the margin", reference=data.reference, margin=f"{data.margin:g}"),
    )
    both_sides: alt.LayerChart = drawing.resolve_axis(y="independent")
    return both_sides


def _beside(data: Differences, middles: list[int], scale: alt.Scale) -> list[alt.Chart]:
    """The names as an axis at the left, the verdicts in words as one at the right."""
    colours = [row.style.colour for row in data.rows]
    names = named_axis(
        [row.style.name for row in data.rows],
        middles,
        title=None,
        labelFontSize=NAME,
        labelFontWeight="bold",
        labelLimit=140,
        labelColor=alt.ExprRef(f"{json.dumps(colours)}[indexof({json.dumps(middles)}, datum.value)]"),
    )
    look = {"labelFontSize": NAME, "labelColor": INK, "labelLimit": 140, "labelPadding": 12}
    words = named_axis([row.word for row in data.rows], middles, title=None, orient="right", **look)
    nothing = values([{"y": middle} for middle in middles]).mark_point(opacity=0)
    return [nothing.encode(x=at_x(0), y=alt.Y("y:Q", scale=scale, axis=axis)) for axis in (names, words)]


def _above(rows: list[dict[str, object]], y: alt.Y) -> list[alt.Chart]:
    """The name and the verdict in words above each interval."""
    name = values(rows).mark_text(align="left", dy=-23, fontWeight="bold", fontSize=NAME, limit=210)
    word = values(rows).mark_text(align="right", dy=-23, fontSize=NAME, color=INK)
    right = alt.XValue(alt.ExprRef("width"))  # type: ignore[no-untyped-call]
    return [
        name.encode(x=at_x(0), y=y, text=alt.Text("arm:N"), color=own_colour()),
        word.encode(x=right, y=y, text=alt.Text("word:N")),
    ]


def _row(arm: StudyArm) -> Row:
    difference = arm.verdict.difference if arm.verdict else None
    style = MarkStyle.of(arm)
    if difference is None:
        return Row(style, _("no result") if arm.over else _("no result yet"))
    if not difference.usable:
        return Row(style, unusable_text(difference))
    return Row(style, verdict_label(arm.verdict), 100 * difference.delta, 100 * difference.low, 100 * difference.high)


def _note(study: StudyComparison) -> str:
    if not study.differences:
        return ""
    scored = [(arm, arm.score.seeds) for arm in study.arms if arm.score]
    text = _(
        "Lines: %(level)s over %(items)s, the same for every arm, and %(seeds)s.",
        level=interval_level(study),
        items=ngettext("%(num)s test item", "%(num)s test items", study.items or 0),
        seeds=seed_range(number for _arm, number in scored),
    )
    if single := [arm.title for arm, number in scored if number == 1]:
        text += " " + _("With one seed (%(arms)s) they cover the test items only.", arms=join_names(single))
    return text


def _table(study: StudyComparison) -> Table:
    columns = (
        Column("arm", _("arm")),
        Column("difference", _("difference, points"), points),
        Column("low", _("from"), points),
        Column("high", _("to"), points),
        Column("confidence", _("confidence"), percent),
        Column("seeds", _("seeds"), count),
        Column("verdict", _("verdict")),
    )
    rows = []
    for arm in study.others:
        d = arm.verdict.difference if arm.verdict else None
        ends = (d.low, d.high) if d and d.usable else (None, None)
        numbers = (d.delta, *ends, d.confidence, d.seeds) if d else (None,) * 5
        rows.append((arm.title, *numbers, verdict_label(arm.verdict)))
    return Table(columns, tuple(rows))
