"""What the pages of accounts show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from app.domain.accounts.policy import Role, Scope
from app.domain.accounts.users import MIN_PASSWORD_LENGTH
from app.domain.errors import FieldError
from app.features.quotas.services.quotas import Account
from app.features.second_factor import service as second_factor
from app.services.users import links, sessions, tokens
from app.store.tables import ApiTokenRow, HubTokenRow, LoginSessionRow, UserRow
from app.web.forms.errors import HasErrors
from app.words.i18n import gettext as _

IDLE_HOURS, LONGEST_DAYS = int(sessions.IDLE.total_seconds() // 3600), sessions.LONGEST.days
LINK_HOURS = int(links.PASSWORD.total_seconds() // 3600)
SETUP_MINUTES = int(second_factor.SETUP.total_seconds() // 60)
ROLES = tuple(role.value for role in Role)


@dataclass(frozen=True)
class LoginPage:
    """The form of a login."""

    next: str
    """The path that it leads to."""
    email: str = ""
    refused: str = ""
    """Why the last attempt failed."""
    openid: str = ""
    """Name of the provider of single sign-on; empty where there is none."""


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
    setup_minutes: int = SETUP_MINUTES
    errors: tuple[FieldError, ...] = ()

    @property
    def spelled(self) -> str:
        """The secret in groups of four, to be typed."""
        return " ".join(self.secret[at : at + 4] for at in range(0, len(self.secret), 4))


@dataclass(frozen=True)
class PasswordPage(HasErrors):
    """The form behind a link that works once: it creates the first admin, or sets a password."""

    address: str
    """Of the form."""
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
    """A user's account."""

    user: UserRow
    sessions: Sequence[LoginSessionRow]
    current_session: int | None
    quota: Account
    """Limits and usage."""
    tokens: Sequence[ApiTokenRow]
    hub_token: HubTokenRow | None
    """Of the Hugging Face hub."""
    scopes: Sequence[Scope]
    """Those that the role has."""
    now: datetime
    form: NewTokenForm = NewTokenForm()
    created: ShownToken | None = None
    factor_on: bool = False
    codes_left: int = 0
    """Recovery codes of the second factor."""
    done: str = ""
    """What was just done."""
    errors: tuple[FieldError, ...] = ()
    min_length: int = MIN_PASSWORD_LENGTH
    idle_hours: int = IDLE_HOURS
    longest_days: int = LONGEST_DAYS

    @property
    def may_run(self) -> bool:
        """The role starts runs."""
        return Scope.RUN in self.scopes

    def expired(self, token: ApiTokenRow) -> bool:
        """Whether a token no longer works."""
        return token.expires_at is not None and token.expires_at <= self.now

    @property
    def day_choices(self) -> list[tuple[str, str]]:
        """How long a token may last."""
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
    """Every user, for admins."""

    users: Sequence[UserRow]
    own_id: int | None
    with_factor: frozenset[int] = frozenset()
    """Ids of the users that have a second factor."""
    with_identity: frozenset[int] = frozenset()
    """Ids of the users that have an identity at a provider of single sign-on."""
    form: NewUserForm = NewUserForm()
    link: ShownLink | None = None
    refused: str = ""
    """Why a change was refused."""
    errors: tuple[FieldError, ...] = ()
    roles: tuple[str, ...] = ROLES
    link_hours: int = LINK_HOURS
