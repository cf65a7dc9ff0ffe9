"""What keeping many adapted models costs: bytes, or money where prices are given. A line an arm over the number of
tasks, and a mark where keeping adapters becomes cheaper than keeping whole models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import floor, log10

from app.domain.comparison.costs.break_even import Line, Prices, Upkeep, cheaper_from, cost, stored
from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.axes import AXES
from app.web.figures.drawing.theme import (
    MUTED,
    STRONG,
    WIDE_FROM,
    ArmEncodings,
    MarkStyle,
    at_y,
    frame,
    markers,
    number_axis,
    side,
    values,
)
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.studies.view import PriceParams
from app.words.format import (
    GIB,
    KIB,
    MIB,
    NBSP,
    NOTHING,
    capitalized,
    count,
    decimal,
    duration,
    energy,
    file_size,
    general,
)
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.verdict.verdict import arm_name


@dataclass(frozen=True)
class Kept:
    """An arm and what a task costs with it."""

    arm: StudyArm
    upkeep: Upkeep
    whole_model: bool
    """Each task keeps a whole model."""
    joules: float | None
    """Per task, where the device measures them."""


@dataclass(frozen=True)
class Keeping:
    """The arms of a study that saved a file, compared with the one that keeps whole models."""

    study: StudyComparison
    form: PriceParams
    arms: tuple[Kept, ...]

    @classmethod
    def of(cls, study: StudyComparison, form: PriceParams) -> Keeping:
        """The base model is counted as large as a whole model of the study: they are files of the same kind."""
        done = [arm for arm in study.arms if arm.costs and arm.costs.artifact_bytes]
        base = next((arm.costs.artifact_bytes for arm in done if arm.costs and _keeps_whole_model(arm)), 0)
        return cls(study, form, tuple(_kept(arm, base) for arm in done))

    @property
    def models(self) -> Kept | None:
        """What adapters are compared with: the reference if it keeps whole models, else the first arm that does."""
        models = [kept for kept in self.arms if kept.whole_model]
        return next((kept for kept in models if kept.arm.is_reference), models[0] if models else None)

    @property
    def adapters(self) -> list[Kept]:
        """The arms that keep less than a whole model."""
        return [kept for kept in self.arms if not kept.whole_model]

    @property
    def prices(self) -> Prices:
        """Those that were given; none of hours and energy where times are not comparable, nor of energy where some arm
        has no measurement."""
        prices = self.form.prices
        if not self.study.times_comparable:
            return replace(prices, hour=0.0, kwh=0.0)
        return prices if all(kept.joules is not None for kept in self.arms) else replace(prices, kwh=0.0)

    @property
    def priced(self) -> bool:
        """The figure shows money: something has a price."""
        return self.prices.hour > 0 or self.prices.kwh > 0 or self.prices.gib_month > 0

    def line(self, kept: Kept) -> Line:
        """Money or bytes of N tasks."""
        return cost(kept.upkeep, self.prices) if self.priced else stored(kept.upkeep)

    def cheaper_from(self, kept: Kept) -> int | None:
        """From how many tasks on an arm is cheaper than whole models."""
        return cheaper_from(self.line(kept), self.line(self.models)) if self.models and not kept.whole_model else None

    def say(self, value: float) -> str:
        """A sum of money with its currency, or bytes."""
        return money(value, self.form.money) if self.priced else file_size(value)

    @property
    def focus(self) -> Kept | None:
        """The adapters that a sentence is about: those of the headline, else the cheapest."""
        arm = self.study.focus
        named = next((kept for kept in self.adapters if kept.arm is arm), None)
        return named or min(self.adapters, key=lambda kept: self.line(kept).at(self.form.many), default=None)


def money(value: float, currency: str) -> str:
    """`3.20 EUR`, `0.0012 EUR`: to the cent, or to the second digit where it is less."""
    number = decimal(value, 2 if value >= 0.1 or not value else 1 - floor(log10(value)))
    return f"{number}{NBSP}{currency}" if currency else number


def _keeps_whole_model(arm: StudyArm) -> bool:
    results = [run.result for run in arm.succeeded if run.result]
    return any(file.kind == "model" for result in results for file in result.artifacts)


def _kept(arm: StudyArm, base: float) -> Kept:
    assert arm.costs is not None  # noqa: S101  (the caller checks)
    joules, whole_model = AXES["energy"].spread(arm), _keeps_whole_model(arm)
    upkeep = Upkeep(
        seconds=arm.costs.method_wall_seconds,
        task_bytes=arm.costs.artifact_bytes,
        base_bytes=0.0 if whole_model else base,
        joules=joules.mean if joules else 0.0,
    )
    return Kept(arm, upkeep, whole_model, joules.mean if joules else None)


SHOWN = 2
"""The picture goes on to at least so many times the number of tasks at which lines cross."""


@dataclass(frozen=True)
class Growth:
    """An arm: what it costs at one task and at the last."""

    style: MarkStyle
    first: float
    last: float
    cheaper_from: int | None = None
    """Tasks from which on it costs less than whole models; None where it never does, and for whole models."""

    def at(self, tasks: float, most: int) -> float:
        return self.first + (self.last - self.first) * (tasks - 1) / max(most - 1, 1)


@dataclass(frozen=True)
class BreakEven:
    """Arms over the number of tasks, from 1."""

    arms: tuple[Growth, ...]
    tasks: int
    across: str
    up: str
    crossing: str


def break_even(study: StudyComparison, prices: PriceParams) -> Figure:
    keeping = Keeping.of(study, prices)
    return Figure(
        name="break-even",
        title=takeaway(keeping),
        label=_("Total cost by number of tasks, one line per arm"),
        note=_note(keeping) if keeping.arms else "",
        data=_data(keeping),
        draw=chart,
        table=_table(keeping),
        empty=why_not(keeping),
    )


def chart(data: BreakEven, width: int) -> alt.LayerChart:
    """Lines, and the crossings: the first is named."""
    most = max(data.tasks, 2)
    arms = ArmEncodings([arm.style for arm in sorted(data.arms, key=lambda arm: -arm.last)], width)
    ends = [{"arm": arm.style.name, "x": x, "y": y} for arm in data.arms for x, y in ((1, arm.first), (most, arm.last))]
    x = alt.X("x:Q", scale=alt.Scale(domain=[1, most], nice=False), axis=number_axis(data.across, tickMinStep=1))
    y = alt.Y("y:Q", axis=number_axis())
    crossing = [(arm, arm.cheaper_from) for arm in data.arms if arm.cheaper_from and arm.cheaper_from <= most]
    layers = []
    if crossing:
        first = min(tasks for _arm, tasks in crossing)
        mark = values([{"x": first, "text": data.crossing}])
        label = mark.mark_text(baseline="top", color=MUTED, **side((first - 1) / (most - 1)))
        rows = [arm.style.fields | {"x": tasks, "y": arm.at(tasks, most)} for arm, tasks in crossing]
        layers = [
            mark.mark_rule(color=STRONG, strokeDash=[3, 3]).encode(x=alt.X("x:Q")),
            label.encode(x=alt.X("x:Q"), y=at_y(2), text=alt.Text("text:N")),
            markers(rows, 70, x=alt.X("x:Q"), y=alt.Y("y:Q")),
        ]
    return frame(
        values(ends).mark_line(strokeWidth=2.2).encode(x=x, y=y, **arms.lines),
        arms.key,
        *layers,
        width=width,
        height=230 if width > WIDE_FROM else 210,
        up=data.up,
    )


def why_not(keeping: Keeping) -> str:
    if not keeping.arms:
        return _("No arm has saved a file yet.")
    if keeping.models is None:
        return _("No arm of this study keeps a whole model, so there is nothing to compare adapters with.")
    return "" if keeping.adapters else _("Every arm of this study keeps a whole model for each task.")


def takeaway(keeping: Keeping) -> str:
    """From how many tasks on adapters are cheaper."""
    kept, models = keeping.focus, keeping.models
    if kept is None or models is None:
        return _("Cost of keeping many tasks")
    start, tasks = keeping.cheaper_from(kept), keeping.form.many
    cost, reference_cost = keeping.line(kept).at(tasks), keeping.line(models).at(tasks)
    values = {
        "arm": arm_name(kept.arm),
        "reference": arm_name(models.arm),
        "tasks": ngettext("%(num)s task", "%(num)s tasks", tasks, num=count(tasks)),
        "cost": keeping.say(cost),
        "reference_cost": keeping.say(reference_cost),
    }
    if start is None:
        text = _(
            "%(arm)s never costs less than %(reference)s: %(cost)s compared with %(reference_cost)s for %(tasks)s",
            **values,
        )
    else:
        cheaper = _("cheaper") if keeping.priced else _("smaller on disk")
        since = _("the first task") if start == 1 else _since(start)
        text = _(
            "%(arm)s is %(cheaper)s from %(since)s on: %(cost)s for %(tasks)s, compared with %(reference_cost)s for "
            "%(reference)s"
        )
        text = text % (values | {"cheaper": cheaper, "since": since})
    return capitalized(text)


def _data(keeping: Keeping) -> BreakEven:
    starts = {kept.arm.title: keeping.cheaper_from(kept) for kept in keeping.arms}
    near = [start for start in starts.values() if start and start <= keeping.form.many]
    most = max(keeping.form.many, SHOWN * max(near, default=1))
    lines = {kept.arm.title: keeping.line(kept) for kept in keeping.arms}
    top = max((line.at(most) for line in lines.values()), default=1.0)
    size, unit = _unit(keeping, top)
    first = min(near, default=1)
    return BreakEven(
        arms=tuple(
            Growth(
                MarkStyle.of(kept.arm),
                lines[kept.arm.title].at(1) / size,
                lines[kept.arm.title].at(most) / size,
                starts[kept.arm.title],
            )
            for kept in keeping.arms
        ),
        tasks=most,
        across=_("Tasks, each with an adapted model →"),
        up=_("Cost, %(unit)s", unit=unit) if keeping.priced and unit else unit if not keeping.priced else _("Cost"),
        crossing=_("from the first task on") if first == 1 else _("from %(num)s tasks on", num=count(first)),
    )


def _unit(keeping: Keeping, top: float) -> tuple[float, str]:
    if keeping.priced:
        return 1.0, keeping.form.money
    units = (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB))
    unit, size = next(((u, s) for u, s in units if top >= 2 * s), ("KiB", KIB))
    return size, _("On disk, %(unit)s", unit=unit)


def _note(keeping: Keeping) -> str:
    parts = [
        _("Adapters need the base model once, counted as large as a whole model of this study."),
        _("One run per task; every further seed or learning rate costs as much again."),
    ]
    if keeping.form.prices.hour and not keeping.study.times_comparable:
        parts.append(_("Times are not comparable, so hours are not priced."))
    if keeping.form.prices.kwh and not keeping.prices.kwh:
        parts.append(
            _("Energy was not measured in every arm, so it is not priced.")
            if keeping.study.times_comparable
            else _("Energy was not measured under the same conditions, so it is not priced.")
        )
    if keeping.priced:
        prices = keeping.prices
        currency = keeping.form.money
        if prices.hour:
            parts.append(_("Price of a device-hour: %(price)s.", price=money(prices.hour, currency)))
        if prices.kwh:
            text = _("Price of a kWh: %(price)s, for the energy of the device alone while it trained and validated.")
            parts.append(text % {"price": money(prices.kwh, currency)})
        if prices.gib_month:
            text = _("Price of a GiB-month: %(price)s, kept for %(months)s months.")
            parts.append(text % {"price": money(prices.gib_month, currency), "months": general(prices.months)})
    return " ".join(parts)


def _table(keeping: Keeping) -> Table:
    tasks = keeping.form.many
    columns = [
        Column("arm", _("arm")),
        Column("seconds", _("device time per task"), duration),
        Column("base_bytes", _("stored once"), _size),
        Column("task_bytes", _("stored per task"), file_size),
        Column(
            f"bytes_of_{tasks}",
            ngettext("%(num)s task on disk", "%(num)s tasks on disk", tasks, num=count(tasks)),
            file_size,
        ),
    ]
    measured = any(kept.joules is not None for kept in keeping.arms)
    if measured:
        columns.insert(2, Column("energy_joules", _("energy per task"), energy))
    if keeping.priced:
        show = partial(money, currency=keeping.form.money)
        columns.append(
            Column(
                f"cost_of_{tasks}", ngettext("%(num)s task cost", "%(num)s tasks cost", tasks, num=count(tasks)), show
            )
        )
    columns.append(Column("cheaper_from", _("cheaper from"), _since))
    rows = []
    for kept in keeping.arms:
        row = [kept.arm.title, kept.upkeep.seconds, *([kept.joules] if measured else [])]
        row += [kept.upkeep.base_bytes, kept.upkeep.task_bytes, stored(kept.upkeep).at(tasks)]
        row += [keeping.line(kept).at(tasks)] if keeping.priced else []
        rows.append((*row, keeping.cheaper_from(kept)))
    return Table(tuple(columns), tuple(rows))


def _since(start: int | None) -> str:
    return ngettext("%(num)s task", "%(num)s tasks", start, num=count(start)) if start else NOTHING


def _size(value: float) -> str:
    return file_size(value) if value else NOTHING
