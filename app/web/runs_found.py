"""What a list of runs finds: runs or groups in an order, the runs of open groups, and the baseline's numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.store.queries import run_groups, run_list
from app.store.queries.run_groups import Group
from app.store.queries.run_list import RunValues
from app.web.forms.runs_view import RunsView

GROUP_FIELDS = ("model", "data", "score")
"""What a group is told by."""
MOST_INSIDE = 100
"""Runs of an open group that are shown."""


@dataclass(frozen=True)
class Found:
    """A page of runs, or of groups."""

    runs: Sequence[RunValues] = ()
    groups: Sequence[Group] = ()
    inside: Mapping[int, Sequence[RunValues]] = field(default_factory=dict)
    """Runs of open groups, by the group's first run."""
    next_after: int | None = None

    @property
    def shown(self) -> list[RunValues]:
        """Every run whose values are shown."""
        inside = [run for runs in self.inside.values() for run in runs]
        return [*self.runs, *(group.first for group in self.groups), *inside]


@dataclass(frozen=True)
class PinnedRun:
    """The run that the others are held against; where groups are shown, its whole group."""

    id: int
    arm: str
    runs: tuple[int, ...]
    numbers: Mapping[str, Any]
    """By field, with `metric`."""


def fields_of(view: RunsView) -> tuple[str, ...]:
    """What is asked of the store."""
    return (*view.columns, *GROUP_FIELDS) if view.grouped else view.columns


def page(session: Session, view: RunsView, after: int | None, limit: int) -> Found:
    """A page of what the view asks for. Raises NotFound where it is to go on after what is not there."""
    fields = fields_of(view)
    if not view.grouped:
        found = run_list.page(session, view.condition, order=view.order, after=after, limit=limit, fields=fields)
        return Found(runs=found.rows, next_after=found.next_after)
    groups = run_groups.page(session, view.condition, order=view.order, after=after, limit=limit, fields=fields)
    inside = {
        group.first.id: run_list.values(session, group.runs[:MOST_INSIDE], view.columns)
        for group in groups.rows
        if group.first.id in view.open
    }
    return Found(groups=groups.rows, inside=inside, next_after=groups.next_after)


def baseline(session: Session, view: RunsView) -> PinnedRun | None:
    """The pinned run, if one is and it is there."""
    if view.baseline is None:
        return None
    if not view.grouped:
        found = run_list.values(session, [view.baseline], view.columns)
        return PinnedRun(found[0].id, found[0].values["arm"], (found[0].id,), found[0].values) if found else None
    group = run_groups.of_run(session, view.baseline, fields_of(view))
    if group is None:
        return None
    means = {name: spread.mean for name, spread in group.spreads.items()}
    values = group.first.values
    return PinnedRun(view.baseline, values["arm"], group.runs, means | {"metric": values["metric"]})
