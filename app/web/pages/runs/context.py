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
from app.web.pages.runs.found import PinnedRun, conditions_of, conditions_of_group
from app.web.pages.runs.head import RunsHead
from app.web.pages.runs.view_form import RunsView, falls_first
from app.web.text import metrics
from app.web.text.run_fields import against, not_compared, title, unit, written

CellKind = Literal["number", "text", "study", "state", "moment", "tags"]
NOISE = 1e-6
"""Of a mean: what arithmetic leaves where all values are the same."""


@dataclass(frozen=True)
class Column:
    """A column: its head, and where it leads."""

    name: str
    title: str
    unit: str
    number: bool
    sort: str
    """The address of the same runs in its order; empty where it has none."""
    active: bool
    direction: Literal["ascending", "descending"]


@dataclass(frozen=True)
class Cell:
    """What stands in a column. `doubt` is muted beside it, `small` below it, and `why` says why that is only a dash."""

    kind: CellKind
    text: str = ""
    doubt: str = ""
    small: str = ""
    why: str = ""
    moment: datetime | None = None
    tags: tuple[str, ...] = ()
    study: int | None = None


@dataclass(frozen=True)
class Line:
    """A row: a run, or a group of them."""

    id: int
    """Of the run; of a group's first."""
    runs: str
    """What is compared where it is ticked."""
    family: Family
    arm: str
    what: str
    """What a group was trained on."""
    marks: tuple[str, ...]
    """What it is beside a run: `trial`, `imported`."""
    cells: tuple[Cell, ...]
    pinned: bool
    pin: str
    """The address with it as the baseline, or without one."""
    is_group: bool = False
    inside: bool = False
    """It is one of the group above it."""
    toggle: str = ""
    open: bool = False


@dataclass(frozen=True)
class Around:
    """What rows need beside their own values: names, tags, and the baseline's numbers."""

    studies: Mapping[int, str]
    tags: Mapping[int, Sequence[str]]
    baseline: PinnedRun | None
    mixed: bool
    """The runs shown are judged by different metrics."""

    def pinned(self, runs: Sequence[int]) -> bool:
        """One of some runs is the baseline, or of its group."""
        return self.baseline is not None and not set(runs).isdisjoint(self.baseline.runs)


@dataclass(frozen=True)
class RunsPage:
    """Runs, and how they are chosen and ordered."""

    head: RunsHead
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    mixed: bool
    measure: str
    """The metric that all of them are judged by."""
    next_page: str
    """The address of what follows, or nothing."""


def columns_of(view: RunsView, measure: str) -> tuple[Column, ...]:
    """The columns in force; groups have two more behind the score."""
    names = list(view.columns)
    if view.grouped:
        names = [name for name in names if name == "seed" or name in SUMMED or FIELDS[name].kind == "text"]
        place = names.index("score") + 1 if "score" in names else 0
        names[place:place] = ["lower", "n"]
        names = [name for name in names if name not in ("seed", "status", "failure", "tag", "note", "worker")]
    return tuple(_column(view, name, measure if name == "score" else title(name)) for name in names)


def _column(view: RunsView, name: str, head: str) -> Column:
    sortable = name != "study" and name in ((*SUMMED, *OWN) if view.grouped else SORTABLE)
    active = view.order.field == name or (name == "started_at" and view.order.field == "id" and not view.grouped)
    order = Order(name, not view.order.falls if active else falls_first(name))
    to = replace(view, order=order)
    return Column(
        name=name,
        title=head,
        unit=unit(name),
        number=name in OWN or (FIELDS[name].kind != "text" and name != "study"),
        sort=to.address().to({"sort": str(order), "open": ""}) if sortable else "",
        active=active,
        direction="descending" if view.order.falls else "ascending",
    )


def line_of(run: RunValues, view: RunsView, columns: Sequence[Column], around: Around, *, inside: bool = False) -> Line:
    """A run's row."""
    found = run.values
    pinned = around.pinned([run.id]) and not view.grouped
    return Line(
        id=run.id,
        runs=str(run.id),
        family=found["family"],
        arm=found["arm"],
        what="",
        marks=marks_of(run),
        cells=tuple(_cell(column.name, run, around) for column in columns),
        pinned=pinned,
        pin=view.address().to({"baseline": "" if pinned else run.id}),
        inside=inside,
    )


