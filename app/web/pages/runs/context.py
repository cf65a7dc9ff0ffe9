"""The context of the list of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from app.domain.comparison.confounders import RunConditions, field_confounder
from app.domain.methods import Family
from app.domain.runs.fields import FIELDS
from app.domain.studies.tuning import FIRST_SEED
from app.store.queries.run_columns import SORTABLE
from app.store.queries.run_groups import OWN, SUMMED, Group, Spread
from app.store.queries.run_list import Order, RunValues
from app.web.format import NBSP, NOTHING, count, hundred
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.pages.runs.form import ViewParams, falls_first
from app.web.pages.runs.listing import Baseline, Listing, conditions_of, conditions_of_group
from app.web.pages.runs.toolbar import Toolbar
from app.web.text import metrics
from app.web.text.run_fields import difference, formatted, not_compared, title, unit

CellKind = Literal["number", "text", "study", "state", "moment", "tags"]
NOISE = 1e-6
"""Relative to a mean: rounding error where all values are the same."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, and the link that sorts by it."""

    name: str
    title: str
    unit: str
    number: bool
    sort: str
    """The address of the same list in its order; empty if it cannot be sorted by."""
    active: bool
    direction: Literal["ascending", "descending"]


@dataclass(frozen=True)
class Cell:
    """The value of a column: `deviation` stands muted beside it, `small` below it; `why` explains a dash there."""

    kind: CellKind
    text: str = ""
    deviation: str = ""
    small: str = ""
    why: str = ""
    moment: datetime | None = None
    tags: tuple[str, ...] = ()
    study: int | None = None


@dataclass(frozen=True)
class Row:
    """A row: a run, or a group of runs."""

    id: int
    """Of the run, or of the first run of the group."""
    runs: str
    """Ids to compare when it is selected."""
    family: Family
    arm: str
    what: str
    """The data and the base model of a group."""
    badges: tuple[str, ...]
    """`trial`, `imported`, `archived`."""
    cells: tuple[Cell, ...]
    pinned: bool
    pin: str
    """The address that pins it as the baseline, or unpins it."""
    is_group: bool = False
    inside: bool = False
    """It belongs to the group above it."""
    toggle: str = ""
    open: bool = False


@dataclass(frozen=True)
class RowContext:
    """What rows need besides their own values: names, tags and the baseline."""

    studies: Mapping[int, str]
    tags: Mapping[int, Sequence[str]]
    baseline: Baseline | None
    mixed: bool
    """The runs shown have scores of different metrics."""
    largest: Mapping[str, float]
    """The largest value of each column of bytes."""

    def pinned(self, runs: Sequence[int]) -> bool:
        """Whether one of the runs is the baseline, or belongs to its group."""
        return self.baseline is not None and not set(runs).isdisjoint(self.baseline.runs)


@dataclass(frozen=True)
class RunsPage:
    """A list of runs with its toolbar."""

    toolbar: Toolbar
    columns: tuple[Column, ...]
    lines: tuple[Row, ...]
    mixed: bool
    measure: str
    """The metric of their scores."""
    next_page: str
    """The address of the next page; empty on the last."""


def largest_bytes(listing: Listing) -> dict[str, float]:
    """The largest value of each column of bytes: it decides the unit."""
    rows = [run.values for run in listing.shown]
    rows += [{name: spread.mean for name, spread in group.spreads.items()} for group in listing.groups]
    names = [name for name, field in FIELDS.items() if field.kind == "bytes"]
    return {name: max((row.get(name) or 0 for row in rows), default=0) for name in names}


def columns_of(view: ViewParams, measure: str, largest: Mapping[str, float]) -> tuple[Column, ...]:
    """The chosen columns; groups have two more after the score."""
    names = list(view.columns)
    if view.grouped:
        names = [name for name in names if name == "seed" or name in SUMMED or FIELDS[name].kind == "text"]
        place = names.index("score") + 1 if "score" in names else 0
        names[place:place] = ["lower", "n"]
        names = [name for name in names if name not in ("seed", "status", "failure", "tag", "note", "worker")]
    return tuple(_column(view, name, measure if name == "score" else title(name), largest) for name in names)


def _column(view: ViewParams, name: str, head: str, largest: Mapping[str, float]) -> Column:
    sortable = name != "study" and name in ((*SUMMED, *OWN) if view.grouped else SORTABLE)
    active = view.order.field == name or (name == "started_at" and view.order.field == "id" and not view.grouped)
    order = Order(name, not view.order.falls if active else falls_first(name))
    to = replace(view, order=order)
    return Column(
        name=name,
        title=head,
        unit=unit(name, largest.get(name, 0)),
        number=name in OWN or (FIELDS[name].kind != "text" and name != "study"),
        sort=to.address().to({"sort": str(order), "open": ""}) if sortable else "",
        active=active,
        direction="descending" if view.order.falls else "ascending",
    )


def run_row(
    run: RunValues, view: ViewParams, columns: Sequence[Column], context: RowContext, *, inside: bool = False
) -> Row:
    """A run's row."""
    values = run.values
    pinned = context.pinned([run.id]) and not view.grouped
    return Row(
        id=run.id,
        runs=str(run.id),
        family=values["family"],
        arm=values["arm"],
        what="",
        badges=badges_of(run),
        cells=tuple(_cell(column.name, run, context) for column in columns),
        pinned=pinned,
        pin=view.address().to({"baseline": "" if pinned else run.id}),
        inside=inside,
    )


