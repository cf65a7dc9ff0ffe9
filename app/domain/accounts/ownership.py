"""Which users may see and change a study, run, collection, dataset, upload, base model or export. Every such decision
is made here; `app.store.database.ownership` is the same in SQL.

                                    sees    uses, downloads, compares    changes, deletes, transfers
    visible to the team             all     all that may submit          its owner, admins
    private                         owner, admins                        its owner, admins
    without an owner                all     all that may submit          all that may submit

A run has the owner and the visibility of its study, an imported run those of its collection, an export the visibility
of its run. What a study uses is visible to every user who sees the study, so a page never lacks a part. Without login
there is a single user: nothing has an owner, and the team sees everything.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from app.domain.accounts.policy import Identity, Scope
from app.domain.errors import Forbidden
from app.domain.messages import _


class Visibility(StrEnum):
    """Which users see an object, beside its owner and the admins."""

    TEAM = "team"
    PRIVATE = "private"


@dataclass(frozen=True)
class Viewer:
    """The user in whose name a session of the database reads and writes."""

    user_id: int
    sees_all: bool = False
    """An admin, by a session or a token with the scope `admin`."""
    creates: Visibility = Visibility.TEAM
    """The visibility of what this session creates."""

    def creating(self, visibility: Visibility) -> "Viewer":
        """The same user, creating with a visibility."""
        return replace(self, creates=visibility)

    def may_see(self, private_to: int | None) -> bool:
        """Whether an object is visible that is private to a user (None: visible to the team)."""
        return self.sees_all or private_to in (None, self.user_id)

    def may_change(self, owner_id: int | None) -> bool:
        """Whether an object of an owner may be changed, if it is visible."""
        return self.sees_all or owner_id in (None, self.user_id)


def viewer_of(identity: Identity) -> Viewer | None:
    """The viewer of a request; None without login, where one user sees everything."""
    if identity.user_id is None:
        return None
    return Viewer(identity.user_id, sees_all=identity.may(Scope.ADMIN))


def refusal(owner: str) -> Forbidden:
    """Why a user may not change what belongs to another. `owner`: a name."""
    return Forbidden(
        _(
            "This belongs to %(owner)s. Only its owner and admins may change it; you can use and duplicate it.",
            owner=owner,
        )
    )


def hides(used: int | None, by: int | None) -> bool:
    """Whether a user would see what uses an object, but not the object. Both are `private_to`."""
    return used is not None and used != by
