"""The owner of a row, and who sees it."""

from sqlalchemy.orm import Mapped, mapped_column

from app.domain.accounts.ownership import Visibility


class Owned:
    """A row with an owner and a visibility (`app.domain.accounts.ownership`). There are no foreign keys, since users
    are never deleted."""

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


def inherited(parent: Owned) -> dict[str, int | None]:
    """The columns of what belongs to another row."""
    return {"owner_id": parent.owner_id, "private_to": parent.private_to}
