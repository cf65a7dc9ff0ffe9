"""What a feature adds to services, in its module `hooks` (`app.feature`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from app import feature
from app.domain.resources.device_time import Basis
from app.services.workers.work import WorkKind


@dataclass(frozen=True, eq=False)
class Hooks:
    """What services call. A hook that a feature does not need keeps its default, which does nothing."""

    work: tuple[WorkKind[Any], ...] = ()
    """Work that is claimed on request, for which the sweep rings again."""
    sweep: Callable[[Session], object] = lambda session: None
    """Called at the end of each sweep."""
    secrets: Callable[[Session], Iterable[tuple[Any, str]]] = lambda session: ()
    """Rows with an encrypted secret, and its attribute, to encrypt by another key."""
    accepting: Callable[[Session, int], object] = lambda session, owner_id: None
    """Called before something is accepted that will queue runs of a user. May raise OverQuota."""
    queued: Callable[[Session, int, float, Basis], object] = lambda session, owner_id, seconds, basis: None
    """Called in the transaction that has queued runs of a user, with their device time as predicted. May raise
    OverQuota."""
    storing: Callable[[Session, int, int], object] = lambda session, owner_id, more: None
    """Called before so many bytes more are stored of a user. May raise OverQuota."""
    giving: Callable[[Session, int], AbstractContextManager[object]] = lambda session, owner_id: nullcontext()
    """Entered before things are given to a user, and left afterwards. May raise OverQuota then."""
    concurrent_runs: Callable[[Session, Sequence[int]], Mapping[int, int]] = lambda session, owner_ids: {}
    """How many runs of some users may run at the same time, where that is limited."""
    stored_bytes: Callable[[Session, Sequence[int]], Mapping[int, int]] = lambda session, owner_ids: {}
    """Bytes that it keeps in the files store, by user."""
    expected_bytes: Callable[[Session, Sequence[int]], Mapping[int, int]] = lambda session, owner_ids: {}
    """Bytes that its work in progress is predicted to add, by user."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Hooks, ...]:
    return tuple(module.HOOKS for module in feature.modules("hooks", names))


def hooks() -> tuple[Hooks, ...]:
    """Of the active features."""
    return _of(feature.active())