def group_line(group: Group, view: RunsView, columns: Sequence[Column], around: Around) -> Line:
    """A group's row."""
    first = group.first
    pinned = around.pinned(group.runs)
    is_open = first.id in view.open
    others = tuple(n for n in view.open if n != first.id)
    toggled = others if is_open else (*others, first.id)
    return Line(
        id=first.id,
        runs=",".join(map(str, group.runs)),
        family=first.values["family"],
        arm=first.values["arm"],
        what=_("%(data)s on %(model)s", data=first.values["data"] or "–", model=first.values["model"] or "–"),
        marks=marks_of(first),
        cells=tuple(_group_cell(column.name, group, around) for column in columns),
        pinned=pinned,
        pin=view.address().to({"baseline": "" if pinned else first.id}),
        is_group=True,
        toggle=view.address().to({"open": ",".join(map(str, toggled))}),
        open=is_open,
    )


def marks_of(run: RunValues) -> tuple[str, ...]:
    """Why a run counts in no verdict."""
    marks = {"trial": _("trial"), "imported": _("imported")}
    return tuple(word for name, word in marks.items() if run.values[name])


def _cell(name: str, run: RunValues, around: Around) -> Cell:
    value = run.values.get(name)
    if name in OWN:
        return Cell("number")
    field = FIELDS[name]
    if name == "study":
        return Cell("study", around.studies.get(value or 0, ""), study=value)
    if name == "status":
        return Cell("state", str(value))
    if name == "tag":
        return Cell("tags", tags=tuple(around.tags.get(run.id, ())))
    if field.kind == "time":
        return Cell("moment", moment=value)
    if field.kind == "text":
        return Cell("text", _text(name, value))
    if name == "seed" and run.values["trial"] and value is not None and value >= FIRST_SEED:
        return Cell("number", _("trial %(number)s", number=value - FIRST_SEED), small=count(value))
    small, why = _beside(name, value, run, conditions_of(run), around)
    return Cell("number", written(field, value), small=small, why=why)


def _group_cell(name: str, group: Group, around: Around) -> Cell:
    values = group.first.values
    if name == "n":
        return Cell("number", str(group.spreads["score"].n), small=_beside_the_seeds(group))
    if name == "lower":
        spread = group.spreads.get("score")
        return Cell("number", hundred(spread.lower if spread else None))
    field = FIELDS[name]
    if name == "study":
        return Cell("study", around.studies.get(values["study"] or 0, ""), study=values["study"])
    if name not in group.spreads:
        return Cell("text", _text(name, values.get(name)))
    spread = group.spreads[name]
    small, why = _beside(name, spread.mean, group.first, conditions_of_group(group), around)
    return Cell("number", written(field, spread.mean), _doubt(name, spread), small, why)


def _beside_the_seeds(group: Group) -> str:
    """Runs that are no seed with a score: those that repeat one, and those without a score."""
    repeats, without = group.scored - group.spreads["score"].n, group.scoreless
    waiting, trained = without.get("queued", 0) + without.get("running", 0), without.get("succeeded", 0)
    said = (
        ngettext("%(num)s repeat", "%(num)s repeats", repeats) if repeats else "",
        ngettext("%(num)s trial", "%(num)s trials", trained) if trained and group.first.values["trial"] else "",
        _("%(count)s without a score", count=trained) if trained and not group.first.values["trial"] else "",
        _("%(count)s to come", count=waiting) if waiting else "",
        _("%(count)s failed", count=without["failed"]) if without.get("failed") else "",
        _("%(count)s cancelled", count=without["cancelled"]) if without.get("cancelled") else "",
    )
    return ", ".join(part for part in said if part)


def _doubt(name: str, spread: Spread) -> str:
    """A standard deviation that can be seen, in the unit of the mean."""
    if not spread.sd or spread.mean is None or spread.sd < NOISE * abs(spread.mean):
        return ""
    words = written(FIELDS[name], spread.sd)
    return f"±{NBSP}{words}" if words != written(FIELDS[name], 0.0) else ""


def _beside(name: str, value: Any, run: RunValues, conditions: RunConditions, around: Around) -> tuple[str, str]:
    """Against the baseline, or a dash and why there is nothing to hold against it; and by which metric a score is,
    where not all are judged by one."""
    told, why, pinned = "", "", around.baseline
    if pinned is not None and (told := against(FIELDS[name], value, pinned.numbers.get(name))):
        kind = None if around.pinned([run.id]) else field_confounder(FIELDS[name], conditions, pinned.conditions)
        if kind is not None:
            told, why = NOTHING, not_compared(kind)
    if name == "score" and around.mixed and value is not None:
        told = f"{told} {metrics.title(run.values['metric'])}".strip()
    return told, why


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
