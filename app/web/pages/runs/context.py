"""The context of the list of runs, and of the help on its filters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from app.domain.comparison.fairness.confounders import RunConditions, field_confounder
from app.domain.imports.reports import SILENCE
from app.domain.runs.listing.fields import FIELDS, UNITS, Field, Kind
from app.domain.runs.listing.filters import STATES
from app.domain.runs.status import RunStatus
from app.domain.studies.tuning.tuning import FIRST_SEED
from app.store.runs.columns import SORTABLE
from app.store.runs.groups import OWN, SUMMED, Group, Spread
from app.store.runs.listing import Order, RunValues
from app.store.tables import now
from app.web.address import Address
from app.web.pages.runs.form import CHOICES, EXAMPLES, GROUPED, ViewParams, falls_first
from app.web.pages.runs.listing import Baseline, Listing, conditions_of, conditions_of_group
from app.words.format import NBSP, NOTHING, count, hundred
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs import metrics
from app.words.runs.run_fields import column_title, difference, formatted, not_compared, unit

CellKind = Literal["number", "text", "study", "state", "moment", "tags"]
NOISE = 1e-6
"""Relative to a mean: rounding error where all values are the same."""


@dataclass(frozen=True)
class FilterHelpPage:
    fields: Mapping[str, Field] = field(default_factory=lambda: FIELDS)
    units: Mapping[Kind, Mapping[str, float]] = field(default_factory=lambda: UNITS)
    states: tuple[str, ...] = STATES
    examples: tuple[str, ...] = EXAMPLES


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


@dataclass(frozen=True)
class Cell:
    """The value of a column: `deviation` stands muted beside it, `small` below it; `why` explains a dash there."""

    kind: CellKind
    text: str = ""
    deviation: str = ""
    small: str = ""
    why: str = ""
    value: Any = None
    """A moment, tags, or the id of a study."""


@dataclass(frozen=True)
class Line:
    """A row: a run, or a group of runs that differ only in the seed."""

    run: RunValues
    """For a group, its first run."""
    cells: tuple[Cell, ...]
    group: Group | None = None
    inside: bool = False
    """The run belongs to the group above it."""

    @property
    def runs(self) -> tuple[int, ...]:
        """Ids to compare when it is selected."""
        return self.group.runs if self.group else (self.run.id,)


@dataclass(frozen=True)
class RunsPage:
    """A list of runs with its toolbar; empty where the filter has an error."""

    view: ViewParams
    listing: Listing = Listing()  # noqa: RUF009  (it is frozen)
    baseline: Baseline | None = None
    total: int = 0
    groups: int | None = None
    """None for a list of runs."""
    any: bool = True
    """There is a run, whatever the filter says."""
    any_archived: bool = False
    studies: Mapping[int, str] = field(default_factory=dict)
    tags: Mapping[int, Sequence[str]] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        return self.view.address()

    @property
    def count(self) -> str:
        """`15 runs`, `15 runs in 5 groups`."""
        runs = ngettext("%(num)s run", "%(num)s runs", self.total)
        if self.groups is None:
            return runs
        groups = ngettext("%(num)s group", "%(num)s groups", self.groups)
        return _("%(runs)s in %(groups)s", runs=runs, groups=groups)

    @cached_property
    def measures(self) -> set[str]:
        return {run.values["metric"] for run in self.listing.shown}

    @property
    def measure(self) -> str:
        return metrics.heading(next(iter(self.measures))) if len(self.measures) == 1 else _("Score")

    @cached_property
    def largest(self) -> Mapping[str, float]:
        """The largest value of each column of bytes: it decides the unit."""
        rows = [run.values for run in self.listing.shown]
        rows += [{name: spread.mean for name, spread in group.spreads.items()} for group in self.listing.groups]
        names = [name for name, column in FIELDS.items() if column.kind == "bytes"]
        return {name: max((row.get(name) or 0 for row in rows), default=0) for name in names}

    @cached_property
    def columns(self) -> list[Column]:
        """The chosen columns; groups have two more after the score."""
        names = list(self.view.columns)
        if self.view.grouped:
            names = [name for name in names if name in SUMMED or FIELDS[name].kind == "text"]
            place = names.index("score") + 1 if "score" in names else 0
            names[place:place] = ["lower", "n"]
            names = [name for name in names if name not in ("status", "failure", "tag", "note", "worker")]
        return [self._column(name) for name in names]

    def _column(self, name: str) -> Column:
        view = self.view
        sortable = name != "study" and name in ((*SUMMED, *OWN) if view.grouped else SORTABLE)
        active = view.order.field == name or (name == "started_at" and view.order.field == "id" and not view.grouped)
        order = Order(name, not view.order.falls if active else falls_first(name))
        return Column(
            name=name,
            title=self.measure if name == "score" else column_title(name),
            unit=unit(name, self.largest.get(name, 0)),
            number=name in OWN or (FIELDS[name].kind != "text" and name != "study"),
            sort=replace(view, order=order).address().to({"sort": str(order), "open": ""}) if sortable else "",
            active=active,
        )

    @property
    def lines(self) -> Iterator[Line]:
        """Runs, or groups with the runs of those that are expanded."""
        for run in self.listing.runs:
            yield self._run(run)
        for group in self.listing.groups:
            cells = (_group_cell(column.name, group, self) for column in self.columns)
            yield Line(group.first, tuple(cells), group)
            for run in self.listing.inside.get(group.first.id, ()):
                yield self._run(run, inside=True)

    def _run(self, run: RunValues, *, inside: bool = False) -> Line:
        return Line(run, tuple(_cell(column.name, run, self) for column in self.columns), inside=inside)

    def is_baseline(self, runs: Sequence[int]) -> bool:
        """Whether one of the runs is the baseline, or belongs to its group."""
        return self.baseline is not None and not set(runs).isdisjoint(self.baseline.runs)

    def pin(self, line: Line) -> str:
        """The address that pins a row as the baseline, or unpins it."""
        return self.address.to({"baseline": "" if self.is_baseline(line.runs) else line.run.id})

    def toggle(self, line: Line) -> str:
        """The address that expands a group, or collapses it."""
        others = [n for n in self.view.open if n != line.run.id]
        is_open = line.run.id in self.view.open
        return self.address.to({"open": ",".join(map(str, others if is_open else [*others, line.run.id]))})

    @property
    def next_page(self) -> str:
        """The address of the next page; empty on the last."""
        after = self.listing.next_after
        return self.address.to({"open": "", "after": after}) if after else ""

    @property
    def examples(self) -> list[tuple[str, str]]:
        return [(text, self.address.to({"filter": text, "open": ""})) for text in EXAMPLES]

    @property
    def choices(self) -> list[tuple[str, str]]:
        return [(name, column_title(name)) for name in CHOICES]

    def kept(self, *names: str) -> list[tuple[str, str]]:
        """Query parameters that a form with fields of these names must keep."""
        return self.address.beside("open", *names)

    def grouped(self, grouped: bool) -> str:
        """The address of the list with groups, or without."""
        return self.address.to({"group": GROUPED if grouped else "", "sort": "", "open": ""})

    @property
    def archived(self) -> str:
        """The address of the same list with archived runs alone; empty if there are none, or they are shown."""
        if not (self.any_archived and self.view.hides_archived):
            return ""
        text = f"({self.view.filter}) and archived" if self.view.filter else "archived"
        return self.address.to({"filter": text, "open": ""})


def _cell(name: str, run: RunValues, page: RunsPage) -> Cell:
    value = run.values.get(name)
    if name in OWN:
        return Cell("number")
    field = FIELDS[name]
    if name == "study":
        return Cell("study", page.studies.get(value or 0, ""), value=value)
    if name == "status":
        silent = value == RunStatus.RUNNING and (heard := run.values.get("heard_at")) and heard < now() - SILENCE
        return Cell("state", "no_news" if silent else str(value))
    if name == "tag":
        return Cell("tags", value=page.tags.get(run.id, ()))
    if field.kind == "time":
        return Cell("moment", value=value)
    if field.kind == "text":
        return Cell("text", _text(name, value))
    if name == "seed" and run.values["trial"] and value is not None and value >= FIRST_SEED:
        return Cell("number", _("trial %(number)s", number=value - FIRST_SEED), small=count(value))
    small, why = _difference(name, value, run, conditions_of(run), page)
    return Cell("number", formatted(field, value, page.largest.get(name, 0)), small=small, why=why)


def _group_cell(name: str, group: Group, page: RunsPage) -> Cell:
    values = group.first.values
    if name == "n":
        return Cell("number", str(group.spreads["score"].n), small=_seed_counts(group))
    if name == "lower":
        spread = group.spreads.get("score")
        return Cell("number", hundred(spread.lower if spread else None))
    field = FIELDS[name]
    if name == "study":
        return Cell("study", page.studies.get(values["study"] or 0, ""), value=values["study"])
    if name not in group.spreads:
        return Cell("text", _text(name, values.get(name)))
    spread = group.spreads[name]
    small, why = _difference(name, spread.mean, group.first, conditions_of_group(group), page)
    largest = page.largest.get(name, 0)
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


def _difference(name: str, value: Any, run: RunValues, conditions: RunConditions, page: RunsPage) -> tuple[str, str]:
    """The difference to the baseline, or a dash and why they are not compared; with the metric, where scores have
    several."""
    text, why, pinned = "", "", page.baseline
    if pinned is not None and (text := difference(FIELDS[name], value, pinned.numbers.get(name))):
        kind = None if page.is_baseline([run.id]) else field_confounder(FIELDS[name], conditions, pinned.conditions)
        if kind is not None:
            text, why = NOTHING, not_compared(kind)
    if name == "score" and len(page.measures) > 1 and value is not None:
        text = f"{text} {metrics.title(run.values['metric'])}".strip()
    return text, why


def _text(name: str, value: Any) -> str:
    if name == "metric" and value in FIELDS:
        return metrics.title(value)
    return str(value) if value not in (None, "") else NOTHING
