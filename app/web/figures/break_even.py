"""What keeping many adapted models takes: bytes, or money where one says the prices."""

from dataclasses import dataclass, replace
from functools import partial
from math import floor, log10

from app.domain.comparison.break_even import Line, Prices, Upkeep, cheaper_from, cost, stored
from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.figures.axes import AXES
from app.web.figures.drawing import break_even as drawing
from app.web.figures.drawing.break_even import BreakEven, Growth
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.prices import PricesForm
from app.web.figures.verdict import mark_style
from app.web.format import GIB, KIB, MIB, NBSP, NOTHING, capitalized, count, decimal, duration, energy, file_size
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.verdict import arm_name

SHOWN = 2
"""The picture goes on to at least so many times the number of tasks at which lines cross."""


@dataclass(frozen=True)
class Kept:
    """An arm and what a task takes with it."""

    arm: StudyArm
    upkeep: Upkeep
    whole: bool
    """Each task keeps a whole model."""
    joules: float | None
    """A task's, where the device counts them."""


@dataclass(frozen=True)
class Keeping:
    """The arms of a study that left a file, held against the one that keeps whole models."""

    found: StudyComparison
    form: PricesForm
    arms: tuple[Kept, ...]

    @classmethod
    def of(cls, found: StudyComparison, form: PricesForm) -> "Keeping":
        """The base model takes what a whole model of the study takes: they are files of the same kind."""
        done = [arm for arm in found.arms if arm.costs and arm.costs.artifact_bytes]
        whole = {arm.title: _is_whole(arm) for arm in done}
        base = next((arm.costs.artifact_bytes for arm in done if arm.costs and whole[arm.title]), 0)
        return cls(found, form, tuple(_kept(arm, whole=whole[arm.title], base=base) for arm in done))

    @property
    def models(self) -> Kept | None:
        """What adapters are held against: the reference if it keeps whole models, else the first arm that does."""
        whole = [kept for kept in self.arms if kept.whole]
        return next((kept for kept in whole if kept.arm.is_reference), whole[0] if whole else None)

    @property
    def adapters(self) -> list[Kept]:
        """The arms that keep less than a whole model."""
        return [kept for kept in self.arms if not kept.whole]

    @property
    def prices(self) -> Prices:
        """Those that were said; hours and energy have none where times may not be held against each other, nor energy
        where it was not counted in every arm."""
        prices = self.form.prices
        if not self.found.times_comparable:
            return replace(prices, hour=0.0, kwh=0.0)
        return prices if all(kept.joules is not None for kept in self.arms) else replace(prices, kwh=0.0)

    @property
    def priced(self) -> bool:
        """Money is what is drawn: something has a price."""
        return self.prices.hour > 0 or self.prices.kwh > 0 or self.prices.gib_month > 0

    def line(self, kept: Kept) -> Line:
        """Money or bytes of N tasks."""
        return cost(kept.upkeep, self.prices) if self.priced else stored(kept.upkeep)

    def cheaper_from(self, kept: Kept) -> int | None:
        """From how many tasks on an arm is cheaper than whole models."""
        return cheaper_from(self.line(kept), self.line(self.models)) if self.models and not kept.whole else None

    def say(self, value: float) -> str:
        """A sum of money with its currency, or bytes."""
        return money(value, self.form.money) if self.priced else file_size(value)

    @property
    def spoken_of(self) -> Kept | None:
        """The adapters that a sentence is about: those of the headline, else those that take least."""
        arm = self.found.focus
        named = next((kept for kept in self.adapters if kept.arm is arm), None)
        return named or min(self.adapters, key=lambda kept: self.line(kept).at(self.form.many), default=None)


def money(value: float, currency: str) -> str:
    """`3.20 EUR`, `0.0012 EUR`: to the cent, or to the second digit where it is less."""
    number = decimal(value, 2 if value >= 0.1 or not value else 1 - floor(log10(value)))
    return f"{number}{NBSP}{currency}" if currency else number


def break_even(found: StudyComparison, form: PricesForm) -> Figure:
    """Over the number of tasks."""
    keeping = Keeping.of(found, form)
    return Figure(
        name="break-even",
        title=takeaway(keeping),
        label=_("What a number of tasks takes together, a line an arm"),
        note=_note(keeping) if keeping.arms else "",
        data=_data(keeping),
        draw=drawing.chart,
        widths=(556, 356),
        table=_table(keeping),
        empty=why_not(keeping),
    )


