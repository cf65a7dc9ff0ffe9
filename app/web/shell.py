"""What stands around every page: the navigation, and whether a worker is at work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from app.domain.accounts.policy import Identity, Scope
from app.services.workers.workers import WorkerView
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext


@dataclass(frozen=True)
class Place:
    section: str
    path: str
    name: str
    key: str
    """Pressed after g, it leads there."""
    order: int


PLACES = (
    Place("studies", "/studies", marked("Studies"), key="s", order=10),
    Place("runs", "/runs", marked("Runs"), key="r", order=20),
    Place("data", "/data", marked("Data"), key="d", order=50),
    Place("models", "/models", marked("Models"), key="m", order=60),
    Place("workers", "/workers", marked("Workers"), key="w", order=70),
)
"""Entries of the core."""
NEW_STUDY = Place("studies", "/studies/new", marked("New study"), key="n", order=25)


@dataclass(frozen=True)
class Shell:
    worker_state: Literal["idle", "running", "none", "unknown"]
    worker_words: str
    user: str = ""
    """Name or e-mail address of the user; empty without login, and on pages for anonymous visitors."""
    may_run: bool = True
    is_admin: bool = False

    def of_user(self, identity: Identity | None) -> "Shell":
        if identity is None or identity.user_id is None:
            return self
        admin = identity.may(Scope.ADMIN)
        return replace(self, user=identity.name or identity.email, may_run=identity.may(Scope.RUN), is_admin=admin)

    @classmethod
    def of(cls, workers: Sequence[WorkerView]) -> "Shell":
        alive = [w for w in workers if w.state != "lost"]
        busy = sum(w.state in ("running", "draining") for w in alive)
        if not alive:
            return cls("none", _("no worker"))
        number = ngettext("%(num)s worker", "%(num)s workers", len(alive))
        if busy == 0:
            return cls("idle", _("%(workers)s, idle", workers=number))
        if busy == len(alive):
            return cls("running", _("%(workers)s, running", workers=number))
        return cls("running", _("%(workers)s, %(busy)s running", workers=number, busy=busy))

    @classmethod
    def unknown(cls) -> "Shell":
        """The shell of a page that does not query the workers."""
        return cls("unknown", "")
