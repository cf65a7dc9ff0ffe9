"""The owner of a row, and who sees it."""

from pathlib import PurePath
from typing import ClassVar

from sqlalchemy import String, event
from sqlalchemy.orm import Mapped, QueryContext, Session, mapped_column, object_session

from app.domain.accounts.ownership import Viewer, Visibility
from app.store.database.seen import OWNED, Seen

VIEWER = "viewer"
"""The session's viewer: a key in `Session.info`."""


class Owned:
    """A row with an owner and a visibility (`app.domain.accounts.ownership`). There are no foreign keys, since users
    are never deleted."""

    seen: ClassVar[Seen] = OWNED
    owner_id: Mapped[int | None] = mapped_column(default=None, index=True)
    """A user; None where there is no login."""
    private_to: Mapped[int | None] = mapped_column(default=None)
    """The owner, if only the owner sees it; None: the team does. One column, so that one comparison filters."""

    @property
    def visibility(self) -> Visibility:
        """Who sees it beside its owner and the admins."""
        return Visibility.TEAM if self.private_to is None else Visibility.PRIVATE

    def give(self, owner_id: int | None, visibility: Visibility) -> None:
        """Change the owner and the visibility. What has no owner is visible to the team."""
        self.owner_id = owner_id
        self.private_to = owner_id if visibility is Visibility.PRIVATE else None


class Transferred:
    """A row that goes to another user together with all that its user owns."""

    holder: ClassVar[str]
    """The column that names its user."""


class Asked(Transferred):
    """A request, with the user who asked for it. Who sees it is decided elsewhere."""

    holder: ClassVar[str] = "owner_id"
    owner_id: Mapped[int | None] = mapped_column(default=None)
    """None where there is no login."""


class Located(Owned):
    """What comes from the hub or from a directory on the server, whose path only admins see."""

    source: Mapped[str] = mapped_column(String(20))
    location: Mapped[str] = mapped_column(String(500), default="")

    _whole = False
    """Whether the session that loaded it was an admin's: pages are rendered after the session has ended."""

    @property
    def shown_location(self) -> str:
        """The location as the viewer of its session sees it: of a directory the name alone, unless an admin looks."""
        session = object_session(self)
        whole = self._whole if session is None else sees_all(session)
        return self.location if whole or self.source != "directory" else PurePath(self.location).name


@event.listens_for(Located, "load", propagate=True)
def _remember(row: Located, context: QueryContext) -> None:
    row._whole = sees_all(context.session)


def sees_all(session: Session) -> bool:
    """Whether a session is an admin's, or one without a viewer."""
    viewer: Viewer | None = session.info.get(VIEWER)
    return viewer is None or viewer.sees_all


def inherited(parent: Owned) -> dict[str, int | None]:
    """The columns of what belongs to another row."""
    return {"owner_id": parent.owner_id, "private_to": parent.private_to}
