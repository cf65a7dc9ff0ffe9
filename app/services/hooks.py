"""What a feature adds to services, in its module `hooks` (`app.feature`)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from app import feature
from app.queue import Doorbell
from app.services.workers.work import WorkKind
from app.settings import Settings
from app.store.database.session import Database


@dataclass(frozen=True, eq=False)
class Hooks:
    """What services call. A hook that a feature does not need keeps its default, which does nothing."""

    work: tuple[WorkKind[Any], ...] = ()
    """Work that is claimed on request, for which the sweep rings again."""
    sweep: Callable[[Session], object] = lambda session: None
    """Called at the end of each sweep."""
    secrets: Callable[[Session], Iterable[tuple[Any, str]]] = lambda session: ()
    """Rows with an encrypted secret, and its attribute, to encrypt by another key."""
    keeps_runs: Callable[[Session, ColumnElement[bool]], str] = lambda session, which: ""
    """Why runs that match a condition cannot be deleted: a sentence, or empty."""
    keeps_upload: Callable[[Session, int], str] = lambda session, upload_id: ""
    """Why an upload cannot be deleted: a sentence, or empty."""
    keeps_visible: Callable[[Session, Collection[int], Collection[int]], str] = lambda session, studies, runs: ""
    """Why studies and runs, by their ids, cannot be private: a sentence, or empty."""
    joined_upload: Callable[[Session, int], bool] = lambda session, upload_id: False
    """Whether an upload was joined of files that were uploaded one by one, with the last of which it goes."""
    deleting_runs: Callable[[Session, ColumnElement[bool]], object] = lambda session, which: None
    """Called before runs that match a condition are deleted."""
    go_on: Callable[[Database, Doorbell, Settings], object] = lambda db, bell, settings: None
    """Called by a worker after each sweep, and when an upload was read or a dataset prepared."""
    strays: Callable[[Session, Sequence[str]], Mapping[str, Sequence[str]]] = lambda session, names: {}
    """Of files below runs' folders, those that nothing needs, by the folder that can be removed. Deleted runs have
    none."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Hooks, ...]:
    return tuple(module.HOOKS for module in feature.modules("hooks", names))


def hooks() -> tuple[Hooks, ...]:
    """Of the active features."""
    return _of(feature.active())
