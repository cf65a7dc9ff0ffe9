"""What stands around every page: the navigation, and whether a worker is at work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from app.domain.accounts.policy import Identity, Scope
from app.services.workers import WorkerView
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext


@dataclass(frozen=True)
class Place:
    """An entry of the navigation."""

    section: str
    path: str
    name: str


NAV = (
    Place("studies", "/studies", marked("Studies")),
    Place("runs", "/runs", marked("Runs")),
    Place("recipes", "/recipes", marked("Recipes")),
    Place("playground", "/playground", marked("Playground")),
    Place("data", "/data", marked("Data")),
    Place("models", "/models", marked("Models")),
    Place("workers", "/workers", marked("Workers")),
    Place("lab", "/lab", marked("Lab")),
)


GO = {
    "s": NAV[0],
    "r": NAV[1],
    "n": Place("studies", "/studies/new", marked("New study")),
    "e": NAV[2],
    "p": NAV[3],
    "d": NAV[4],
    "m": NAV[5],
    "w": NAV[6],
    "l": NAV[7],
}
"""Places by the key that follows g."""


@dataclass(frozen=True)
class Shell:
    """Frame of a page."""

    worker_state: Literal["idle", "running", "none", "unknown"]
    worker_words: str
    user: str = ""
    """Name or e-mail address of the user; empty without login, and on pages for anonymous visitors."""
    may_run: bool = True
    """The user may submit."""
    is_admin: bool = False
    """The user manages users."""

    def of_user(self, identity: Identity | None) -> "Shell":
        """The frame that a user sees."""
        if identity is None or identity.user_id is None:
            return self
        admin = identity.may(Scope.ADMIN)
        return replace(self, user=identity.name or identity.email, may_run=identity.may(Scope.RUN), is_admin=admin)

    @classmethod
    def of(cls, workers: Sequence[WorkerView]) -> "Shell":
        """From the workers that are there."""
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