def group_row(group: Group, view: ViewParams, columns: Sequence[Column], context: RowContext) -> Row:
    """A group's row."""
    first = group.first
    pinned = context.pinned(group.runs)
    is_open = first.id in view.open
    others = tuple(n for n in view.open if n != first.id)
    toggled = others if is_open else (*others, first.id)
    return Row(
        id=first.id,
        runs=",".join(map(str, group.runs)),
        family=first.values["family"],
        arm=first.values["arm"],
        what=_("%(data)s on %(model)s", data=first.values["data"] or "–", model=first.values["model"] or "–"),
        badges=badges_of(first),
        cells=tuple(_group_cell(column.name, group, context) for column in columns),
        pinned=pinned,
        pin=view.address().to({"baseline": "" if pinned else first.id}),
        is_group=True,
        toggle=view.address().to({"open": ",".join(map(str, toggled))}),
        open=is_open,
    )


def badges_of(run: RunValues) -> tuple[str, ...]:
    """Why a run counts in no verdict, or is hidden from lists."""
    badges = {"trial": _("trial"), "imported": _("imported"), "archived": _("archived")}
    return tuple(word for name, word in badges.items() if run.values[name])


def _cell(name: str, run: RunValues, context: RowContext) -> Cell:
    value = run.values.get(name)
    if name in OWN:
        return Cell("number")
    field = FIELDS[name]
    if name == "study":
        return Cell("study", context.studies.get(value or 0, ""), study=value)
    if name == "status":
        return Cell("state", str(value))
    if name == "tag":
        return Cell("tags", tags=tuple(context.tags.get(run.id, ())))
    if field.kind == "time":
        return Cell("moment", moment=value)
    if field.kind == "text":
        return Cell("text", _text(name, value))
    if name == "seed" and run.values["trial"] and value is not None and value >= FIRST_SEED:
        return Cell("number", _("trial %(number)s", number=value - FIRST_SEED), small=count(value))
    small, why = _difference(name, value, run, conditions_of(run), context)
    return Cell("number", formatted(field, value, context.largest.get(name, 0)), small=small, why=why)


def _group_cell(name: str, group: Group, context: RowContext) -> Cell:
    values = group.first.values
    if name == "n":
        return Cell("number", str(group.spreads["score"].n), small=_seed_counts(group))
    if name == "lower":
        spread = group.spreads.get("score")
        return Cell("number", hundred(spread.lower if spread else None))
    field = FIELDS[name]
    if name == "study":
        return Cell("study", context.studies.get(values["study"] or 0, ""), study=values["study"])
    if name not in group.spreads:
        return Cell("text", _text(name, values.get(name)))
    spread = group.spreads[name]
    small, why = _difference(name, spread.mean, group.first, conditions_of_group(group), context)
    largest = context.largest.get(name, 0)
    return Cell("number", formatted(field, spread.mean, largest), _deviation(name, spread, largest), small, why)


def _seed_counts(group: Group) -> str:
    """Runs beyond the seeds with a score: repeated seeds, and runs without a score."""
    repeats, without = group.scored - group.spreads["score"].n, group.scoreless
    waiting, trained = without.get("queued", 0) + without.get("running", 0), without.get("succeeded", 0)
    parts = (
        ngettext("%(num)s repeat", "%(num)s repeats", repeats) if repeats else "",
        ngettext("%(num)s trial", "%(num)s trials", trained) if trained and group.first.values["trial"] else "",
        _("%(count)s without a score", count=trained) if trained and not group.first.values["trial"] else "",
        _("%(count)s to come", count=waiting) if waiting else "",
        _("%(count)s failed", count=without["failed"]) if without.get("failed") else "",
        _("%(count)s cancelled", count=without["cancelled"]) if without.get("cancelled") else "",
    )
    return ", ".join(part for part in parts if part)


def _deviation(name: str, spread: Spread, largest: float) -> str:
    """The standard deviation in the unit of the mean; empty if it rounds to zero."""
    if not spread.sd or spread.mean is None or spread.sd < NOISE * abs(spread.mean):
        return ""
    text = formatted(FIELDS[name], spread.sd, largest)
    return f"±{NBSP}{text}" if text != formatted(FIELDS[name], 0.0, largest) else ""


def _difference(
    name: str, value: Any, run: RunValues, conditions: RunConditions, context: RowContext
) -> tuple[str, str]:
    """The difference to the baseline, or a dash and why they are not compared; with the metric, where scores have
    several."""
    text, why, pinned = "", "", context.baseline
    if pinned is not None and (text := difference(FIELDS[name], value, pinned.numbers.get(name))):
        kind = None if context.pinned([run.id]) else field_confounder(FIELDS[name], conditions, pinned.conditions)
        if kind is not None:
            text, why = NOTHING, not_compared(kind)
    if name == "score" and context.mixed and value is not None:
        text = f"{text} {metrics.title(run.values['metric'])}".strip()
    return text, why


def _text(name: str, value: Any) -> str:
    if name == "metric" and value in FIELDS:
        return metrics.title(value)
    return str(value) if value not in (None, "") else "–"


def counted(total: int, groups: int | None) -> str:
    """`15 runs`, `15 runs in 5 groups`."""
    runs = ngettext("%(num)s run", "%(num)s runs", total)
    if groups is None:
        return runs
    return _("%(runs)s in %(groups)s", runs=runs, groups=ngettext("%(num)s group", "%(num)s groups", groups))
