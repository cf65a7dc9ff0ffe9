"""What a feature adds to services, in its module `hooks` (`app.feature`)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

from sqlalchemy.orm import Session

from app import feature
from app.services.workers.work import WorkKind
from app.settings import Settings
from app.store.tables import RunRow

Event = Literal["run.failed", "study.finished", "model.promoted"]


@dataclass(frozen=True, eq=False)
class Hooks:
    """What services call. A hook that a feature does not need keeps its default, which does nothing."""

    work: tuple[WorkKind[Any], ...] = ()
    """Work that is claimed on request, for which the sweep rings again."""
    sweep: Callable[[Session], object] = lambda session: None
    """Called at the end of each sweep."""
    secrets: Callable[[Session], Iterable[tuple[Any, str]]] = lambda session: ()
    """Rows with an encrypted secret, and its attribute, to encrypt by another key."""
    ended: Callable[[Session, Settings, Sequence[RunRow]], object] = lambda session, settings, runs: None
    """Called when the control node takes note of runs that have ended."""
    told: Callable[[Session, Event, dict[str, Any], datetime | None], object] = lambda session, event, data, at: None
    """Called in a transaction with an event and what is told of it; with the time of one that was not just now."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Hooks, ...]:
    return tuple(module.HOOKS for module in feature.modules("hooks", names))


def hooks() -> tuple[Hooks, ...]:
    """Of the active features."""
    return _of(feature.active())


def tell(session: Session, event: Event, data: dict[str, Any], *, at: datetime | None = None) -> None:
    """Tell the active features of an event, which was `at` that time if it was not just now."""
    for added in hooks():
        added.told(session, event, data, at)
