"""The rows of a list of runs: a page of runs or groups, the runs of expanded groups, and the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from app.domain.comparison.fairness.confounders import ConditionName, RunConditions
from app.store.runs import groups as run_groups
from app.store.runs import listing as run_list
from app.store.runs.groups import Group
from app.store.runs.listing import RunValues
from app.web.pages.runs.form import ViewParams

GROUP_FIELDS = ("model", "data", "score")
CONDITIONS = ("data", "data_version", "device", "precision", "memory_measure")
"""Fields that decide whether a run can be compared with the baseline."""
MOST_INSIDE = 100
"""Runs shown of an expanded group."""


@dataclass(frozen=True)
class Listing:
    """A page of runs or of groups."""

    runs: Sequence[RunValues] = ()
    groups: Sequence[Group] = ()
    inside: Mapping[int, Sequence[RunValues]] = field(default_factory=dict)
    """Runs of expanded groups, by the first run of the group."""
    next_after: int | None = None

    @property
    def shown(self) -> list[RunValues]:
        inside = [run for runs in self.inside.values() for run in runs]
        return [*self.runs, *(group.first for group in self.groups), *inside]


@dataclass(frozen=True)
class Baseline:
    """The run that the others are compared with; in a list of groups, its whole group."""

    id: int
    arm: str
    runs: tuple[int, ...]
    numbers: Mapping[str, Any]
    """By field."""
    conditions: RunConditions


def fields_of(view: ViewParams) -> tuple[str, ...]:
    return (*view.columns, *(GROUP_FIELDS if view.grouped else ()), *(CONDITIONS if view.baseline is not None else ()))


def conditions_of(run: RunValues) -> RunConditions:
    """What a run was made and measured under, of what a list knows."""
    values = run.values
    conditions: dict[ConditionName, str | None] = {
        "metric": values["metric"],
        "dataset": values.get("data"),
        "dataset_version": "" if values.get("data_version") is None else str(values["data_version"]),
        "device": values.get("device"),
        "precision": values.get("precision"),
        "memory_measure": values.get("memory_measure") if values["imported"] else "as here",
    }
    return {name: value for name, value in conditions.items() if value}


def conditions_of_group(group: Group) -> RunConditions:
    """The same of a group; of its devices only if they are one."""
    device, precision = next(iter(group.places)) if len(group.places) == 1 else (None, None)
    return conditions_of(replace(group.first, values={**group.first.values, "device": device, "precision": precision}))


def page(session: Session, view: ViewParams, after: int | None, limit: int) -> Listing:
    """A page of the list. Raises NotFound if there is no run `after`."""
    fields = fields_of(view)
    if not view.grouped:
        runs = run_list.page(session, view.condition, order=view.order, after=after, limit=limit, fields=fields)
        return Listing(runs=runs.rows, next_after=runs.next_after)
    groups = run_groups.page(session, view.condition, order=view.order, after=after, limit=limit, fields=fields)
    inside = {
        group.first.id: run_list.values(session, group.runs[:MOST_INSIDE], fields)
        for group in groups.rows
        if group.first.id in view.open
    }
    return Listing(groups=groups.rows, inside=inside, next_after=groups.next_after)


def baseline(session: Session, view: ViewParams) -> Baseline | None:
    """The baseline, if one is pinned and exists."""
    if view.baseline is None:
        return None
    if not view.grouped:
        runs = run_list.values(session, [view.baseline], fields_of(view))
        if not runs:
            return None
        (run,) = runs
        return Baseline(run.id, run.values["arm"], (run.id,), run.values, conditions_of(run))
    group = run_groups.of_run(session, view.baseline, fields_of(view))
    if group is None:
        return None
    means = {name: spread.mean for name, spread in group.spreads.items()}
    return Baseline(view.baseline, group.first.values["arm"], group.runs, means, conditions_of_group(group))
