"""Directories below which data and base models may be registered by path."""

from collections.abc import Sequence
from pathlib import Path

from app.domain.errors import Invalid
from app.domain.messages import _


def below_a_root(location: str, roots: Sequence[Path], setting: str) -> Path:
    """The absolute path, with links resolved. Raises Invalid if it is not below an allowed root."""
    place = Path(location).expanduser().resolve()
    if not any(place.is_relative_to(root.expanduser().resolve()) for root in roots):
        allowed = ", ".join(str(root) for root in roots) or _("none, until %(setting)s is set", setting=setting)
        raise Invalid.field(
            "location",
            _("%(location)r is not below an allowed root", location=location),
            _("Allowed roots: %(allowed)s", allowed=allowed),
        )
    return place
