"""What a feature adds to services, in its module `hooks` (`app.feature`)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from app import feature
from app.broker.queue import Doorbell
from app.domain.resources.device_time import Basis
from app.services.ownership.vault import Vault
from app.services.workers.work import WorkKind
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import RunRow, UserRow

T = TypeVar("T")
Event = Literal["run.failed", "study.finished", "model.promoted"]


class SecondStep(Protocol):
    """The second step of a login, after the password or single sign-on."""

    def wait_for_code(
        self, session: Session, user: UserRow, by: str = "password", profile: dict[str, Any] | None = None
    ) -> str:
        """Have a login of a locked user wait. `by`: how it came so far, for the audit log; `profile`: what the provider
        of single sign-on said, which counts only with the code. Returns its secret."""

    def finish(self, db: Database, vault: Vault, waiting: str, code: str, act: Callable[[Session, UserRow], T]) -> T:
        """Act for the user of a login that waits for a code. Raises Unauthenticated if it has expired, Invalid for a
        wrong code, and TooMany."""


@dataclass(frozen=True, eq=False)
class Hooks:
    """What services call. A hook that a feature does not need keeps its default, which does nothing."""

    work: tuple[WorkKind[Any], ...] = ()
    """Work that is claimed on request, for which the sweep rings again."""
    sweep: Callable[[Session], object] = lambda session: None
    """Called in each sweep, after the core has forgotten what is old."""
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
    """Files below runs' folders that nothing needs, by the folder that can be removed. Deleted runs have none."""
    second_step: SecondStep | None = None
    """Called for users who have a second factor."""
    accept_profile: Callable[[Session, Settings, UserRow, dict[str, Any]], bool] = lambda *login: False
    """Called with a locked user at the end of a login whose second step waited with a profile. Whether it took what the
    profile says; if no feature does, the login is refused."""
    end_logins: Callable[[Session, int], object] = lambda session, user_id: None
    """Called when the logins of a user that have begun and not finished have to end."""
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
    ended: Callable[[Session, Settings, Sequence[RunRow]], object] = lambda session, settings, runs: None
    """Called when the control node takes note of runs that have ended."""
    told: Callable[[Session, Event, dict[str, Any], datetime | None], object] = lambda session, event, data, at: None
    """Called in a transaction with an event and what is told of it; with the time of one that was not just now."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Hooks, ...]:
    return tuple(module.HOOKS for module in feature.modules("hooks", names))


def hooks() -> tuple[Hooks, ...]:
    """Hooks of the active features."""
    return _of(feature.active())


def all_hooks() -> tuple[Hooks, ...]:
    """Hooks of all features, active or not: for what protects, counts or encrypts rows, which stay while their feature
    is turned off."""
    return _of(feature.every())


def tell(session: Session, event: Event, data: dict[str, Any], *, at: datetime | None = None) -> None:
    """Tell the active features of an event, which was `at` that time if it was not just now."""
    for added in hooks():
        added.told(session, event, data, at)