def why_not(keeping: Keeping) -> str:
    """Why nothing can be held against anything."""
    if not keeping.arms:
        return _("No arm has left a file yet.")
    if keeping.models is None:
        return _("No arm of this study keeps a whole model, so there is nothing to hold adapters against.")
    return "" if keeping.adapters else _("Every arm of this study keeps a whole model for each task.")


def takeaway(keeping: Keeping) -> str:
    """From how many tasks on, in plain words."""
    kept, models = keeping.spoken_of, keeping.models
    if kept is None or models is None:
        return _("What keeping many tasks takes")
    start, tasks = keeping.cheaper_from(kept), keeping.form.many
    own, its = keeping.line(kept).at(tasks), keeping.line(models).at(tasks)
    values = {
        "arm": arm_name(kept.arm),
        "reference": arm_name(models.arm),
        "tasks": ngettext("%(num)s task", "%(num)s tasks", tasks, num=count(tasks)),
        "own": keeping.say(own),
        "its": keeping.say(its),
    }
    if start is None:
        text = _("%(arm)s never takes less than %(reference)s: for %(tasks)s %(own)s against %(its)s", **values)
    else:
        cheaper = _("cheaper") if keeping.priced else _("smaller to keep")
        since = _("the first task") if start == 1 else _since(start)
        text = _("%(arm)s is %(cheaper)s from %(since)s on: for %(tasks)s %(own)s against %(its)s of %(reference)s")
        text = text % (values | {"cheaper": cheaper, "since": since})
    return capitalized(text)


def _is_whole(arm: StudyArm) -> bool:
    results = [run.result for run in arm.succeeded if run.result]
    return any(file.kind == "model" for result in results for file in result.artifacts)


def _kept(arm: StudyArm, *, whole: bool, base: float) -> Kept:
    assert arm.costs is not None  # noqa: S101  (the caller styles)
    joules = AXES["energy"].spread(arm)
    upkeep = Upkeep(
        seconds=arm.costs.wall_seconds.mean,
        task_bytes=arm.costs.artifact_bytes,
        base_bytes=0.0 if whole else base,
        joules=joules.mean if joules else 0.0,
    )
    return Kept(arm, upkeep, whole, joules.mean if joules else None)


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
                mark_style(kept.arm),
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
        _("Adapters need the base model once; it is counted as large as a whole model of this study."),
        _("A task is one run; each seed or learning rate that is tried costs as much again."),
    ]
    if keeping.form.prices.hour and not keeping.found.times_comparable:
        parts.append(_("Times were not measured under the same conditions, so hours are not priced."))
    if keeping.form.prices.kwh and not keeping.prices.kwh:
        parts.append(
            _("Energy was not counted in every arm, so it is not priced.")
            if keeping.found.times_comparable
            else _("Energy was not counted under the same conditions, so it is not priced.")
        )
    if keeping.priced:
        prices = keeping.prices
        currency = keeping.form.money
        if prices.hour:
            parts.append(_("A device-hour: %(price)s.", price=money(prices.hour, currency)))
        if prices.kwh:
            text = _(
                "A kilowatt-hour: %(price)s; counted is what the device itself drew while it trained and validated."
            )
            parts.append(text % {"price": money(prices.kwh, currency)})
        if prices.gib_month:
            text = _("A GiB-month: %(price)s, kept for %(months)s months.")
            parts.append(text % {"price": money(prices.gib_month, currency), "months": f"{prices.months:g}"})
    return " ".join(parts)


def _table(keeping: Keeping) -> Table:
    tasks = keeping.form.many
    columns = [
        Column("arm", _("arm")),
        Column("seconds", _("device time a task"), duration),
        Column("base_bytes", _("kept once"), _size),
        Column("task_bytes", _("kept a task"), file_size),
        Column(
            f"bytes_of_{tasks}",
            ngettext("%(num)s task on disk", "%(num)s tasks on disk", tasks, num=count(tasks)),
            file_size,
        ),
    ]
    measured = any(kept.joules is not None for kept in keeping.arms)
    if measured:
        columns.insert(2, Column("energy_joules", _("energy a task"), energy))
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
