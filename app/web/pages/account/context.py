"""What the pages of accounts show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.accounts.policy import Role, Scope
from app.domain.accounts.users import MIN_PASSWORD_LENGTH
from app.domain.errors import FieldError
from app.services.users import links, sessions, tokens
from app.store.tables import ApiTokenRow, HubTokenRow, LoginSessionRow, UserRow
from app.web.forms.errors import HasErrors
from app.web.site import Part
from app.words.i18n import gettext as _

IDLE_HOURS, LONGEST_DAYS = int(sessions.IDLE.total_seconds() // 3600), sessions.LONGEST.days
LINK_HOURS = int(links.PASSWORD.total_seconds() // 3600)
ROLES = tuple(role.value for role in Role)


@dataclass(frozen=True)
class LoginPage:
    next: str
    """The path that it leads to."""
    email: str = ""
    refused: str = ""
    """Why the last attempt failed."""
    parts: Sequence[Part] = ()
    """What features add, at the place `end`."""


@dataclass(frozen=True)
class PasswordPage(HasErrors):
    """The form behind a link that works once: it creates the first admin, or sets a password."""

    address: str
    """Address of the form."""
    email: str
    """Typed by the first admin; otherwise of the user whose password is set."""
    name: str = ""
    first_admin: bool = False
    errors: tuple[FieldError, ...] = ()
    min_length: int = MIN_PASSWORD_LENGTH


@dataclass(frozen=True)
class NewTokenForm:
    """A token as it is being created."""

    name: str = ""
    scopes: tuple[str, ...] = (Scope.READ.value, Scope.RUN.value)
    days: str = str(tokens.DEFAULT_DAYS)


@dataclass(frozen=True)
class ShownToken:
    """A new token, shown once."""

    name: str
    secret: str


@dataclass(frozen=True)
class AccountPage(HasErrors):
    user: UserRow
    sessions: Sequence[LoginSessionRow]
    current_session: int | None
    tokens: Sequence[ApiTokenRow]
    hub_token: HubTokenRow | None
    """Token of the Hugging Face hub."""
    scopes: Sequence[Scope]
    """Those that the role has."""
    now: datetime
    form: NewTokenForm = NewTokenForm()
    created: ShownToken | None = None
    parts: Sequence[Part] = ()
    """What features add, at the places `top` and `safety`."""
    done: str = ""
    """What was just done."""
    errors: tuple[FieldError, ...] = ()
    min_length: int = MIN_PASSWORD_LENGTH
    idle_hours: int = IDLE_HOURS
    longest_days: int = LONGEST_DAYS

    @property
    def may_run(self) -> bool:
        return Scope.RUN in self.scopes

    def expired(self, token: ApiTokenRow) -> bool:
        return token.expires_at is not None and token.expires_at <= self.now

    @property
    def day_choices(self) -> list[tuple[str, str]]:
        days = [(str(number), _("%(days)s days", days=number)) for number in (7, 30, 90, 365)]
        return [*days, ("", _("No expiry"))]


@dataclass(frozen=True)
class NewUserForm:
    """A user as it is being created."""

    email: str = ""
    name: str = ""
    role: str = Role.MEMBER.value


@dataclass(frozen=True)
class ShownLink:
    """A link that sets a user's password, shown once."""

    email: str
    address: str


@dataclass(frozen=True)
class UsersPage(HasErrors):
    users: Sequence[UserRow]
    own_id: int | None
    parts: Sequence[Part] = ()
    """What features add, at the places `user`, of each user, and `notes`."""
    form: NewUserForm = NewUserForm()
    link: ShownLink | None = None
    refused: str = ""
    errors: tuple[FieldError, ...] = ()
    roles: tuple[str, ...] = ROLES
    link_hours: int = LINK_HOURS
