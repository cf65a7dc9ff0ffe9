"""Directories below which data and base models may be registered by path."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.messages import _
from app.store.database.owned import sees_all


def shown_roots(session: Session, roots: Sequence[Path]) -> tuple[str, ...] | None:
    """The allowed roots for an admin; None for other users, where there are any."""
    return tuple(map(str, roots)) if sees_all(session) or not roots else None


def below_a_root(session: Session, location: str, roots: Sequence[Path], setting: str) -> Path:
    """The absolute path, with links resolved. Raises Invalid if it is not below an allowed root; only admins read which
    are."""
    place = Path(location).expanduser().resolve()
    if not any(place.is_relative_to(root.expanduser().resolve()) for root in roots):
        shown = shown_roots(session, roots)
        if shown is None:
            remedy = _("Ask an admin for the path of an allowed directory")
        else:
            allowed = ", ".join(shown) or _("none, until %(setting)s is set", setting=setting)
            remedy = _("Allowed roots: %(allowed)s", allowed=allowed)
        raise Invalid.field("location", _("%(location)r is not below an allowed root", location=location), remedy)
    return place
