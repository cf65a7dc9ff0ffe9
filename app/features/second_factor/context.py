"""What the pages of the second factor show."""

from dataclasses import dataclass

from markupsafe import Markup

from app.domain.errors import FieldError
from app.features.second_factor import service as second_factor
from app.store.tables import UserRow
from app.web.forms.errors import HasErrors


@dataclass(frozen=True)
class CodePage(HasErrors):
    """The form of the second factor, after the password."""

    next: str
    waiting: str
    """The secret of the login that waits."""
    refused: str = ""
    errors: tuple[FieldError, ...] = ()


@dataclass(frozen=True)
class FactorPage(HasErrors):
    """Setting up a second factor: the secret, then the recovery codes."""

    secret: str = ""
    """In base32; empty once it is confirmed."""
    picture: Markup | None = None
    """QR code of the secret's address, as SVG."""
    codes: tuple[str, ...] = ()
    """Recovery codes, shown once."""
    confirming: bool = False
    """Whether a secret waits for its code. It is shown only when it is made."""
    setup_minutes: int = int(second_factor.SETUP.total_seconds() // 60)
    errors: tuple[FieldError, ...] = ()

    @property
    def spelled(self) -> str:
        """The secret in groups of four, to be typed."""
        return " ".join(self.secret[at : at + 4] for at in range(0, len(self.secret), 4))


@dataclass(frozen=True)
class FactorSection:
    """The second factor on a user's account."""

    user: UserRow
    factor_on: bool
    codes_left: int
    """Recovery codes."""


@dataclass(frozen=True)
class FactorButtons:
    """Buttons in the list of users."""

    with_factor: frozenset[int]
    """Ids of the users that have a second factor."""
